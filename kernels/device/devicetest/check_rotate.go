package devicetest

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// turn is one case of Rotate.
type turn struct {
	what          string
	n, count, dim int
	x, weight     []float32 // weight is nil without a norm
	positions     []int32
	cos, sin      []float32
	eps           float32
}

// turns are rows × heads × width with and without a norm: a fixed list first, then random ones.
func (c *check) turns() []turn {
	shapes := [][3]int{{1, 1, 2}, {3, 2, 6}, {33, 1, 32}, {5, 3, 34}, {17, 4, 64}, {2, 7, 128}, {0, 2, 8}}
	random := 8
	if c.options.Quick {
		random = 1
	}
	for range random {
		shapes = append(shapes, [3]int{c.size(65), 1 + c.random.IntN(8), 2 * (1 + c.random.IntN(40))})
	}
	var turns []turn
	for _, shape := range shapes {
		for _, normed := range []bool{false, true} {
			t := turn{n: shape[0], count: shape[1], dim: shape[2], eps: 1e-6}
			t.what = fmt.Sprintf("%d rows of %d heads of %d, norm %v", t.n, t.count, t.dim, normed)
			t.x = c.numbers(t.n*t.count*t.dim, 1)
			const most = 41
			t.positions = c.integers(t.n, most)
			for range most * t.dim / 2 {
				// Not quite on the circle: families scale their rotations.
				angle, radius := c.random.Float64()*2*math.Pi, 0.8+0.4*c.random.Float64()
				t.cos, t.sin = append(t.cos, float32(radius*math.Cos(angle))), append(t.sin, float32(radius*math.Sin(angle)))
			}
			if normed {
				t.weight = c.scales(t.dim)
			}
			turns = append(turns, t)
		}
	}
	return turns
}

// heads lays out rows [lo, hi). Roots is left to the caller.
func (t turn) heads(s *scene, lo, hi int) device.Heads {
	h := device.Heads{X: s.input("X", part(t.x, lo, hi, t.count*t.dim), hi-lo, t.count*t.dim).matrix(), Rows: hi - lo, Count: t.count, Dim: t.dim,
		Positions: s.integers("Positions", t.positions[lo:hi]).data(), Cos: s.parameter("Cos", t.cos).data(), Sin: s.parameter("Sin", t.sin).data(), Eps: t.eps}
	if t.weight != nil {
		h.Weight = s.parameter("Weight", t.weight).data()
	}
	return h
}

func (t turn) host() heads {
	return heads{x: wide(t.x), n: t.n, count: t.count, dim: t.dim, positions: t.positions, cos: wide(t.cos), sin: wide(t.sin),
		weight: widened(t.weight), eps: float64(t.eps)}
}

func checkRotate(c *check) { c.evenly(c.rotate) }

func (c *check) rotate() {
	for _, t := range c.turns() {
		got := c.independent(t.what, t.n, func(s *scene, lo, hi int) [][]float32 {
			h, y := t.heads(s, lo, hi), s.output("y", hi-lo, t.count*t.dim)
			if t.weight == nil {
				c.device.Rotate(y.matrix(), h)
				return [][]float32{y.take()}
			}
			roots := s.statistics("Roots", (hi-lo)*t.count)
			h.Roots = roots.data()
			c.device.Rotate(y.matrix(), h)
			return [][]float32{y.take(), roots.take()}
		})
		y, roots := rotate(t.host())
		c.close(t.what+": y", c.dtype, got[0], y)
		if t.weight != nil {
			c.close(t.what+": roots", device.F32, got[1], roots)
		}
	}
}

// checkRotateBoth wants the bits of two calls of Rotate, of queries and of half as many keys.
func checkRotateBoth(c *check) { c.evenly(c.rotateBoth) }

func (c *check) rotateBoth() {
	for i, t := range c.turns() {
		few := max(1, t.count/2)
		s := c.scene(uint64(i), "%s, and %d", t.what, few)
		q := t.heads(s, 0, t.n)
		k := q
		k.X, k.Count = s.input("keys", part(c.numbers(t.n*few*t.dim, 1), 0, t.n, few*t.dim), t.n, few*t.dim).matrix(), few
		run := func(call func(yq, yk device.Rows, q, k device.Heads)) [4][]float32 {
			yq, yk := s.output("yq", t.n, t.count*t.dim), s.output("yk", t.n, few*t.dim)
			roots, few := s.statistics("q's Roots", t.n*t.count), s.statistics("k's Roots", t.n*few)
			q, k := q, k
			if t.weight != nil {
				k.Weight = s.parameter("k's Weight", c.scaled(t.weight)).data()
				q.Roots, k.Roots = roots.data(), few.data()
			}
			call(yq.matrix(), yk.matrix(), q, k)
			return [4][]float32{yq.take(), yk.take(), roots.take(), few.take()}
		}
		both := run(c.device.RotateBoth)
		each := run(func(yq, yk device.Rows, q, k device.Heads) {
			c.device.Rotate(yq, q)
			c.device.Rotate(yk, k)
		})
		s.finish()
		for part, name := range []string{"queries", "keys", "roots of queries", "roots of keys"} {
			c.alike(t.what+": "+name+", against Rotate", both[part], each[part])
		}
	}
}

// scaled are other weights, which the type of activations holds too.
func (c *check) scaled(weight []float32) []float32 {
	out := make([]float32, len(weight))
	for i, v := range weight {
		out[i] = -2 * v
	}
	return out
}

func checkRotateBack(c *check) { c.evenly(c.rotateBack) }

func (c *check) rotateBack() {
	for i, t := range c.turns() {
		width := t.count * t.dim
		dy, dWeight := c.numbers(t.n*width, 1), c.weights(t.dim, 1)
		_, r := rotate(t.host())
		roots := narrow(r.value)
		run := func(s *scene, lo, hi int, frozen bool) (dX, dW []float32) {
			h, dys, dx := t.heads(s, lo, hi), s.input("dy", part(dy, lo, hi, width), hi-lo, width), s.output("dx", hi-lo, width)
			dys.free = true
			if t.weight != nil {
				h.Roots = s.parameter("Roots", roots[lo*t.count:hi*t.count]).data()
			}
			if t.weight == nil || frozen {
				c.device.RotateBack(dx.matrix(), device.Buffer{}, dys.matrix(), h)
				return dx.take(), nil
			}
			sum := s.gradient("dWeight", dWeight)
			c.device.RotateBack(dx.matrix(), sum.data(), dys.matrix(), h)
			return dx.take(), sum.take()
		}
		got := c.independent(t.what, t.n, func(s *scene, lo, hi int) [][]float32 {
			dX, _ := run(s, lo, hi, i%4 == 1)
			return [][]float32{dX}
		})[0]
		dX, dW := rotateBack(wide(dWeight), wide(dy), wide(roots), t.host())
		c.close(t.what+": dx", c.dtype, got, dX)
		if t.weight == nil {
			continue
		}
		all := c.sums(t.what, func(s *scene) [][]float32 {
			dX, dW := run(s, 0, t.n, false)
			return [][]float32{dX, dW}
		})
		c.close(t.what+": dx beside dWeight", c.dtype, all[0], dX)
		c.close(t.what+": dWeight", c.dtype, all[1], dW)
	}
}
