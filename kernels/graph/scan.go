package graph

import (
	G "gorgonia.org/gorgonia"
)

// scan runs back through each sequence: y_t = x_t + a_t·y_{t+1}, with y = 0 behind the last token. No gradient flows
// through a. Its transpose, and so its pullback, runs forward.
func (b *builder) scan(x, a *G.Node) *G.Node {
	return b.whole(whole{
		name: "scan", to: tokens, float32: scanBack[float32], float64: scanBack[float64],
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes {
			return G.Nodes{b.scanForward(grad, in[1]), nil}
		},
	}, x, b.stop(a))
}

// scanForward is y_t = x_t + a_{t−1}·y_{t−1}, with y = 0 before the first token.
func (b *builder) scanForward(x, a *G.Node) *G.Node {
	return b.whole(whole{
		name: "scan forward", to: tokens, float32: scanOn[float32], float64: scanOn[float64],
		pullback: func(b *builder, in G.Nodes, out, grad *G.Node) G.Nodes {
			return G.Nodes{b.scan(grad, in[1]), nil}
		},
	}, x, b.stop(a))
}

func scanBack[T element](l *layout, out []T, in [][]T) {
	x, a := in[0], in[1]
	for i := 0; i+1 < len(l.sequences); i++ {
		y := 0.0
		for t := l.sequences[i+1] - 1; t >= l.sequences[i]; t-- {
			y = float64(x[t]) + float64(a[t])*y
			out[t] = T(y)
		}
	}
}

func scanOn[T element](l *layout, out []T, in [][]T) {
	x, a := in[0], in[1]
	for i := 0; i+1 < len(l.sequences); i++ {
		y := 0.0
		for t := l.sequences[i]; t < l.sequences[i+1]; t++ {
			if t > l.sequences[i] {
				y *= float64(a[t-1])
			}
			y += float64(x[t])
			out[t] = T(y)
		}
	}
}
