package devicetest

import "math"

// rmsNorm is y = x·r ⊙ weight and r = 1/√(mean(x²) + eps) of each row.
func rmsNorm(x, weight []float64, n, width int, eps float64) (y, roots estimate) {
	y, roots = newEstimate(n*width, width), newEstimate(n, width)
	for i := range n {
		squares := 0.0
		for _, v := range x[i*width : (i+1)*width] {
			squares += v * v
		}
		r := 1 / math.Sqrt(squares/float64(width)+eps)
		roots.add(i, r)
		for j, w := range weight {
			y.add(i*width+j, x[i*width+j]*r*w)
		}
	}
	return y, roots
}

// rmsNormBack adds to dx and dWeight. With r kept fixed a row's gradient is r·weight⊙dy; through
// r, whose derivative by x is −r³·x/width, it loses x·r³·Σ(dy⊙weight⊙x)/width.
func rmsNormBack(dx, dWeight, dy, x, weight, roots []float64, n, width int) (dX, dW estimate) {
	dX, dW = newEstimate(n*width, width+1), newEstimate(width, n+1)
	for j, v := range dWeight {
		dW.add(j, v)
	}
	for i := range n {
		r := roots[i]
		along, size := 0.0, 0.0
		for j := range width {
			term := dy[i*width+j] * weight[j] * x[i*width+j]
			along += term
			size += math.Abs(term)
			dW.add(j, dy[i*width+j]*x[i*width+j]*r)
		}
		for j := range width {
			at := i*width + j
			dX.add(at, dx[at])
			dX.add(at, r*weight[j]*dy[at])
			factor := x[at] * r * r * r / float64(width)
			dX.value[at] -= factor * along
			dX.magnitude[at] += math.Abs(factor) * size
		}
	}
	return dX, dW
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// swiGLU is silu(gate) ⊙ up, where a row holds gate and then up. The exponential's relative error is that
// of its argument times the argument.
func swiGLU(gateUp []float64, n, width int) estimate {
	e := newEstimate(n*width, 0)
	for i := range n {
		for j := range width {
			gate, up := gateUp[2*i*width+j], gateUp[(2*i+1)*width+j]
			e.value[i*width+j] = gate * sigmoid(gate) * up
			e.magnitude[i*width+j] = math.Abs(gate*sigmoid(gate)*up) * (1 + math.Abs(gate)*sigmoid(-gate))
		}
	}
	return e
}

// swiGLUBack is the gradient of gateUp: silu′(g) = σ(g)·(1 + g·(1−σ(g))). The difference 1−σ may be
// computed as it stands: two roundings of σ are an eighth of what a tolerance allows outside chains.
func swiGLUBack(dy, gateUp []float64, n, width int) estimate {
	e := newEstimate(2*n*width, 0)
	for i := range n {
		for j := range width {
			gate, up := gateUp[2*i*width+j], gateUp[(2*i+1)*width+j]
			d, s, rest := dy[i*width+j], sigmoid(gate), sigmoid(-gate)
			grow := 1 + math.Abs(gate)*rest
			e.value[2*i*width+j] = d * up * s * (1 + gate*rest)
			e.magnitude[2*i*width+j] = math.Abs(d*up) * s * (grow*grow + math.Abs(gate)*s/8)
			e.value[(2*i+1)*width+j] = d * gate * s
			e.magnitude[(2*i+1)*width+j] = math.Abs(d*gate) * s * grow
		}
	}
	return e
}

// heads are the host's copy of device.Heads; weight is nil without a norm.
type heads struct {
	x                []float64
	n, count, dim    int
	positions        []int32
	cos, sin, weight []float64
	eps              float64
}

// rotate is the heads normalised and rotated, and the reciprocal roots of the norms.
func rotate(h heads) (y, roots estimate) {
	x := h.x
	terms, size := 2, exactly(x).magnitude
	if h.weight != nil {
		normed, r := rmsNorm(x, h.weight, h.n*h.count, h.dim, h.eps)
		x, roots, size, terms = normed.value, r, normed.magnitude, h.dim
	}
	y = newEstimate(len(x), terms)
	half := h.dim / 2
	h.pairs(func(a, angle int) {
		b, cos, sin := a+half, h.cos[angle], h.sin[angle]
		y.value[a] = x[a]*cos - x[b]*sin
		y.value[b] = x[b]*cos + x[a]*sin
		y.magnitude[a] = size[a]*math.Abs(cos) + size[b]*math.Abs(sin)
		y.magnitude[b] = size[b]*math.Abs(cos) + size[a]*math.Abs(sin)
	})
	return y, roots
}

// rotateBack is the gradient of h.x, and dWeight with that of the norm's weight. A rotation's
// transpose turns the other way.
func rotateBack(dWeight, dy, roots []float64, h heads) (dX, dW estimate) {
	turned, size := make([]float64, len(dy)), make([]float64, len(dy))
	half := h.dim / 2
	h.pairs(func(a, angle int) {
		b, cos, sin := a+half, h.cos[angle], h.sin[angle]
		turned[a] = dy[a]*cos + dy[b]*sin
		turned[b] = dy[b]*cos - dy[a]*sin
		size[a] = math.Abs(dy[a]*cos) + math.Abs(dy[b]*sin)
		size[b] = math.Abs(dy[b]*cos) + math.Abs(dy[a]*sin)
	})
	if h.weight == nil {
		return estimate{value: turned, magnitude: size, terms: 2}, estimate{}
	}
	rows := h.n * h.count
	dX, dW = rmsNormBack(make([]float64, len(dy)), dWeight, turned, h.x, h.weight, roots, rows, h.dim)
	// The turned gradient may be small where its two terms are not: their roundings count in full.
	sizeX, sizeW := rmsNormBack(make([]float64, len(dy)), nil, size, absolute(h.x), absolute(h.weight), roots, rows, h.dim)
	dX.magnitude = sizeX.magnitude
	for j, v := range sizeW.magnitude {
		dW.magnitude[j] = math.Abs(valueAt(dWeight, j)) + v
	}
	dX.terms, dW.terms = h.dim+1, rows+1
	return dX, dW
}

func valueAt(values []float64, i int) float64 {
	if len(values) == 0 {
		return 0
	}
	return values[i]
}

// pairs calls visit with the index of each pair's first element and of its angle.
func (h heads) pairs(visit func(a, angle int)) {
	for i := range h.n {
		for head := range h.count {
			for j := range h.dim / 2 {
				visit((i*h.count+head)*h.dim+j, int(h.positions[i])*h.dim/2+j)
			}
		}
	}
}

func absolute(values []float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = math.Abs(v)
	}
	return out
}
