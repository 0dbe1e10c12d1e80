package devicetest

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

func checkRMSNorm(c *check) { c.evenly(c.rmsNorm) }

func (c *check) rmsNorm() {
	for i, shape := range c.pairs() {
		n, width := shape[0], shape[1]
		eps := []float32{1e-6, 1e-5, 0.3}[i%3]
		what := fmt.Sprintf("%d rows of %d, eps %g", n, width, eps)
		x, weight := c.numbers(n*width, []float64{1, 30, 1e-3}[i%3]), c.scales(width)
		got := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
			xs, w := s.input("x", part(x, lo, hi, width), hi-lo, width), s.parameter("weight", weight)
			y, roots := s.output("y", hi-lo, width), s.statistics("roots", hi-lo)
			c.device.RMSNorm(y.matrix(), xs.matrix(), w.data(), roots.data(), hi-lo, eps)
			return [][]float32{y.take(), roots.take()}
		})
		y, roots := rmsNorm(wide(x), wide(weight), n, width, float64(eps))
		c.close(what+": y", c.dtype, got[0], y)
		c.close(what+": roots", device.F32, got[1], roots)
	}
}

// normed is the device's own output of RMSNorm of rows whose roots it finds.
func (c *check) normed(x, weight []float32, n, width int, eps float32) (y, roots []float32) {
	s := c.scene(1, "RMSNorm of %d rows of %d", n, width)
	ys, rs := s.output("y", n, width), s.statistics("roots", n)
	c.device.RMSNorm(ys.matrix(), s.input("x", x, n, width).matrix(), s.parameter("weight", weight).data(), rs.data(), n, eps)
	y, roots = ys.take(), rs.take()
	s.finish()
	return y, roots
}

func checkRMSNormBack(c *check) { c.evenly(c.rmsNormBack) }

func (c *check) rmsNormBack() {
	for i, shape := range c.pairs() {
		n, width := shape[0], shape[1]
		what := fmt.Sprintf("%d rows of %d", n, width)
		x, dy, dx := c.numbers(n*width, 1), c.numbers(n*width, 1), c.numbers(n*width, 0.5)
		weight, dWeight := c.scales(width), c.weights(width, 1)
		y, roots := c.normed(x, weight, n, width, 1e-6)
		run := func(s *scene, lo, hi int, frozen bool) (dX, dW, again []float32) {
			xs, dys := s.input("x", part(x, lo, hi, width), hi-lo, width), s.sum("dy", part(dy, lo, hi, width), hi-lo, width)
			w, rs := s.parameter("weight", weight), s.parameter("roots", roots[lo:hi])
			dxs := s.sum("dx", part(dx, lo, hi, width), hi-lo, width)
			if frozen {
				c.device.RMSNormBack(dxs.matrix(), device.Buffer{}, dys.matrix(), xs.matrix(), w.data(), rs.data(), hi-lo)
				return dxs.take(), nil, dys.take()
			}
			sum := s.gradient("dWeight", dWeight)
			c.device.RMSNormBack(dxs.matrix(), sum.data(), dys.matrix(), xs.matrix(), w.data(), rs.data(), hi-lo)
			return dxs.take(), sum.take(), dys.take()
		}
		parts := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
			dX, _, again := run(s, lo, hi, i%2 == 0)
			return [][]float32{dX, again}
		})
		got := parts[0]
		c.alike(what+": the norm's output over dy, against RMSNorm", parts[1], y)
		normed, _ := rmsNorm(wide(x), wide(weight), n, width, 1e-6)
		c.close(what+": the norm's output over dy", c.dtype, parts[1], normed)
		all := c.sums(what, func(s *scene) [][]float32 {
			dX, dW, again := run(s, 0, n, false)
			return [][]float32{dX, dW, again}
		})
		c.alike(what+": the norm's output over dy beside dWeight, against RMSNorm", all[2], y)
		dX, dW := rmsNormBack(wide(dx), wide(dWeight), wide(dy), wide(x), wide(weight), wide(roots), n, width)
		c.close(what+": dx", c.dtype, got, dX)
		c.close(what+": dx beside dWeight", c.dtype, all[0], dX)
		c.close(what+": dWeight", c.dtype, all[1], dW)
	}
}

func checkSwiGLU(c *check) { c.evenly(c.swiGLU) }

func (c *check) swiGLU() {
	for i, shape := range c.pairs() {
		n, width := shape[0], shape[1]
		what := fmt.Sprintf("%d rows of %d", n, width)
		gateUp := c.numbers(2*n*width, []float64{1, 3, 40}[i%3])
		got := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
			in, y := s.input("gateUp", part(gateUp, lo, hi, 2*width), hi-lo, 2*width), s.output("y", hi-lo, width)
			c.device.SwiGLU(y.matrix(), in.matrix(), hi-lo, width)
			return [][]float32{y.take()}
		})[0]
		c.close(what, c.dtype, got, swiGLU(wide(gateUp), n, width))
	}
}

func checkSwiGLUBack(c *check) { c.evenly(c.swiGLUBack) }

func (c *check) swiGLUBack() {
	for i, shape := range c.pairs() {
		n, width := shape[0], shape[1]
		what := fmt.Sprintf("%d rows of %d", n, width)
		gateUp, dy := c.numbers(2*n*width, []float64{1, 3, 40}[i%3]), c.numbers(n*width, 1)
		parts := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
			in, dys := s.input("gateUp", part(gateUp, lo, hi, 2*width), hi-lo, 2*width), s.sum("dy", part(dy, lo, hi, width), hi-lo, width)
			d, y := s.output("dGateUp", hi-lo, 2*width), s.output("y", hi-lo, width)
			c.device.SwiGLU(y.matrix(), in.matrix(), hi-lo, width)
			c.device.SwiGLUBack(d.matrix(), dys.matrix(), in.matrix(), hi-lo, width)
			again := dys.take()
			c.alike(what+": SwiGLU's output over dy, against SwiGLU", again, y.take())
			return [][]float32{d.take(), again}
		})
		got := parts[0]
		c.close(what, c.dtype, got, swiGLUBack(wide(dy), wide(gateUp), n, width))
		c.close(what+": SwiGLU's output over dy", c.dtype, parts[1], swiGLU(wide(gateUp), n, width))
		s := c.scene(uint64(i), "%s, in the place of gateUp", what)
		both, dys := s.sum("gateUp", gateUp, n, 2*width), s.sum("dy", dy, n, width)
		c.device.SwiGLUBack(both.matrix(), dys.matrix(), both.matrix(), n, width)
		inPlace := both.take()
		c.alike(what+", in the place of gateUp", inPlace, got)
		c.close(what+", in the place of gateUp", c.dtype, inPlace, swiGLUBack(wide(dy), wide(gateUp), n, width))
		dys.take()
		s.finish()
	}
}

func checkGather(c *check) {
	for _, shape := range c.pairs() {
		n, width := shape[0], shape[1]
		entries := c.size(65)
		what := fmt.Sprintf("%d rows of %d from %d", n, width, entries)
		table, index := c.weights(entries*width, 1), c.integers(n, entries)
		for _, t := range c.tableTypes() {
			what := fmt.Sprintf("%s of %s", what, t)
			got := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
				from, at := s.lay("table", t, table, entries, width, poison), s.integers("index", index[lo:hi])
				dst := s.output("dst", hi-lo, width)
				c.device.Gather(dst.matrix(), from.matrix(), at.data(), hi-lo, width)
				return [][]float32{dst.take()}
			})[0]
			want := make([]float32, 0, n*width)
			for _, row := range index {
				want = append(want, part(table, int(row), int(row)+1, width)...)
			}
			c.equal(what, got, rounded(c.dtype, want))
		}
	}
}

// tableTypes are what tables may be of beside activations of the tested type.
func (c *check) tableTypes() []device.DType {
	if c.dtype == device.F32 {
		return []device.DType{device.F32}
	}
	return []device.DType{device.F32, c.dtype}
}

func checkScatterAdd(c *check) {
	for _, shape := range c.pairs() {
		n, width := shape[0], shape[1]
		entries := max(1, c.size(65)/4) // fewer than rows, mostly, so that rows meet
		table, src, index := c.numbers(entries*width, 1), c.numbers(n*width, 1), c.integers(n, entries)
		for _, t := range c.tableTypes() {
			c.scatters(fmt.Sprintf("%d rows of %d to %d of %s", n, width, entries, t), t, n, width, entries, table, src, index)
		}
	}
}

// scatters holds ScatterAdd to the oracle on a table of a type.
func (c *check) scatters(what string, t device.DType, n, width, entries int, table, src []float32, index []int32) {
	scatter := func(cuts ...int) func(s *scene) [][]float32 {
		return func(s *scene) [][]float32 {
			to := s.lay("table", t, table, entries, width, guard)
			lo := 0
			for _, hi := range append(cuts, n) {
				from, at := s.input("src", part(src, lo, hi, width), hi-lo, width), s.integers("index", index[lo:hi])
				c.device.ScatterAdd(to.matrix(), at.data(), from.matrix(), hi-lo, width)
				lo = hi
			}
			return [][]float32{to.take()}
		}
	}
	got := c.sums(what, scatter())[0]
	if t != device.F32 { // roundings add up, so the oracle rounds too
		c.equal(what, got, scatterRounded(t, width, table, src, index))
	} else {
		c.close(what, t, got, scatterSum(width, entries, table, src, index))
	}
	if c.options.Exact {
		c.splits(what, n, got, scatter)
	}
}

// scatterSum is the oracle of a float32 table.
func scatterSum(width, entries int, table, src []float32, index []int32) estimate {
	want := newEstimate(entries*width, len(index))
	for i, v := range table {
		want.add(i, float64(v))
	}
	for i, row := range index {
		for j := range width {
			want.add(int(row)*width+j, float64(src[i*width+j]))
		}
	}
	return want
}

// scatterRounded is that of a table which rounds each float32 sum to its type.
func scatterRounded(t device.DType, width int, table, src []float32, index []int32) []float32 {
	want := rounded(t, table)
	for i, row := range index {
		for j := range width {
			at := int(row)*width + j
			want[at] = float32(round(t, float64(want[at]+src[i*width+j])))
		}
	}
	return want
}
