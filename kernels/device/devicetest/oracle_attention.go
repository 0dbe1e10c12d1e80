package devicetest

import "math"

// attended are the host's copy of device.Attended.
type attended struct {
	q, k, v        []float64
	offsets        []int32
	heads, kvHeads int
	dim            int
	scale          float64
}

// rows calls visit with each row and the first row of its sequence.
func (a attended) rows(visit func(row, first int)) {
	for s := 1; s < len(a.offsets); s++ {
		for row := a.offsets[s-1]; row < a.offsets[s]; row++ {
			visit(int(row), int(a.offsets[s-1]))
		}
	}
}

func (a attended) total() int { return int(a.offsets[len(a.offsets)-1]) }

// query is where head h of a row begins in q, key where the head that it reads begins in k and v.
func (a attended) query(row, h int) int { return (row*a.heads + h) * a.dim }
func (a attended) key(row, h int) int   { return (row*a.kvHeads + h*a.kvHeads/a.heads) * a.dim }

// shares are the attention of one query head over the rows first … row, and the largest sum of
// absolute terms of its scores, by which their rounding errors and those of the shares grow.
func (a attended) shares(row, first, h int) (p []float64, size float64) {
	q := a.q[a.query(row, h):][:a.dim]
	highest := math.Inf(-1)
	for t := first; t <= row; t++ {
		score, terms := 0.0, 0.0
		for j, v := range a.k[a.key(t, h):][:a.dim] {
			score += q[j] * v
			terms += math.Abs(q[j] * v)
		}
		p = append(p, score*a.scale)
		highest = max(highest, score*a.scale)
		size = max(size, terms*math.Abs(a.scale))
	}
	sum := 0.0
	for i, s := range p {
		p[i] = math.Exp(s - highest)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p, size
}

// terms is what bounds the roundings of a head's scores and of its sums.
func (a attended) terms() int {
	longest := 0
	a.rows(func(row, first int) { longest = max(longest, row-first+1) })
	return max(a.dim, longest)
}

// attend is softmax(scale·q·kᵀ)·v.
func attend(a attended) estimate {
	out := newEstimate(a.total()*a.heads*a.dim, a.terms())
	a.rows(func(row, first int) {
		for h := range a.heads {
			p, size := a.shares(row, first, h)
			for t, share := range p {
				for j, v := range a.v[a.key(first+t, h):][:a.dim] {
					at := a.query(row, h) + j
					out.value[at] += share * v
					out.magnitude[at] += math.Abs(share*v) * (1 + 2*size)
				}
			}
		}
	})
	return out
}

// attendBack is the gradient of q, k and v. With P the shares and dP = dOut·vᵀ, the scores' gradient is
// P ⊙ (dP − Σ P⊙dP).
func attendBack(dOut []float64, a attended) (dq, dk, dv estimate) {
	n, terms := a.total(), a.terms()+2
	dq = newEstimate(n*a.heads*a.dim, terms)
	dk = newEstimate(n*a.kvHeads*a.dim, terms*a.heads/a.kvHeads)
	dv = newEstimate(n*a.kvHeads*a.dim, terms*a.heads/a.kvHeads)
	a.rows(func(row, first int) {
		for h := range a.heads {
			p, size := a.shares(row, first, h)
			q := a.query(row, h)
			dP, sizes := make([]float64, len(p)), make([]float64, len(p))
			mean, meanSize := 0.0, 0.0
			for t, share := range p {
				v := a.key(first+t, h)
				for j := range a.dim {
					term := dOut[q+j] * a.v[v+j]
					dP[t] += term
					sizes[t] += math.Abs(term)
					dv.value[v+j] += share * dOut[q+j]
					dv.magnitude[v+j] += math.Abs(share*dOut[q+j]) * (1 + 2*size)
				}
				mean += share * dP[t]
				meanSize += share * sizes[t]
			}
			for t, share := range p {
				k := a.key(first+t, h)
				d := share * (dP[t] - mean) * a.scale
				m := share * (sizes[t] + meanSize) * math.Abs(a.scale) * (1 + 2*size)
				for j := range a.dim {
					dq.value[q+j] += d * a.k[k+j]
					dq.magnitude[q+j] += m * math.Abs(a.k[k+j])
					dk.value[k+j] += d * a.q[q+j]
					dk.magnitude[k+j] += m * math.Abs(a.q[q+j])
				}
			}
		}
	})
	return dq, dk, dv
}
