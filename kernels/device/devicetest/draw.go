package devicetest

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// numbers draws n numbers of the check's type, none of them zero: normal, of the given size, every
// eighth ten times smaller so that terms of different size meet.
func (c *check) numbers(n int, size float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		for out[i] == 0 {
			v := c.random.NormFloat64() * size
			if c.random.IntN(8) == 0 {
				v /= 10
			}
			out[i] = float32(round(c.dtype, v))
		}
	}
	return out
}

// weights draws n float32 parameters.
func (c *check) weights(n int, size float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		for out[i] == 0 {
			out[i] = float32(c.random.NormFloat64() * size)
		}
	}
	return out
}

// scales draws n weights of a norm, around 1 and of both signs.
func (c *check) scales(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(0.5 + c.random.Float64())
		if c.random.IntN(4) == 0 {
			out[i] = -out[i]
		}
	}
	return out
}

func (c *check) integers(n, below int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(c.random.IntN(below))
	}
	return out
}

// nasty are sizes at and around those of vectors, tiles and pages, and primes.
var nasty = [...]int{1, 2, 3, 5, 7, 8, 13, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97, 127, 128, 129}

// size draws one of them up to a limit.
func (c *check) size(limit int) int {
	for {
		if n := nasty[c.random.IntN(len(nasty))]; n <= limit {
			return n
		}
	}
}

// pairs are the shapes of operations on rows × width: a fixed list first, then random ones.
func (c *check) pairs() [][2]int {
	shapes := [][2]int{{1, 1}, {1, 33}, {3, 2}, {33, 31}, {65, 64}, {2, 127}, {0, 16}}
	random := 14
	if c.options.Quick {
		random = 3
	}
	for range random {
		shapes = append(shapes, [2]int{c.size(129), c.size(129)})
	}
	if !c.options.Quick {
		shapes = append(shapes, [2]int{5, 1031}, [2]int{521, 40})
	}
	return shapes
}

// sequences draws offsets of packed sequences of odd lengths, some of them empty.
func (c *check) sequences(n, limit int) []int32 {
	offsets := []int32{0}
	for i := range n {
		length := c.random.IntN(limit + 1)
		switch {
		case i == 1:
			length = 0
		case i == 2:
			length = 1
		}
		offsets = append(offsets, offsets[i]+int32(length))
	}
	return offsets
}

// round is a number in a type, to nearest even, computed by scaling alone.
func round(t device.DType, v float64) float64 {
	switch t {
	case device.F32:
		return float64(float32(v))
	case device.BF16:
		return roundTo(v, 8, -126, 127)
	case device.F16:
		return roundTo(v, 11, -14, 15)
	}
	return v
}

// roundTo rounds to so many significant binary digits, fewer below the least normal exponent, and to
// infinity beyond the largest.
func roundTo(v float64, digits, least, largest int) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	_, exponent := math.Frexp(v) // v = f·2^exponent, f in [½, 1)
	unit := max(exponent-1, least) - (digits - 1)
	r := math.Ldexp(math.RoundToEven(math.Ldexp(v, -unit)), unit)
	if math.Abs(r) >= math.Ldexp(1, largest+1) {
		return math.Inf(int(math.Copysign(1, v)))
	}
	return r
}

func wide(values []float32) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = float64(v)
	}
	return out
}

func narrow(values []float64) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v)
	}
	return out
}

// part is rows [lo, hi) of a dense matrix.
func part[E any](values []E, lo, hi, width int) []E { return values[lo*width : hi*width] }
