package devicetest

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// checkNaN puts a NaN into one row. It must show in that row's results, or a network that has broken down
// would go on with numbers that look sound, and in no other row's.
func checkNaN(c *check) {
	const n, width, out, bad = 37, 33, 19, 20
	x, gateUp := c.numbers(n*width, 1), c.numbers(2*n*width, 1)
	w, weight, targets := c.weights(out*width, 0.3), c.scales(width), c.integers(n, out)
	made, matrix, free := c.newWeights(w, out, width, device.Forward)
	c.poisoned("Product", x, width, bad, func(s *scene, x []float32) []float32 {
		xs, y := s.input("x", x, n, width), s.output("y", n, out)
		c.device.Product(y.matrix(), xs.matrix(), n, made, false)
		return y.take()
	}, only(bad))
	c.poisoned("RMSNorm", x, width, bad, func(s *scene, x []float32) []float32 {
		xs, ws, y, roots := s.input("x", x, n, width), s.parameter("weight", weight), s.output("y", n, width), s.statistics("roots", n)
		c.device.RMSNorm(y.matrix(), xs.matrix(), ws.data(), roots.data(), n, 1e-6)
		roots.free = true
		return y.take()
	}, only(bad))
	c.poisoned("SwiGLU", gateUp, 2*width, bad, func(s *scene, gateUp []float32) []float32 {
		in, y := s.input("gateUp", gateUp, n, 2*width), s.output("y", n, width)
		c.device.SwiGLU(y.matrix(), in.matrix(), n, width)
		return y.take()
	}, only(bad))
	for _, name := range []string{"log-probabilities", "entropies"} {
		c.poisoned("Score, "+name, x, width, bad, func(s *scene, x []float32) []float32 {
			t := scored{n: n, hidden: width, vocabulary: out, inverse: 0.8, x: x, targets: targets}
			_, logProbs, entropies := t.lay(s, made, matrix, 0, n)
			logProbs.free, entropies.free = true, true
			if name == "entropies" {
				return entropies.take()
			}
			return logProbs.take()
		}, only(bad))
	}
	free()
	c.poisonedAttention(n, bad)
}

// only says that a row suffers and no other does.
func only(bad int) func(row int) bool { return func(row int) bool { return row == bad } }

// poisonedAttention has two sequences, the second of which begins in front of the bad row: rows behind see
// its key and value, rows before must not notice.
func (c *check) poisonedAttention(n, bad int) {
	a := attention{heads: 4, kvHeads: 2, dim: 8, scale: 0.35, offsets: []int32{0, 9, int32(n)}}
	c.fillAttention(&a, 1)
	behind := func(row int) bool { return row >= bad }
	run := func(put func(a *attention, values []float32)) func(s *scene, values []float32) []float32 {
		return func(s *scene, values []float32) []float32 {
			own := a
			put(&own, values)
			return c.attendOn(s, own)
		}
	}
	c.poisoned("Attend, a query", a.q, a.heads*a.dim, bad, run(func(a *attention, q []float32) { a.q = q }), only(bad))
	c.poisoned("Attend, a key", a.k, a.kvHeads*a.dim, bad, run(func(a *attention, k []float32) { a.k = k }), behind)
	c.poisoned("Attend, a value", a.v, a.kvHeads*a.dim, bad, run(func(a *attention, v []float32) { a.v = v }), behind)
}

// poisoned runs an operation with and without a NaN in the middle of a row. A row that suffers has a NaN in
// its result, all others have the bits that they had.
func (c *check) poisoned(what string, values []float32, width, bad int, run func(s *scene, values []float32) []float32, suffers func(row int) bool) {
	n := len(values) / width
	call := func(values []float32) []float32 {
		s := c.scene(1, "%s", what)
		out := run(s, values)
		s.finish()
		return out
	}
	sound := call(values)
	values = slices.Clone(values)
	values[bad*width+width/2] = poison
	got := call(values)
	each := len(got) / n
	for row := range n {
		result := part(got, row, row+1, each)
		shows := slices.ContainsFunc(result, func(v float32) bool { return v != v })
		switch {
		case suffers(row) && !shows:
			c.failf("%s: row %d does not show the NaN of row %d", what, row, bad)
			return
		case !suffers(row) && !c.equal(fmt.Sprintf("%s: row %d with a NaN in row %d against without", what, row, bad), result, part(sound, row, row+1, each)):
			return
		}
	}
}
