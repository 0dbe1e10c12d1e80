package devicetest

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// RMSNorm implements [device.Layers].
func (*Reference) RMSNorm(y, x device.Rows, weight, roots device.Buffer, rows int, eps float32) {
	needType("RMSNorm", "weight", weight, device.F32)
	width := weight.Len()
	needRows("RMSNorm", "y", y, rows, width, activation()...)
	needRows("RMSNorm", "x", x, rows, width, y.Data.DType())
	needRoom("RMSNorm", "roots", roots, rows, device.F32)
	_, r := rmsNorm(load(x, rows, width), wide(floats(weight)), rows, width, float64(eps))
	store(list(roots), 1, rows, r.value)
	scaleRows(y, x, weight, roots, rows)
}

// scaleRows writes the norm's output, given its roots, to y.
func scaleRows(y, x device.Rows, weight, roots device.Buffer, rows int) {
	width := weight.Len()
	values := load(x, rows, width)
	for i := range values {
		values[i] *= float64(floats(roots)[i/width]) * float64(floats(weight)[i%width])
	}
	store(y, rows, width, values)
}

// RMSNormBack implements [device.Layers].
func (*Reference) RMSNormBack(dx device.Rows, dWeight device.Buffer, dy, x device.Rows, weight, roots device.Buffer, rows int) {
	needType("RMSNormBack", "weight", weight, device.F32)
	width := weight.Len()
	needRows("RMSNormBack", "dx", dx, rows, width, activation()...)
	needRows("RMSNormBack", "dy", dy, rows, width, dx.Data.DType())
	needRows("RMSNormBack", "x", x, rows, width, dx.Data.DType())
	needRoom("RMSNormBack", "roots", roots, rows, device.F32)
	if !dWeight.Absent() {
		needLength("RMSNormBack", "dWeight", dWeight, width, device.F32)
	}
	dX, dW := rmsNormBack(load(dx, rows, width), wide(floats(dWeight)), load(dy, rows, width), load(x, rows, width), wide(floats(weight)), wide(floats(roots)), rows, width)
	store(dx, rows, width, dX.value)
	if !dWeight.Absent() {
		store(list(dWeight), 1, width, dW.value)
	}
	scaleRows(dy, x, weight, roots, rows)
}

// SwiGLU implements [device.Layers].
func (*Reference) SwiGLU(y, gateUp device.Rows, rows, width int) {
	needRows("SwiGLU", "y", y, rows, width, activation()...)
	needRows("SwiGLU", "gateUp", gateUp, rows, 2*width, y.Data.DType())
	store(y, rows, width, swiGLU(load(gateUp, rows, 2*width), rows, width).value)
}

// SwiGLUBack implements [device.Layers].
func (*Reference) SwiGLUBack(dGateUp, dy, gateUp device.Rows, rows, width int) {
	needRows("SwiGLUBack", "dGateUp", dGateUp, rows, 2*width, activation()...)
	needRows("SwiGLUBack", "dy", dy, rows, width, dGateUp.Data.DType())
	needRows("SwiGLUBack", "gateUp", gateUp, rows, 2*width, dGateUp.Data.DType())
	values := load(gateUp, rows, 2*width)
	store(dGateUp, rows, 2*width, swiGLUBack(load(dy, rows, width), values, rows, width).value)
	store(dy, rows, width, swiGLU(values, rows, width).value)
}

// Rotate implements [device.Layers].
func (*Reference) Rotate(y device.Rows, h device.Heads) {
	host := hostHeads("Rotate", h)
	needRows("Rotate", "y", y, h.Rows, h.Count*h.Dim, h.X.Data.DType())
	turned, roots := rotate(host)
	store(y, h.Rows, h.Count*h.Dim, turned.value)
	if host.weight != nil {
		store(list(h.Roots), 1, h.Rows*h.Count, roots.value)
	}
}

// RotateBoth implements [device.Layers].
func (r *Reference) RotateBoth(yq, yk device.Rows, q, k device.Heads) {
	if q.Rows != k.Rows || q.Dim != k.Dim || q.Positions != k.Positions || q.Cos != k.Cos || q.Sin != k.Sin || q.Eps != k.Eps {
		panic("device: RotateBoth: k is not of q's rows")
	}
	for _, h := range []device.Heads{q, k} {
		hostHeads("RotateBoth", h)
	}
	needRows("RotateBoth", "yq", yq, q.Rows, q.Count*q.Dim, q.X.Data.DType())
	needRows("RotateBoth", "yk", yk, k.Rows, k.Count*k.Dim, k.X.Data.DType())
	r.Rotate(yq, q)
	r.Rotate(yk, k)
}

// RotateBack implements [device.Layers].
func (*Reference) RotateBack(dx device.Rows, dWeight device.Buffer, dy device.Rows, h device.Heads) {
	host := hostHeads("RotateBack", h)
	width := h.Count * h.Dim
	needRows("RotateBack", "dx", dx, h.Rows, width, h.X.Data.DType())
	needRows("RotateBack", "dy", dy, h.Rows, width, h.X.Data.DType())
	if !dWeight.Absent() {
		needLength("RotateBack", "dWeight", dWeight, h.Dim, device.F32)
		if host.weight == nil {
			panic("device: RotateBack: dWeight without a norm")
		}
	}
	dX, dW := rotateBack(wide(floats(dWeight)), load(dy, h.Rows, width), wide(floats(h.Roots)), host)
	store(dx, h.Rows, width, dX.value)
	if !dWeight.Absent() {
		store(list(dWeight), 1, h.Dim, dW.value)
	}
}

func hostHeads(operation string, h device.Heads) heads {
	if h.Dim <= 0 || h.Dim%2 != 0 {
		panic(fmt.Sprintf("device: %s: heads of %d elements, which must be even", operation, h.Dim))
	}
	needRows(operation, "X", h.X, h.Rows, h.Count*h.Dim, activation()...)
	needRoom(operation, "Positions", h.Positions, h.Rows, device.I32)
	needType(operation, "Cos", h.Cos, device.F32)
	needLength(operation, "Sin", h.Sin, h.Cos.Len(), device.F32)
	host := heads{x: load(h.X, h.Rows, h.Count*h.Dim), n: h.Rows, count: h.Count, dim: h.Dim, positions: ints(h.Positions),
		cos: wide(floats(h.Cos)), sin: wide(floats(h.Sin)), eps: float64(h.Eps)}
	if !h.Weight.Absent() {
		needLength(operation, "Weight", h.Weight, h.Dim, device.F32)
		needRoom(operation, "Roots", h.Roots, h.Rows*h.Count, device.F32)
		host.weight = wide(floats(h.Weight))
	}
	return host
}

// Gather implements [device.Layers].
func (*Reference) Gather(dst, table device.Rows, index device.Buffer, rows, width int) {
	needRows("Gather", "dst", dst, rows, width, activation()...)
	needRows("Gather", "table", table, min(rows, 1), width, device.F32, dst.Data.DType())
	needRoom("Gather", "index", index, rows, device.I32)
	for i := range rows {
		store(dst.From(i), 1, width, load(table.From(int(ints(index)[i])), 1, width))
	}
}

// ScatterAdd implements [device.Layers].
func (*Reference) ScatterAdd(table device.Rows, index device.Buffer, src device.Rows, rows, width int) {
	needRows("ScatterAdd", "src", src, rows, width, activation()...)
	needRows("ScatterAdd", "table", table, min(rows, 1), width, device.F32, src.Data.DType())
	needRoom("ScatterAdd", "index", index, rows, device.I32)
	for i := range rows {
		row := floats(table.From(int(ints(index)[i])).Data)[:width]
		for j, v := range load(src.From(i), 1, width) {
			row[j] = float32(round(table.Data.DType(), float64(row[j]+float32(v))))
		}
	}
}
