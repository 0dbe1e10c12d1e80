package graph

import (
	G "gorgonia.org/gorgonia"
)

// Moments returns each segment's mean and population variance.
//
//	m = mean x,  mean (x − m)²
func (a *Arithmetic) Moments(values []float64, bounds []int32) (mean, variance []float64, err error) {
	out, err := a.compute("moments", bounds, [][]float64{values}, nil, func(b *builder, in operands) []*G.Node {
		x := in.vector()
		m := b.segmentMean(sequences, x)
		return []*G.Node{m, b.segmentMean(sequences, b.square(b.sub(x, m)))}
	})
	if err != nil {
		return nil, nil, err
	}
	for i := 0; i+1 < len(bounds); i++ {
		mean, variance = append(mean, out[0][bounds[i]]), append(variance, out[1][bounds[i]])
	}
	return mean, variance, nil
}

// Whiten returns (x − mean)/√(var + epsilon) over counted values, var with n−1, and 0 elsewhere. With fewer than two
// counted values they stay as they are. verl, masked_whiten.
func (a *Arithmetic) Whiten(values []float64, counted []bool, epsilon float64) ([]float64, error) {
	x, c, n := make([]float64, len(values)), make([]float64, len(values)), 0.0
	for i, v := range values {
		if counted[i] {
			x[i], c[i] = v, 1
			n++
		}
	}
	if n < 2 {
		return x, nil
	}
	bounds := []int32{0, int32(len(values))}
	out, err := a.compute("whiten", bounds, [][]float64{x, c}, []float64{n, epsilon}, func(b *builder, in operands) []*G.Node {
		x, counted := in.vector(), in.vector()
		n, epsilon := in.number(), in.number()
		centered := b.mul(counted, b.sub(x, b.mul(b.total(x), b.invert(n))))
		variance := b.mul(b.total(b.square(centered)), b.invert(b.shift(n, -1)))
		return []*G.Node{b.mul(centered, b.invert(b.sqrt(b.add(variance, epsilon))))}
	})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}
