package policy

import (
	"github.com/turnwise-rl/turnwise/kernels/device"
)

// adapter is a low-rank correction of some columns of a linear layer's output.
type adapter struct {
	column, out, in int
	a, b            device.Weights
}

// linear is a linear layer as passes use it: y = x·Wᵀ + bias + adapters.
type linear struct {
	out, in  int
	form     device.Weights
	bias     device.Buffer
	adapters []adapter
	// rank and scale are those of the adapters.
	rank  int
	scale float32
}

// newLinear is a layer of a stack without the forms of its matrices.
func newLinear(t linearTensors, s stack, lora LoRA) linear {
	l := linear{out: s.out(), in: s.in, bias: t.bias, rank: lora.Rank}
	column := 0
	for _, part := range s.parts {
		if lora.targets(part.name) {
			l.adapters = append(l.adapters, adapter{column: column, out: part.out, in: s.in})
			l.scale = lora.scale()
		}
		column += part.out
	}
	return l
}

// slots lists the matrices of the layer.
func (l *linear) slots(t linearTensors) []slot {
	all := []slot{{t.matrix, l.out, l.in, &l.form}}
	for i := range l.adapters {
		a, pair := &l.adapters[i], t.adapters[i]
		all = append(all, slot{pair.a, l.rank, a.in, &a.a}, slot{pair.b, a.out, l.rank, &a.b})
	}
	return all
}

// apply computes y = x·Wᵀ + bias + adapters. low holds rows × rank numbers.
func (l *linear) apply(dev device.Device, y, x device.Rows, rows int, low device.Buffer) {
	dev.Product(y, x, rows, l.form, false)
	l.correct(dev, y, x, rows, low)
}

// applyOnto computes y = base + x·Wᵀ + bias + adapters; y may be base.
func (l *linear) applyOnto(dev device.Device, y, base, x device.Rows, rows int, low device.Buffer) {
	dev.ProductOnto(y, base, x, rows, l.form)
	l.correct(dev, y, x, rows, low)
}

// correct adds bias and adapters to y.
func (l *linear) correct(dev device.Device, y, x device.Rows, rows int, low device.Buffer) {
	if !l.bias.Absent() {
		dev.AddBias(y, l.bias, rows)
	}
	for i := range l.adapters {
		a := &l.adapters[i]
		l.narrow(dev, a, x, rows, low)
		dev.Product(y.Columns(a.column), device.Dense(low, l.rank), rows, a.b, true)
	}
}

// narrow computes scale·x·Aᵀ.
func (l *linear) narrow(dev device.Device, a *adapter, x device.Rows, rows int, low device.Buffer) {
	dev.Product(device.Dense(low, l.rank), x, rows, a.a, false)
	dev.Scale(low.Slice(0, rows*l.rank), l.scale)
}

// backInputs writes the gradient of x to dx, and those between the matrices of each adapter, which backWeights reads, to
// dLows: rows × rank numbers each. It does not read x, so that dx may take its place.
func (l *linear) backInputs(dev device.Device, dx, dy device.Rows, rows int, dLows device.Buffer) {
	dev.ProductBack(dx, dy, rows, l.form, false)
	for i := range l.adapters {
		a, dLow := &l.adapters[i], l.between(dLows, i, rows)
		dev.ProductBack(device.Dense(dLow, l.rank), dy.Columns(a.column), rows, a.b, false)
		dev.Scale(dLow, l.scale)
		dev.ProductBack(dx, device.Dense(dLow, l.rank), rows, a.a, true)
	}
}

// between is an adapter's part of what backInputs leaves.
func (l *linear) between(dLows device.Buffer, adapter, rows int) device.Buffer {
	return dLows.Slice(adapter*rows*l.rank, (adapter+1)*rows*l.rank)
}

// backWeights adds the gradients of the parameters that are trained to g, behind backInputs.
func (l *linear) backWeights(dev device.Device, dy, x device.Rows, rows int, low, dLows device.Buffer, g *linearTensors) {
	if !g.matrix.Absent() {
		dev.ProductGrad(g.matrix, dy, x, rows, l.out, l.in)
	}
	if !g.bias.Absent() {
		dev.BiasGrad(g.bias, dy, rows)
	}
	for i := range l.adapters {
		a, pair := &l.adapters[i], &g.adapters[i]
		l.narrow(dev, a, x, rows, low)
		dev.ProductGrad(pair.b, dy.Columns(a.column), device.Dense(low, l.rank), rows, a.out, l.rank)
		dev.ProductGrad(pair.a, device.Dense(l.between(dLows, i, rows), l.rank), x, rows, l.rank, a.in)
	}
}
