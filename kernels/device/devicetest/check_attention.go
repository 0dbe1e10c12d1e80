package devicetest

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// attention is one case of Attend. The sequences are as packed.
type attention struct {
	what           string
	heads, kvHeads int
	dim            int
	scale          float32
	offsets        []int32
	q, k, v        []float32
	fused          bool // q, k and v are columns of one matrix
}

// headShapes are (heads, key heads, width): alone, grouped, as many key heads, odd numbers of heads.
func (c *check) headShapes() [][3]int {
	shapes := [][3]int{{1, 1, 2}, {4, 2, 32}, {3, 1, 6}, {6, 3, 34}, {2, 2, 64}}
	if !c.options.Quick {
		shapes = append(shapes, [3]int{8, 4, 32}, [3]int{4, 1, 128}, [3]int{5, 5, 10}, [3]int{12, 2, 16}, [3]int{7, 1, 96})
	}
	return shapes
}

func (c *check) attentions() []attention {
	var cases []attention
	for i, shape := range c.headShapes() {
		for j, size := range []float64{1, 6} { // 6 makes shares that are nearly 0 or 1
			a := attention{heads: shape[0], kvHeads: shape[1], dim: shape[2], fused: (i+j)%2 == 0}
			a.scale = float32(1 / math.Sqrt(float64(a.dim)))
			a.offsets = c.sequences(4+i%3, 70)
			if i == 1 {
				a.offsets = append(a.offsets, a.offsets[len(a.offsets)-1]+131)
			}
			c.fillAttention(&a, size)
			cases = append(cases, a)
		}
	}
	for _, offsets := range [][]int32{{0}, {0, 0}, {0, 1}, {0, 0, 33, 33}} {
		a := attention{heads: 2, kvHeads: 1, dim: 8, scale: 0.4, offsets: offsets}
		c.fillAttention(&a, 1)
		cases = append(cases, a)
	}
	if c.even && c.dtype == device.BF16 {
		cases = append(cases, c.borders()...)
	}
	return cases
}

// borders are packs for devices that have code of their own for operands that lie evenly, which takes queries and positions by
// tiles: sequences that end at a multiple of 64 or 128 rows, or of 128 queries, one before it and one behind it, with several
// query heads a key head, and heads of widths between those that tiles have. Shares are nearly equal, so that a position too
// many or too few shows.
func (c *check) borders() []attention {
	cases := []attention{{heads: 16, kvHeads: 1, dim: 8, offsets: packed(7, 0, 8, 1, 9, 63, 64, 65)}}
	if !c.options.Quick {
		cases = append(cases, attention{heads: 2, kvHeads: 2, dim: 24, offsets: packed(127, 128, 129, 192, 15)},
			attention{heads: 3, kvHeads: 1, dim: 72, offsets: packed(42, 43, 1, 86, 65), fused: true},
			attention{heads: 10, kvHeads: 2, dim: 120, offsets: packed(25, 26, 51, 52, 97), fused: true})
	}
	for i := range cases {
		cases[i].scale = float32(1 / math.Sqrt(float64(cases[i].dim)))
		c.fillAttention(&cases[i], 0.1)
	}
	return cases
}

// packed are the offsets of sequences of so many rows.
func packed(lengths ...int32) []int32 {
	offsets := []int32{0}
	for i, n := range lengths {
		offsets = append(offsets, offsets[i]+n)
	}
	return offsets
}

func (c *check) fillAttention(a *attention, size float64) {
	n := a.rows()
	a.q, a.k, a.v = c.numbers(n*a.heads*a.dim, size), c.numbers(n*a.kvHeads*a.dim, size), c.numbers(n*a.kvHeads*a.dim, 1)
	a.what = fmt.Sprintf("%d heads over %d of %d, offsets %v, size %g", a.heads, a.kvHeads, a.dim, a.offsets, size)
}

func (a attention) rows() int { return int(a.offsets[len(a.offsets)-1]) }

// slice is rows [lo, hi) as sequences with the given offsets.
func (a attention) slice(lo, hi int, offsets []int32) attention {
	a.q, a.k, a.v = part(a.q, lo, hi, a.heads*a.dim), part(a.k, lo, hi, a.kvHeads*a.dim), part(a.v, lo, hi, a.kvHeads*a.dim)
	a.offsets = offsets
	return a
}

func (a attention) host() attended {
	return attended{q: wide(a.q), k: wide(a.k), v: wide(a.v), offsets: a.offsets, heads: a.heads, kvHeads: a.kvHeads, dim: a.dim, scale: float64(a.scale)}
}

// lay gives the operands to the device, side by side in one matrix or each on its own.
func (a attention) lay(s *scene) device.Attended {
	n, qw, kw := a.rows(), a.heads*a.dim, a.kvHeads*a.dim
	on := device.Attended{Offsets: s.offsets(a.offsets), Heads: a.heads, KVHeads: a.kvHeads, Dim: a.dim, Scale: a.scale}
	if !a.fused {
		on.Q, on.K, on.V = s.input("Q", a.q, n, qw).matrix(), s.input("K", a.k, n, kw).matrix(), s.input("V", a.v, n, kw).matrix()
		return on
	}
	var rows []float32
	for i := range n {
		rows = append(rows, part(a.q, i, i+1, qw)...)
		rows = append(rows, part(a.k, i, i+1, kw)...)
		rows = append(rows, part(a.v, i, i+1, kw)...)
	}
	all := s.input("QKV", rows, n, qw+2*kw).matrix()
	on.Q, on.K, on.V = all, all.Columns(qw), all.Columns(qw+kw)
	return on
}

func (c *check) attendOn(s *scene, a attention) []float32 {
	on, out := a.lay(s), s.output("out", a.rows(), a.heads*a.dim)
	c.device.Attend(out.matrix(), on)
	return out.take()
}

// keep lets Attend leave what AttendBack of the operands reads, and lays it out as an input. Where the device keeps
// nothing, neither does keep.
func (c *check) keep(s *scene, a attention, on *device.Attended) (out []float32) {
	width := c.device.KeptWidth(c.dtype, a.heads)
	if width == 0 {
		return nil
	}
	result, kept := s.output("out of Attend", a.rows(), a.heads*a.dim), s.statistics("Kept of Attend", a.rows()*width)
	on.Kept = kept.data()
	c.device.Attend(result.matrix(), *on)
	on.Kept = s.parameter("Kept", kept.take()).data()
	return result.take()
}

// evenly checks a device whose bits may depend on how operands lie, as it may have other code for such that lie evenly, for
// these too.
func (c *check) evenly(run func()) {
	run()
	if !c.options.Exact {
		c.even = true
		run()
		c.even = false
	}
}

// alike wants the same bits of another way to compute the same, unless the device may have other code for operands that lie
// otherwise.
func (c *check) alike(what string, got, want []float32) {
	if c.options.Exact || c.even {
		c.equal(what, got, want)
	}
}

func checkAttend(c *check) { c.evenly(c.attend) }

func (c *check) attend() {
	for _, a := range c.attentions() {
		got := c.sums(a.what, func(s *scene) [][]float32 { return [][]float32{c.attendOn(s, a)} })[0]
		c.close(a.what, c.dtype, got, attend(a.host()))
		if c.device.KeptWidth(c.dtype, a.heads) > 0 {
			keeping := c.sums(a.what, func(s *scene) [][]float32 {
				on := a.lay(s)
				return [][]float32{c.keep(s, a, &on)}
			})[0]
			c.equal(a.what+": with Kept against without", keeping, got)
		}
		if c.options.Exact {
			c.sequencesAlone(a, func(s *scene, alone attention, _, _ int) [][]float32 { return [][]float32{c.attendOn(s, alone)} }, [][]float32{got})
			c.prefixes(a, got)
		}
	}
}

// sequencesAlone computes each sequence on its own, first one after the other and then inside Each, and wants
// the bits of the packed pass.
func (c *check) sequencesAlone(a attention, run func(s *scene, alone attention, lo, hi int) [][]float32, packed [][]float32) {
	compute := func(i int, how string) {
		lo, hi := int(a.offsets[i]), int(a.offsets[i+1])
		s := c.scene(uint64(i+3), "%s, sequence %d %s", a.what, i, how)
		got := run(s, a.slice(lo, hi, []int32{0, int32(hi - lo)}), lo, hi)
		s.finish()
		for j := range packed {
			width := len(packed[j]) / max(1, a.rows())
			c.equal(fmt.Sprintf("%s: result %d, sequence %d %s, against the packed pass", a.what, j, i, how), got[j], part(packed[j], lo, hi, width))
		}
	}
	for i := range len(a.offsets) - 1 {
		compute(i, "alone")
	}
	c.device.Each(len(a.offsets)-1, func(task int) {
		c.guarded(func() { compute(task, "inside Each") })
	})
}

// prefixes cuts the last sequence short: what follows a row must not matter to it.
func (c *check) prefixes(a attention, packed []float32) {
	last := len(a.offsets) - 1
	if last < 1 {
		return
	}
	lo, hi := int(a.offsets[last-1]), int(a.offsets[last])
	for _, n := range []int{1, (hi - lo) / 2, hi - lo - 1} {
		if n < 1 || n > hi-lo {
			continue
		}
		s := c.scene(uint64(n), "%s, first %d rows of the last sequence", a.what, n)
		got := c.attendOn(s, a.slice(lo, lo+n, []int32{0, int32(n)}))
		s.finish()
		c.equal(fmt.Sprintf("%s: the first %d rows of the last sequence against the whole", a.what, n), got, part(packed, lo, lo+n, a.heads*a.dim))
	}
}

func checkAttendBack(c *check) { c.evenly(c.attendBack) }

func (c *check) attendBack() {
	for _, a := range c.attentions() {
		n, qw, kw := a.rows(), a.heads*a.dim, a.kvHeads*a.dim
		keeps := c.device.KeptWidth(c.dtype, a.heads) > 0
		dOut := c.numbers(n*qw, 1)
		out := rounded(c.dtype, narrow(attend(a.host()).value))
		run := func(s *scene, a attention, lo, hi int) [][]float32 {
			on := a.lay(s)
			if keeps {
				c.keep(s, a, &on)
			}
			dOuts, outs := s.input("dOut", part(dOut, lo, hi, qw), hi-lo, qw), s.input("out", part(out, lo, hi, qw), hi-lo, qw)
			dq, dk, dv := s.output("dq", hi-lo, qw), s.output("dk", hi-lo, kw), s.output("dv", hi-lo, kw)
			c.device.AttendBack(dq.matrix(), dk.matrix(), dv.matrix(), dOuts.matrix(), outs.matrix(), on)
			return [][]float32{dq.take(), dk.take(), dv.take()}
		}
		dq, dk, dv := attendBack(wide(dOut), a.host())
		compare := func(what string) [][]float32 {
			got := c.sums(what, func(s *scene) [][]float32 { return run(s, a, 0, n) })
			c.close(what+": dq", c.dtype, got[0], dq)
			c.close(what+": dk", c.dtype, got[1], dk)
			c.close(what+": dv", c.dtype, got[2], dv)
			return got
		}
		got := compare(a.what)
		if keeps {
			keeps = false
			compare(a.what + ", without Kept")
			keeps = true
		}
		if c.options.Exact {
			c.sequencesAlone(a, run, got)
		}
	}
}
