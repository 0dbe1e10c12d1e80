package devicetest

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// referenceWeights are a float32 copy of a matrix.
type referenceWeights struct {
	source  device.Buffer
	values  []float32
	out, in int
	use     device.Use
}

// Out implements [device.Weights].
func (w *referenceWeights) Out() int { return w.out }

// In implements [device.Weights].
func (w *referenceWeights) In() int { return w.in }

// NewWeights implements [device.Products].
func (r *Reference) NewWeights(w device.Buffer, out, in int, use device.Use) (device.Weights, error) {
	if use != device.Forward && use != device.ForwardBack {
		panic(fmt.Sprintf("device: NewWeights: no use %d", use))
	}
	if out <= 0 || in <= 0 {
		panic(fmt.Sprintf("device: NewWeights: a matrix of %d × %d", out, in))
	}
	needLength("NewWeights", "w", w, out*in, device.F32, device.BF16, device.F16)
	made := &referenceWeights{source: w, out: out, in: in, use: use}
	r.Refresh(made)
	r.hold(4 * int64(out) * int64(in))
	return made, nil
}

// Refresh implements [device.Products].
func (*Reference) Refresh(w device.Weights) {
	made := w.(*referenceWeights)
	made.values = append(made.values[:0], floats(made.source)...)
}

// FreeWeights implements [device.Products].
func (r *Reference) FreeWeights(w device.Weights) {
	if made, ok := w.(*referenceWeights); ok {
		r.hold(-4 * int64(made.out) * int64(made.in))
	}
}

// Product implements [device.Products].
func (*Reference) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	m := w.(*referenceWeights)
	multiply("Product", y, x, rows, m.values, m.out, m.in, add)
}

// ProductBack implements [device.Products].
func (*Reference) ProductBack(dx, dy device.Rows, rows int, w device.Weights, add bool) {
	m := w.(*referenceWeights)
	if m.use != device.ForwardBack {
		panic("device: ProductBack: the weights were made for Product alone")
	}
	multiply("ProductBack", dx, dy, rows, transpose(m.values, m.out, m.in), m.in, m.out, add)
}

func multiply(operation string, y, x device.Rows, rows int, w []float32, out, in int, add bool) {
	needRows(operation, "result", y, rows, out, activation()...)
	needRows(operation, "operand", x, rows, in, activation()...)
	before := make([]float32, rows*out)
	if add {
		before = narrow(load(y, rows, out))
	}
	store(y, rows, out, wide(chain(before, narrow(load(x, rows, in)), w, rows, out, in, fused)))
}

// ProductGrad implements [device.Products].
func (*Reference) ProductGrad(dw device.Buffer, dy, x device.Rows, rows, out, in int) {
	needRows("ProductGrad", "dy", dy, rows, out, activation()...)
	needRows("ProductGrad", "x", x, rows, in, activation()...)
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
