package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

type rmsNormArgs struct {
	y, x, weight, roots pointer
	yStride, xStride    int64
	width               int32
	eps                 float32
}

// RMSNorm normalises each row of x into y.
func (d *Device) RMSNorm(y, x device.Rows, weight, roots device.Buffer, rows int, eps float32) {
	const name = "RMSNorm"
	device.CheckRMSNorm(y, x, weight, roots, rows)
	into, from, scale, inverse := d.operand(name, y), d.operand(name, x), d.at(name, weight), d.at(name, roots)
	if rows == 0 || weight.Len() == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	if d.fastNorm(into, from, scale, inverse, rows, weight.Len(), eps) {
		return
	}
	launch(d, "rms_norm"+suffix(into.t), line(rows), 128,
		rmsNormArgs{into.at, from.at, scale, inverse, int64(into.stride), int64(from.stride), int32(weight.Len()), eps})
}

type rmsNormBackArgs struct {
	dx, dy, x, weight, roots    pointer
	dxStride, dyStride, xStride int64
	width, _                    int32
}

type normWeightGradArgs struct {
	sum, dy, x, roots pointer
	dyStride, xStride int64
	rows, columns     int32
}

// RMSNormBack adds the gradients of RMSNorm to dx and dWeight, and writes the norm's output over dy.
func (d *Device) RMSNormBack(dx device.Rows, dWeight device.Buffer, dy, x device.Rows, weight, roots device.Buffer, rows int) {
	const name = "RMSNormBack"
	device.CheckRMSNormBack(dx, dWeight, dy, x, weight, roots, rows)
	into, from, in := d.operand(name, dx), d.operand(name, dy), d.operand(name, x)
	sum, scale, inverse, width := d.at(name, dWeight), d.at(name, weight), d.at(name, roots), weight.Len()
	if rows == 0 || width == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	if d.fastNormBack(into, from, in, sum, scale, inverse, rows, width) {
		return
	}
	if sum != 0 {
		launch(d, "norm_weight_grad"+suffix(in.t), line(blocks(width, sumColumns)), sumThreads,
			normWeightGradArgs{sum, from.at, in.at, inverse, int64(from.stride), int64(in.stride), int32(rows), int32(width)})
	}
	launch(d, "rms_norm_back"+suffix(in.t), line(rows), 128, rmsNormBackArgs{dx: into.at, dy: from.at, x: in.at, weight: scale, roots: inverse,
		dxStride: int64(into.stride), dyStride: int64(from.stride), xStride: int64(in.stride), width: int32(width)})
}

// A block of the kernels of column_sums.h has so many columns and threads.
const sumColumns, sumThreads = 32, 288

type swigluArgs struct {
	y, gateUp             pointer
	yStride, gateUpStride int64
	width, _              int32
}

// swigluColumns is how many columns of a row a block of SwiGLU has.
const swigluColumns = 512

// SwiGLU computes y = silu(gate) ⊙ up.
func (d *Device) SwiGLU(y, gateUp device.Rows, rows, width int) {
	const name = "SwiGLU"
	device.CheckSwiGLU(y, gateUp, rows, width)
	into, in := d.operand(name, y), d.operand(name, gateUp)
	if rows == 0 || width == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	args := swigluArgs{y: into.at, gateUp: in.at, yStride: int64(into.stride), gateUpStride: int64(in.stride), width: int32(width)}
	if d.inEights(width, nil, into, in) {
		launch(d, "fast_swiglu", eightsGrid(rows, width), 128, args)
		return
	}
	launch(d, "swiglu"+suffix(in.t), grid{rows, blocks(width, swigluColumns), 1}, 128, args)
}

type swigluBackArgs struct {
	dGateUp, dy, gateUp                   pointer
	dGateUpStride, dyStride, gateUpStride int64
	width, _                              int32
}

// SwiGLUBack writes the gradient of gateUp, and SwiGLU's output over dy.
func (d *Device) SwiGLUBack(dGateUp, dy, gateUp device.Rows, rows, width int) {
	const name = "SwiGLUBack"
	device.CheckSwiGLUBack(dGateUp, dy, gateUp, rows, width)
	into, from, in := d.operand(name, dGateUp), d.operand(name, dy), d.operand(name, gateUp)
	if rows == 0 || width == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	args := swigluBackArgs{dGateUp: into.at, dy: from.at, gateUp: in.at,
		dGateUpStride: int64(into.stride), dyStride: int64(from.stride), gateUpStride: int64(in.stride), width: int32(width)}
	if d.inEights(width, nil, into, from, in) {
		launch(d, "fast_swiglu_back", eightsGrid(rows, width), 128, args)
		return
	}
	launch(d, "swiglu_back"+suffix(in.t), grid{rows, blocks(width, swigluColumns), 1}, 128, args)
}
