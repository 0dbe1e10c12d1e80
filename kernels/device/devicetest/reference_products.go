package devicetest

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// referenceWeights are a copy of a matrix, rounded to the compute type, or the matrix itself where that is its type.
type referenceWeights struct {
	source  device.Buffer
	dtype   device.DType
	values  []float32
	out, in int
	use     device.Use
}

// Out implements [device.Weights].
func (w *referenceWeights) Out() int { return w.out }

// In implements [device.Weights].
func (w *referenceWeights) In() int { return w.in }

// DType implements [device.Weights].
func (w *referenceWeights) DType() device.DType { return w.dtype }

// bytes is what the copy takes.
func (w *referenceWeights) bytes() int64 {
	if w.source.DType() == device.BF16 {
		return 0
	}
	return int64(w.out) * int64(w.in) * int64(w.dtype.Size())
}

// NewWeights implements [device.Products].
func (r *Reference) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	if use != device.Forward && use != device.ForwardBack {
		panic(fmt.Sprintf("device: NewWeights: no use %d", use))
	}
	if out <= 0 || in <= 0 {
		panic(fmt.Sprintf("device: NewWeights: a matrix of %d × %d", out, in))
	}
	if t == device.BF16 {
		needLength("NewWeights", "w", w, out*in, device.F32, device.BF16)
	} else {
		needLength("NewWeights", "w", w, out*in, device.F32)
	}
	if !slices.Contains(activation(), t) {
		panic(fmt.Sprintf("device: NewWeights: no compute type %s", t))
	}
	made := &referenceWeights{source: w, dtype: t, out: out, in: in, use: use}
	r.Refresh(made)
	r.hold(made.bytes())
	return made, nil
}

// Refresh implements [device.Products].
func (*Reference) Refresh(w device.Weights) {
	made := w.(*referenceWeights)
	if made.source.DType() == device.BF16 {
		made.values = floats(made.source)
		return
	}
	made.values = made.values[:0]
	for _, v := range floats(made.source) {
		made.values = append(made.values, float32(round(made.dtype, float64(v))))
	}
}

// FreeWeights implements [device.Products].
func (r *Reference) FreeWeights(w device.Weights) {
	if made, ok := w.(*referenceWeights); ok {
		r.hold(-made.bytes())
	}
}

// Product implements [device.Products].
func (*Reference) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	m := w.(*referenceWeights)
	multiply("Product", y, x, rows, m, m.values, m.out, m.in, add, device.F32, m.dtype)
}

// ProductOnto implements [device.Products].
func (r *Reference) ProductOnto(y, base, x device.Rows, rows int, w device.Weights) {
	needRows("ProductOnto", "y", y, rows, w.Out(), device.F32, w.DType())
	needRows("ProductOnto", "base", base, rows, w.Out(), y.Data.DType())
	needRows("ProductOnto", "x", x, rows, w.In(), w.DType())
	r.CopyRows(y, base, rows, w.Out())
	r.Product(y, x, rows, w, true)
}

// ProductBack implements [device.Products].
func (*Reference) ProductBack(dx, dy device.Rows, rows int, w device.Weights, add bool) {
	m := w.(*referenceWeights)
	if m.use != device.ForwardBack {
		panic("device: ProductBack: the weights were made for Product alone")
	}
	multiply("ProductBack", dx, dy, rows, m, transpose(m.values, m.out, m.in), m.in, m.out, add, m.dtype)
}

// multiply computes the product with the values w of the weights m, into a result of one of the types.
func multiply(operation string, y, x device.Rows, rows int, m *referenceWeights, w []float32, out, in int, add bool, types ...device.DType) {
	needRows(operation, "result", y, rows, out, types...)
	needRows(operation, "operand", x, rows, in, m.dtype)
	before := make([]float32, rows*out)
	if add {
		before = narrow(load(y, rows, out))
	}
	store(y, rows, out, wide(chain(before, narrow(load(x, rows, in)), w, rows, out, in, fused)))
}

// ProductGrad implements [device.Products].
func (*Reference) ProductGrad(dw device.Buffer, dy, x device.Rows, rows, out, in int) {
	needRows("ProductGrad", "dy", dy, rows, out, activation()...)
	needRows("ProductGrad", "x", x, rows, in, dy.Data.DType())
	needLength("ProductGrad", "dw", dw, out*in, device.F32)
	copy(floats(dw), chainGrad(floats(dw), narrow(load(dy, rows, out)), narrow(load(x, rows, in)), rows, out, in, fused))
}

// AddBias implements [device.Products].
func (*Reference) AddBias(y device.Rows, bias device.Buffer, rows int) {
	needType("AddBias", "bias", bias, device.F32)
	width := bias.Len()
	needRows("AddBias", "y", y, rows, width, activation()...)
	sums := load(y, rows, width)
	for i := range sums {
		sums[i] += float64(floats(bias)[i%width])
	}
	store(y, rows, width, sums)
}

// BiasGrad implements [device.Products].
func (*Reference) BiasGrad(dBias device.Buffer, dy device.Rows, rows int) {
	needType("BiasGrad", "dBias", dBias, device.F32)
	width := dBias.Len()
	needRows("BiasGrad", "dy", dy, rows, width, activation()...)
	for i, v := range load(dy, rows, width) {
		floats(dBias)[i%width] += float32(v)
	}
}
