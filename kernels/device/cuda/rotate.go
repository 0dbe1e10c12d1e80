package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

type rotateArgs struct {
	y, x, positions, cos, sin, weight, roots, status pointer
	yStride, xStride                                 int64
	count, dim, limit                                int32
	eps                                              float32
}

type rotateBackArgs struct {
	dx, dy, x, positions, cos, sin, weight, roots, status pointer
	dxStride, dyStride, xStride                           int64
	count, dim, limit, _                                  int32
}

type rotateTermsArgs struct {
	terms, dy, x, positions, cos, sin, roots pointer
	dyStride, xStride                        int64
	count, dim, limit, _                     int32
}

type rotateWeightGradArgs struct {
	sum, terms    pointer
	rows, columns int32
}

// headsOnDevice are the operands that Rotate and RotateBack share, in the device's memory.
type headsOnDevice struct {
	x                                  operand
	positions, cos, sin, weight, roots pointer
	rows, count, dim, half             int
	// limit is the number of positions that Cos and Sin have.
	limit int
}

func (d *Device) heads(operation string, h device.Heads) headsOnDevice {
	on := headsOnDevice{x: d.operand(operation, h.X), positions: d.at(operation, h.Positions), cos: d.at(operation, h.Cos), sin: d.at(operation, h.Sin),
		rows: h.Rows, count: h.Count, dim: h.Dim, half: h.Dim / 2, limit: h.Cos.Len() / (h.Dim / 2)}
	if !h.Weight.Absent() {
		on.weight, on.roots = d.at(operation, h.Weight), d.at(operation, h.Roots)
	}
	return on
}

// grid has a block for four heads of each row.
func (on headsOnDevice) grid() grid { return grid{on.rows, blocks(on.count, 4), 1} }

// Rotate writes the heads of h.X, normalised where h has a norm and rotated by position, to y.
func (d *Device) Rotate(y device.Rows, h device.Heads) {
	const name = "Rotate"
	device.CheckRotate(y, h)
	on, into := d.heads(name, h), d.operand(name, y)
	if h.Rows == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	if d.fastRotate(into, on, h.Eps) {
		return
	}
	d.rotate(into, on, h.Eps)
}

// rotate queues the kernel of Rotate that does what the fast one does not.
func (d *Device) rotate(y operand, on headsOnDevice, eps float32) {
	launch(d, "rotate"+suffix(y.t), on.grid(), 128, rotateArgs{y.at, on.x.at, on.positions, on.cos, on.sin, on.weight, on.roots, d.status,
		int64(y.stride), int64(on.x.stride), int32(on.count), int32(on.dim), int32(on.limit), eps})
}

// RotateBoth is Rotate of q to yq and of k to yk.
func (d *Device) RotateBoth(yq, yk device.Rows, q, k device.Heads) {
	const name = "RotateBoth"
	device.CheckRotateBoth(yq, yk, q, k)
	qs, toQ, ks, toK := d.heads(name, q), d.operand(name, yq), d.heads(name, k), d.operand(name, yk)
	if q.Rows == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	if d.fastRotateBoth(toQ, toK, qs, ks, q.Eps) {
		return
	}
	if !d.fastRotate(toQ, qs, q.Eps) {
		d.rotate(toQ, qs, q.Eps)
	}
	if !d.fastRotate(toK, ks, k.Eps) {
		d.rotate(toK, ks, k.Eps)
	}
}

// termsElements is how many terms of the gradient of a norm's weight are in memory at a time, at most, where that is
// more than one row: 8 MiB.
const termsElements = 2 << 20

// RotateBack writes the gradient of h.X to dx and adds that of the norm's weight to dWeight: of each row the sum over
// its heads, row by row.
func (d *Device) RotateBack(dx device.Rows, dWeight device.Buffer, dy device.Rows, h device.Heads) {
	d.rotateBack(dx, dWeight, dy, h, termsElements)
}

// rotateBack is RotateBack with room for so many terms.
func (d *Device) rotateBack(dx device.Rows, dWeight device.Buffer, dy device.Rows, h device.Heads, room int) {
	const name = "RotateBack"
	device.CheckRotateBack(dx, dWeight, dy, h)
	on, into, from, sum := d.heads(name, h), d.operand(name, dx), d.operand(name, dy), d.at(name, dWeight)
	if h.Rows == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	if d.fastRotateBack(into, from, sum, on) {
		return
	}
	if sum != 0 {
		d.rotateWeightGrad(sum, from, on, room)
	}
	launch(d, "rotate_back"+suffix(into.t), on.grid(), 128, rotateBackArgs{dx: into.at, dy: from.at, x: on.x.at, positions: on.positions,
		cos: on.cos, sin: on.sin, weight: on.weight, roots: on.roots, status: d.status,
		dxStride: int64(into.stride), dyStride: int64(from.stride), xStride: int64(on.x.stride), count: int32(on.count), dim: int32(on.dim), limit: int32(on.limit)})
}

// rotateWeightGrad adds the gradient of the norm's weight to sum, as many rows at a time as there is room for their
// terms, one at least. The caller holds mu, by enter.
func (d *Device) rotateWeightGrad(sum pointer, dy operand, on headsOnDevice, room int) {
	each := min(on.rows, max(1, room/on.dim))
	terms, err := d.reserve(device.ForWorkspace, int64(each)*int64(on.dim)*4)
	if err != nil {
		d.fail("RotateBack", err)
		return
	}
	defer d.give(terms)
	for lo := 0; lo < on.rows; lo += each {
		rows, from, in := min(each, on.rows-lo), dy.from(lo), on.x.from(lo)
		launch(d, "rotate_terms"+suffix(dy.t), grid{rows, blocks(on.half, 64), 1}, 64, rotateTermsArgs{terms: terms.address, dy: from.at, x: in.at,
			positions: on.positions + pointer(4*lo), cos: on.cos, sin: on.sin, roots: on.roots + pointer(4*lo*on.count),
			dyStride: int64(from.stride), xStride: int64(in.stride), count: int32(on.count), dim: int32(on.dim), limit: int32(on.limit)})
		launch(d, "rotate_weight_grad", line(blocks(on.dim, sumColumns)), sumThreads, rotateWeightGradArgs{sum, terms.address, int32(rows), int32(on.dim)})
	}
}
