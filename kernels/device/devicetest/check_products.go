package devicetest

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// triples are the shapes (rows, out, in) of products: a fixed list first, then random ones.
func (c *check) triples() [][3]int {
	shapes := [][3]int{{1, 1, 1}, {2, 3, 5}, {1, 127, 33}, {3, 33, 31}, {33, 65, 64}, {17, 31, 1}, {14, 32, 16}, {65, 1, 63}, {0, 8, 8}, {5, 130, 1030}}
	random := 20
	if c.options.Quick {
		random = 3
	}
	for range random {
		shapes = append(shapes, [3]int{c.size(129), c.size(129), c.size(129)})
	}
	if !c.options.Quick {
		shapes = append(shapes, [3]int{67, 301, 2053}, [3]int{1, 1031, 257}, [3]int{263, 40, 130}, [3]int{4, 515, 64})
	}
	return shapes
}

// newWeights makes weights from a matrix that lies inside a larger allocation, and gives both back.
func (c *check) newWeights(w []float32, out, in int, use device.Use) (made device.Weights, matrix device.Buffer, free func()) {
	whole := c.allocate(device.F32, len(w)+5)
	matrix = whole.Slice(3, 3+len(w))
	c.device.Upload(matrix, w)
	made, err := c.device.NewWeights(matrix, c.dtype, out, in, use)
	c.must(err)
	return made, matrix, func() {
		c.equal("the matrix that weights were made from, afterwards", c.download(matrix), w)
		c.device.FreeWeights(made)
		c.device.Free(whole)
	}
}

func checkProduct(c *check) {
	for i, shape := range c.triples() {
		n, out, in := shape[0], shape[1], shape[2]
		w := c.weights(out*in, 0.3)
		use := device.Use(1 + i%2)
		made, _, free := c.newWeights(w, out, in, use)
		multiply := func(y, x device.Rows, rows int, add bool) { c.device.Product(y, x, rows, made, add) }
		c.products("y", c.dtype, n, out, in, w, multiply)
		if c.dtype != device.F32 { // logits and values
			c.products("y in f32", device.F32, n, out, in, rounded(c.dtype, w), multiply)
		}
		free()
	}
	c.refreshes(false)
}

// checkProductOnto wants the bits of CopyRows and a Product that adds.
func checkProductOnto(c *check) {
	for i, shape := range c.triples() {
		n, out, in := shape[0], shape[1], shape[2]
		made, _, free := c.newWeights(c.weights(out*in, 0.3), out, in, device.Forward)
		x, base := c.numbers(n*in, 1), c.numbers(n*out, 1)
		for _, result := range slices.Compact([]device.DType{c.dtype, device.F32}) {
			what := fmt.Sprintf("%v, %d rows, %d to %d", result, n, in, out)
			s := c.scene(uint64(i), "%s", what)
			xs, from := s.input("x", x, n, in), s.lay("base", result, base, n, out, poison)
			y, own, want := s.lay("y", result, nil, n, out, guard), s.lay("y and base", result, base, n, out, guard), s.lay("sum", result, base, n, out, guard)
			c.device.Product(want.matrix(), xs.matrix(), n, made, true)
			c.device.ProductOnto(y.matrix(), from.matrix(), xs.matrix(), n, made)
			c.device.ProductOnto(own.matrix(), own.matrix(), xs.matrix(), n, made)
			sum := want.take()
			c.equal(what+": against CopyRows and Product", y.take(), sum)
			c.equal(what+": onto itself, against Product", own.take(), sum)
			s.finish()
		}
		free()
	}
}

func checkProductBack(c *check) {
	for _, shape := range c.triples() {
		n, out, in := shape[0], shape[1], shape[2]
		w := c.weights(out*in, 0.3)
		made, _, free := c.newWeights(w, out, in, device.ForwardBack)
		c.products("dx", c.dtype, n, in, out, transpose(w, out, in), func(dx, dy device.Rows, rows int, add bool) { c.device.ProductBack(dx, dy, rows, made, add) })
		free()
	}
	c.refreshes(true)
}

// products holds y (+)= x·Wᵀ, with y of the type result, to the oracle and, on an exact device, to the bits of the
// documented chain. Where the result is wider than x it shows that sums are float32: w is what the compute type
// makes of the matrix, and nothing else is rounded to that.
func (c *check) products(name string, result device.DType, n, out, in int, w []float32, multiply func(y, x device.Rows, rows int, add bool)) {
	x, y := c.numbers(n*in, 1), c.numbers(n*out, 1)
	for _, add := range []bool{false, true} {
		what := fmt.Sprintf("%s, %d rows, %d to %d, add %v", name, n, in, out, add)
		got := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
			xs := s.input("x", part(x, lo, hi, in), hi-lo, in)
			var before []float32
			if add {
				before = part(y, lo, hi, out)
			}
			ys := s.lay(name, result, before, hi-lo, out, guard)
			multiply(ys.matrix(), xs.matrix(), hi-lo, add)
			return [][]float32{ys.take()}
		})[0]
		var before []float32
		if add {
			before = y
		}
		c.close(what, result, got, product(widened(before), wide(x), wide(w), n, out, in))
		if c.options.Exact && c.dtype == device.F32 {
			c.chained(what, got, func(step multiplyAdd) []float32 { return chain(before, x, w, n, out, in, step) })
		}
	}
}

// chained wants the bits of a chain of multiply-adds in the documented order. They are fused on most
// hardware and rounded twice elsewhere; a device does one or the other throughout.
func (c *check) chained(what string, got []float32, oracle func(step multiplyAdd) []float32) {
	once, both := oracle(fused), oracle(twice)
	isOnce, isTwice := identical(got, once), identical(got, both)
	switch {
	case isOnce && isTwice:
	case isOnce && c.rounds != roundsTwice:
		c.rounds = roundsOnce
	case isTwice && c.rounds != roundsOnce:
		c.rounds = roundsTwice
	case c.rounds == roundsTwice:
		c.equal(what+": against a chain of multiply-adds rounded twice", got, both)
	default:
		c.equal(what+": against a chain of fused multiply-adds", got, once)
	}
}

func identical(a, b []float32) bool { return slices.EqualFunc(a, b, same) }

func widened(values []float32) []float64 {
	if values == nil {
		return nil
	}
	return wide(values)
}

// refreshes wants a changed matrix to be seen after Refresh and not before, by Product or by ProductBack.
func (c *check) refreshes(back bool) {
	const n, out, in = 3, 17, 33
	w, changed := c.weights(out*in, 0.3), c.weights(out*in, 0.3)
	made, matrix, free := c.newWeights(w, out, in, device.ForwardBack)
	x, dy := c.numbers(n*in, 1), c.numbers(n*out, 1)
	run := func(what string, w []float32) {
		s := c.scene(0, "%s", what)
		xs, ys := s.input("x", x, n, in), s.output("y", n, out)
		want := product(nil, wide(x), wide(w), n, out, in)
		multiply := c.device.Product
		if back {
			xs, ys = s.input("dy", dy, n, out), s.output("dx", n, in)
			want = productBack(nil, wide(dy), wide(w), n, out, in)
			multiply = c.device.ProductBack
		}
		multiply(ys.matrix(), xs.matrix(), n, made, false)
		c.close(what, c.dtype, ys.take(), want)
		s.finish()
	}
	c.device.Upload(matrix, changed)
	run("a matrix changed without Refresh", w)
	c.device.Refresh(made)
	run("a matrix changed and refreshed", changed)
	c.device.Upload(matrix, w)
	free()
}

func checkProductGrad(c *check) {
	for _, shape := range c.triples() {
		n, out, in := shape[0], shape[1], shape[2]
		what := fmt.Sprintf("%d rows, gradient of %d × %d", n, out, in)
		x, dy, dw := c.numbers(n*in, 1), c.numbers(n*out, 1), c.weights(out*in, 1)
		grad := func(cuts ...int) func(s *scene) [][]float32 {
			return func(s *scene) [][]float32 {
				sum := s.gradient("dw", dw)
				lo := 0
				for _, hi := range append(cuts, n) {
					xs, dys := s.input("x", part(x, lo, hi, in), hi-lo, in), s.input("dy", part(dy, lo, hi, out), hi-lo, out)
					c.device.ProductGrad(sum.data(), dys.matrix(), xs.matrix(), hi-lo, out, in)
					lo = hi
				}
				return [][]float32{sum.take()}
			}
		}
		got := c.sums(what, grad())[0]
		c.close(what, device.F32, got, productGrad(wide(dw), wide(dy), wide(x), n, out, in))
		if c.options.Exact {
			c.chained(what, got, func(step multiplyAdd) []float32 { return chainGrad(dw, dy, x, n, out, in, step) })
			c.splits(what, n, got, grad)
		}
	}
}

// splits wants the bits of a sum over rows to be those of the sum over its parts, one after the other.
func (c *check) splits(what string, n int, want []float32, run func(cuts ...int) func(s *scene) [][]float32) {
	for _, cuts := range [][]int{{n / 2}, {n / 3, n - n/4}, {0, min(1, n)}} {
		s := c.scene(uint64(cuts[0]), "%s, cut at %v", what, cuts)
		got := run(cuts...)(s)[0]
		s.finish()
		c.equal(fmt.Sprintf("%s: cut at rows %v, against all rows at once", what, cuts), got, want)
	}
}

func checkAddBias(c *check) {
	for _, shape := range c.pairs() {
		n, width := shape[0], shape[1]
		what := fmt.Sprintf("%d rows of %d", n, width)
		y, bias := c.numbers(n*width, 1), c.weights(width, 1)
		got := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
			ys, b := s.sum("y", part(y, lo, hi, width), hi-lo, width), s.parameter("bias", bias)
			c.device.AddBias(ys.matrix(), b.data(), hi-lo)
			return [][]float32{ys.take()}
		})[0]
		want := newEstimate(n*width, 1)
		for i, v := range y {
			want.add(i, float64(v))
			want.add(i, float64(bias[i%width]))
		}
		c.close(what, c.dtype, got, want)
	}
}

func checkBiasGrad(c *check) {
	for _, shape := range c.pairs() {
		n, width := shape[0], shape[1]
		what := fmt.Sprintf("%d rows of %d", n, width)
		dy, dBias := c.numbers(n*width, 1), c.weights(width, 1)
		grad := func(cuts ...int) func(s *scene) [][]float32 {
			return func(s *scene) [][]float32 {
				sum := s.gradient("dBias", dBias)
				lo := 0
				for _, hi := range append(cuts, n) {
					c.device.BiasGrad(sum.data(), s.input("dy", part(dy, lo, hi, width), hi-lo, width).matrix(), hi-lo)
					lo = hi
				}
				return [][]float32{sum.take()}
			}
		}
		got := c.sums(what, grad())[0]
		c.close(what, device.F32, got, columnSums(wide(dBias), wide(dy), n, width))
		if c.options.Exact {
			c.splits(what, n, got, grad)
		}
	}
}
