package devicetest

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

func lengths() []int {
	return []int{1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1000, 1031, 4099, 70001}
}

func checkAdamW(c *check) {
	for i, n := range lengths() {
		step := float64(1 + i*i)
		b1, b2 := float32(0.9), float32([]float64{0.999, 0.95}[i%2])
		on := device.AdamWStep{LearningRate: 3e-3, Beta1: b1, Beta2: b2, Epsilon: 1e-8, WeightDecay: float32(0.1 * float64(i%3)),
			BiasCorrection1: float32(1 - math.Pow(float64(b1), step)), BiasCorrection2: float32(1 - math.Pow(float64(b2), step))}
		w, g, m, v := c.weights(n, 1), c.weights(n, 0.1), c.weights(n, 0.1), c.weights(n, 0.1)
		for j := range v {
			v[j] *= v[j]
			if i == 0 || j%11 == 10 { // as before the first step
				m[j], v[j] = 0, 0
			}
			if j%13 == 12 {
				g[j] = 0
			}
		}
		what := fmt.Sprintf("%d elements", n)
		got := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
			ws, gs, ms, vs := s.gradient("Param", w[lo:hi]), s.parameter("Grad", g[lo:hi]), s.gradient("M", m[lo:hi]), s.gradient("V", v[lo:hi])
			on := on
			on.Param, on.Grad, on.M, on.V = ws.data(), gs.data(), ms.data(), vs.data()
			c.device.AdamW(on)
			return [][]float32{ws.take(), ms.take(), vs.take()}
		})
		newW, newM, newV := adamW(hostStep(on), wide(w), wide(g), wide(m), wide(v))
		c.close(what+": parameters", device.F32, got[0], newW)
		c.close(what+": first moments", device.F32, got[1], newM)
		c.close(what+": second moments", device.F32, got[2], newV)
	}
}

func checkSquaredNorm(c *check) {
	for i, n := range append(lengths(), 0) {
		size := []float64{1, 1e-25, 1e25}[i%3] // the squares of the last two are beyond float32
		values := c.weights(n, size)
		want := 0.0
		for _, v := range values {
			want += float64(v) * float64(v)
		}
		what := fmt.Sprintf("%d elements of size %g", n, size)
		run := func(seed uint64) float64 {
			s := c.scene(seed, "%s", what)
			got, err := c.device.SquaredNorm(s.parameter("b", values).data())
			c.must(err)
			s.finish()
			return got
		}
		got := run(1)
		if !(math.Abs(got-want) <= 1e-12*want) {
			c.failf("%s: %v, want %v", what, got, want)
		}
		same := func(how string, again float64) {
			if math.Float64bits(again) != math.Float64bits(got) {
				c.failf("%s: %v, %s %v", what, got, how, again)
			}
		}
		same("computed again", run(1))
		for seed := range uint64(3) {
			same("at another offset", run(2+seed))
		}
		if c.options.Exact && c.options.Threads != nil {
			for _, threads := range []int{1, 2, 5} {
				c.options.Threads(threads)
				same(fmt.Sprintf("on %d threads", threads), run(1))
			}
			c.options.Threads(0)
		}
	}
}

func checkScale(c *check) {
	for _, n := range lengths() {
		values, factor := c.numbers(n, 1), float32(-0.37)
		what := fmt.Sprintf("%d elements", n)
		got := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
			b := s.sum("b", values[lo:hi], 1, hi-lo)
			c.device.Scale(b.data(), factor)
			return [][]float32{b.take()}
		})[0]
		want := newEstimate(n, 0)
		for i, v := range values {
			want.add(i, float64(v)*float64(factor))
		}
		c.close(what, c.dtype, got, want)
	}
}

func checkAdd(c *check) {
	for i, n := range lengths() {
		dst, src, factor := c.weights(n, 1), c.weights(n, 1), []float32{1, -0.37, 250}[i%3]
		what := fmt.Sprintf("%d elements, factor %g", n, factor)
		got := c.independent(what, n, func(s *scene, lo, hi int) [][]float32 {
			to, from := s.gradient("dst", dst[lo:hi]), s.parameter("src", src[lo:hi])
			c.device.Add(to.data(), from.data(), factor)
			return [][]float32{to.take()}
		})[0]
		want := newEstimate(n, 1)
		for i := range dst {
			want.add(i, float64(dst[i]))
			want.add(i, float64(factor)*float64(src[i]))
		}
		c.close(what, device.F32, got, want)
	}
}

func checkFirstNonFinite(c *check) {
	infinity := float32(math.Inf(1))
	for _, n := range append(lengths(), 0) {
		values := c.weights(n, 1)
		if n > 2 {
			values[0], values[n-1] = math.MaxFloat32, -math.SmallestNonzeroFloat32
		}
		find := func(want int) {
			s := c.scene(uint64(want+2), "%d elements", n)
			got, err := c.device.FirstNonFinite(s.parameter("b", values).data())
			c.must(err)
			s.finish()
			if got != want {
				c.failf("%d elements, the first not finite is %d: got %d", n, want, got)
			}
		}
		find(-1)
		// From the last backwards, so that the earlier of several is wanted.
		for _, at := range []int{n - 1, n - 2, n / 2, n / 3, 17, 1, 0} {
			if at < 0 || at >= n || at > n-1 {
				continue
			}
			old := values[at]
			for _, bad := range []float32{infinity, -infinity, poison} {
				values[at] = bad
				find(at)
			}
			if n > 2 {
				last := values[n-1]
				values[n-1] = infinity
				find(at)
				values[n-1] = last
			}
			values[at] = old
		}
	}
}
