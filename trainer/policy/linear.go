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

// newLinear makes the forms of a layer's matrices. On an error nothing is left behind.
func newLinear(dev device.Device, t linearTensors, s stack, f form, use device.Use) (linear, error) {
	lora := f.lora
	l := linear{out: s.out(), in: s.in, bias: t.bias, rank: lora.Rank}
	var err error
	if l.form, err = dev.NewWeights(t.matrix, f.compute, l.out, l.in, use); err != nil {
		return l, err
	}
	column, next := 0, 0
	for _, part := range s.parts {
		if lora.targets(part.name) {
			one := adapter{column: column, out: part.out, in: s.in}
			pair := t.adapters[next]
			next++
			one.a, err = dev.NewWeights(pair.a, f.compute, lora.Rank, s.in, use)
			if err == nil {
				one.b, err = dev.NewWeights(pair.b, f.compute, part.out, lora.Rank, use)
			}
			l.adapters = append(l.adapters, one)
			l.scale = lora.scale()
		}
		column += part.out
	}
	if err != nil {
		l.free(dev)
		return linear{}, err
	}
	return l, nil
}

func (l *linear) free(dev device.Device) {
	for _, w := range l.weights() {
		dev.FreeWeights(w)
	}
	*l = linear{}
}

// weights lists the forms.
func (l *linear) weights() []device.Weights {
	all := []device.Weights{l.form}
	for _, a := range l.adapters {
		all = append(all, a.a, a.b)
	}
	return all
}

// apply computes y = x·Wᵀ + bias + adapters, or adds it to y. low holds rows × rank numbers.
func (l *linear) apply(dev device.Device, y, x device.Rows, rows int, low device.Buffer, add bool) {
	dev.Product(y, x, rows, l.form, add)
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

// applyBack writes the gradient of x to dx and adds those of the parameters that are trained to g. Without
// adapters dx may be x itself.
func (l *linear) applyBack(dev device.Device, dx, dy, x device.Rows, rows int, low device.Buffer, g *linearTensors) {
	if !g.matrix.Absent() {
		dev.ProductGrad(g.matrix, dy, x, rows, l.out, l.in)
	}
	if !g.bias.Absent() {
		dev.BiasGrad(g.bias, dy, rows)
	}
	dev.ProductBack(dx, dy, rows, l.form, false)
	for i := range l.adapters {
		a, pair := &l.adapters[i], &g.adapters[i]
		narrowed, own := device.Dense(low, l.rank), dy.Columns(a.column)
		l.narrow(dev, a, x, rows, low)
		dev.ProductGrad(pair.b, own, narrowed, rows, a.out, l.rank)
		dev.ProductBack(narrowed, own, rows, a.b, false)
		dev.Scale(low.Slice(0, rows*l.rank), l.scale)
		dev.ProductGrad(pair.a, narrowed, x, rows, l.rank, a.in)
		dev.ProductBack(dx, narrowed, rows, a.a, true)
	}
}
