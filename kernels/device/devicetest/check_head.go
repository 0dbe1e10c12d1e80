package devicetest

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// scored is one case of Score.
type scored struct {
	what                  string
	n, hidden, vocabulary int
	inverse               float32
	x, w                  []float32
	targets               []int32
}

func (c *check) scores() []scored {
	shapes := [][3]int{{1, 2, 1}, {3, 31, 33}, {33, 16, 130}, {2, 33, 1031}, {65, 64, 127}, {0, 8, 16}, {2, 8, 9001}}
	random := 6
	if c.options.Quick {
		random = 1
	}
	for range random {
		shapes = append(shapes, [3]int{c.size(65), c.size(129), c.size(129)})
	}
	if !c.options.Quick {
		shapes = append(shapes, [3]int{129, 64, 2053})
	}
	var cases []scored
	for i, shape := range shapes {
		for j, temperature := range []float32{1, 0.7, 2.5} {
			if j > 0 && (i+j)%2 == 0 {
				continue
			}
			t := scored{n: shape[0], hidden: shape[1], vocabulary: shape[2], inverse: 1 / temperature}
			t.what = fmt.Sprintf("%d rows of %d, vocabulary %d, temperature %g", t.n, t.hidden, t.vocabulary, temperature)
			t.x, t.w = c.numbers(t.n*t.hidden, 1), c.weights(t.vocabulary*t.hidden, 0.3)
			t.targets = c.integers(t.n, t.vocabulary)
			for i := range t.n { // some targets at the borders, some distributions that leave no doubt
				switch i % 7 {
				case 1:
					t.targets[i] = int32(t.vocabulary - 1)
				case 2:
					t.targets[i] = 0
				case 4: // logits in the hundreds, whose exponentials are beyond float32
					for j := range t.hidden {
						t.x[i*t.hidden+j] = float32(round(c.dtype, 100*float64(t.x[i*t.hidden+j])))
					}
				case 3:
					for j := range t.hidden {
						t.x[i*t.hidden+j] = float32(round(c.dtype, 8*float64(t.w[int(t.targets[i])*t.hidden+j])))
					}
				}
			}
			cases = append(cases, t)
		}
	}
	return cases
}

func (t scored) logits() estimate {
	return product(nil, wide(t.x), wide(t.w), t.n, t.vocabulary, t.hidden)
}

// lay gives rows [lo, hi) to the device and computes their scores.
func (t scored) lay(s *scene, w device.Weights, matrix device.Buffer, lo, hi int) (on device.Scored, logProbs, entropies *operand) {
	logProbs, entropies = s.statistics("LogProbs", hi-lo), s.statistics("Entropies", hi-lo)
	on = device.Scored{X: s.input("X", part(t.x, lo, hi, t.hidden), hi-lo, t.hidden).matrix(), Rows: hi - lo, Head: w, Matrix: matrix,
		Targets: s.integers("Targets", t.targets[lo:hi]).data(), InverseTemperature: t.inverse, LogProbs: logProbs.data(), Entropies: entropies.data()}
	s.c.device.Score(on)
	return on, logProbs, entropies
}

func checkScore(c *check) {
	for _, t := range c.scores() {
		w, matrix, free := c.newWeights(t.w, t.vocabulary, t.hidden, device.Forward)
		got := c.independent(t.what, t.n, func(s *scene, lo, hi int) [][]float32 {
			_, logProbs, entropies := t.lay(s, w, matrix, lo, hi)
			return [][]float32{logProbs.take(), entropies.take()}
		})
		free()
		logProbs, entropies := score(t.logits(), t.targets, t.vocabulary, float64(t.inverse))
		c.close(t.what+": log-probabilities", c.dtype, got[0], logProbs)
		c.close(t.what+": entropies", c.dtype, got[1], entropies)
		for i, v := range got[0] {
			if v > 0 {
				c.failf("%s: row %d: the log-probability %v is positive", t.what, i, v)
				break
			}
		}
	}
}

func checkScoreBack(c *check) {
	for i, t := range c.scores() {
		w, matrix, free := c.newWeights(t.w, t.vocabulary, t.hidden, device.ForwardBack)
		dLogProbs, dEntropies, dHead := c.weights(t.n, 1), c.weights(t.n, 0.5), c.weights(t.vocabulary*t.hidden, 0.5)
		flat := i%3 == 2 // without entropies
		run := func(s *scene, lo, hi int, frozen bool) (dX, dW []float32) {
			on, logProbs, entropies := t.lay(s, w, matrix, lo, hi)
			logProbs.free, entropies.free = true, true
			if on.Known = i%2 == 0; !on.Known {
				on.LogProbs, on.Entropies = device.Buffer{}, device.Buffer{}
			}
			dx, dl, de := s.output("dx", hi-lo, t.hidden), s.parameter("dLogProbs", dLogProbs[lo:hi]), device.Buffer{}
			if !flat {
				de = s.parameter("dEntropies", dEntropies[lo:hi]).data()
			}
			if frozen {
				c.device.ScoreBack(dx.matrix(), device.Buffer{}, dl.data(), de, on)
				return dx.take(), nil
			}
			sum := s.gradient("dHead", dHead)
			c.device.ScoreBack(dx.matrix(), sum.data(), dl.data(), de, on)
			return dx.take(), sum.take()
		}
		got := c.independent(t.what, t.n, func(s *scene, lo, hi int) [][]float32 {
			dX, _ := run(s, lo, hi, true)
			return [][]float32{dX}
		})[0]
		all := c.sums(t.what, func(s *scene) [][]float32 {
			dX, dW := run(s, 0, t.n, false)
			return [][]float32{dX, dW}
		})
		free()
		entropies := wide(dEntropies)
		if flat {
			entropies = nil
		}
		dX, dW := t.gradients(wide(dLogProbs), entropies, wide(dHead))
		c.close(t.what+": dx, frozen head", c.dtype, got, dX)
		c.close(t.what+": dx", c.dtype, all[0], dX)
		c.close(t.what+": dHead", c.dtype, all[1], dW)
		if c.options.Exact {
			c.equal(t.what+": dx with a frozen head against dx with a trained one", got, all[0])
		}
	}
}

// gradients are those of x and of the head's matrix. Their magnitudes come from those of the logits'
// gradients, which cancel.
func (t scored) gradients(dLogProbs, dEntropies, dHead []float64) (dX, dW estimate) {
	g, size := scoreBack(t.logits(), t.targets, dLogProbs, dEntropies, t.vocabulary, float64(t.inverse))
	w, x := wide(t.w), wide(t.x)
	dX = productBack(nil, g, w, t.n, t.vocabulary, t.hidden)
	dW = productGrad(dHead, g, x, t.n, t.vocabulary, t.hidden)
	dX.magnitude = productBack(nil, size, absolute(w), t.n, t.vocabulary, t.hidden).magnitude
	dW.magnitude = productGrad(absolute(dHead), size, absolute(x), t.n, t.vocabulary, t.hidden).magnitude
	dX.terms, dW.terms = max(t.vocabulary, t.hidden), max(t.n, t.vocabulary, t.hidden)
	return dX, dW
}
