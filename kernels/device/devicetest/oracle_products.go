package devicetest

import "math"

// estimate is an oracle's result: the values in float64, the sum of the absolute values of the terms
// that each is the sum of, and how many terms there are.
type estimate struct {
	value, magnitude []float64
	terms            int
}

func newEstimate(n, terms int) estimate {
	return estimate{value: make([]float64, n), magnitude: make([]float64, n), terms: terms}
}

// add adds a term to element i.
func (e estimate) add(i int, term float64) {
	e.value[i] += term
	e.magnitude[i] += math.Abs(term)
}

// exactly is an estimate whose only rounding is that of its values.
func exactly(values []float64) estimate {
	e := newEstimate(len(values), 0)
	for i, v := range values {
		e.add(i, v)
	}
	return e
}

// product is y + x·Wᵀ for x [n × in] and w [out × in]; y nil is zero.
func product(y, x, w []float64, n, out, in int) estimate {
	e := newEstimate(n*out, in+1)
	for i := range n {
		for o := range out {
			if y != nil {
				e.add(i*out+o, y[i*out+o])
			}
			for k, v := range x[i*in : (i+1)*in] {
				e.add(i*out+o, v*w[o*in+k])
			}
		}
	}
	return e
}

// productBack is dx + dy·W.
func productBack(dx, dy, w []float64, n, out, in int) estimate {
	return product(dx, dy, transpose(w, out, in), n, in, out)
}

// productGrad is dw + dyᵀ·x.
func productGrad(dw, dy, x []float64, n, out, in int) estimate {
	e := newEstimate(out*in, n+1)
	for j, v := range dw {
		e.add(j, v)
	}
	for i := range n {
		for o := range out {
			for k := range in {
				e.add(o*in+k, dy[i*out+o]*x[i*in+k])
			}
		}
	}
	return e
}

func transpose[E any](m []E, rows, columns int) []E {
	t := make([]E, len(m))
	for i := range rows {
		for j := range columns {
			t[j*rows+i] = m[i*columns+j]
		}
	}
	return t
}

// columnSums is sums + Σ rows of m.
func columnSums(sums, m []float64, n, width int) estimate {
	e := newEstimate(width, n+1)
	for j, v := range sums {
		e.add(j, v)
	}
	for i := range n {
		for j := range width {
			e.add(j, m[i*width+j])
		}
	}
	return e
}

// multiplyAdd is a·b + c in float32: [fused], or rounded after the product as well.
type multiplyAdd func(a, b, c float32) float32

// twice rounds after the product and after the sum, as a processor without fused multiply-adds does.
func twice(a, b, c float32) float32 { return float32(a*b) + c }

// chain is y + x·Wᵀ, each element one chain of multiply-adds in float32 over the inputs in ascending order.
func chain(y, x, w []float32, n, out, in int, step multiplyAdd) []float32 {
	result := make([]float32, n*out)
	copy(result, y)
	for i := range n {
		for o := range out {
			sum := result[i*out+o]
			for k, v := range x[i*in : (i+1)*in] {
				sum = step(v, w[o*in+k], sum)
			}
			result[i*out+o] = sum
		}
	}
	return result
}

// chainGrad is dw + dyᵀ·x, each element one chain over the rows in ascending order.
func chainGrad(dw, dy, x []float32, n, out, in int, step multiplyAdd) []float32 {
	result := append([]float32(nil), dw...)
	for i := range n {
		for o := range out {
			for k := range in {
				result[o*in+k] = step(dy[i*out+o], x[i*in+k], result[o*in+k])
			}
		}
	}
	return result
}

// fused is a·b + c in float32 with one rounding. The product is exact in float64; the sum is rounded to
// odd there, so that rounding it again to float32 errs no second time (Boldo and Melquiond, IEEE
// Transactions on Computers 57, 2008).
func fused(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	sum := p + q
	t := sum - p
	rest := (p - (sum - t)) + (q - t)
	if bits := math.Float64bits(sum); rest != 0 && bits&1 == 0 && !math.IsInf(sum, 0) && !math.IsNaN(rest) {
		if (rest > 0) == (sum > 0) {
			bits++
		} else {
			bits--
		}
		sum = math.Float64frombits(bits)
	}
	return float32(sum)
}
