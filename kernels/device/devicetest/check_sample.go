package devicetest

import (
	"fmt"
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// drawOn draws a token of each row of logits.
func (c *check) drawOn(s *scene, logits []float32, vocabulary int, how []device.Sampling) []device.Sampled {
	var draws device.Draws
	dst := c.drawInto(s, &draws, logits, vocabulary, how)
	c.device.FreeDraws(&draws)
	return dst
}

// drawInto is drawOn with the memory of other draws.
func (c *check) drawInto(s *scene, draws *device.Draws, logits []float32, vocabulary int, how []device.Sampling) []device.Sampled {
	own := slices.Clone(how)
	c.must(c.device.PlaceSampling(draws, own, vocabulary))
	for i := range own { // the caller's to change
		own[i] = device.Sampling{TopP: 1, TopK: 1}
	}
	in := s.lay("logits", device.F32, logits, len(how), vocabulary, guard)
	in.free = true // Draw may overwrite them
	c.device.Draw(draws, in.matrix())
	dst, tokens := make([]device.Sampled, len(how)), make([]int32, len(how))
	c.must(c.device.Drawn(dst, draws))
	if len(how) > 0 {
		c.must(c.device.DownloadInts(tokens, draws.Tokens))
	}
	for i, d := range dst {
		if tokens[i] != max(0, d.Token) {
			c.failf("%s: row %d: token %d on the device, and %d of Drawn", s.what, i, tokens[i], d.Token)
		}
	}
	return dst
}

// checkDraw tests what is reported about a token against the oracle and against Score, to the last bit.
func checkDraw(c *check) {
	temperatures := []float32{1, 0, 0.7, 1.9}
	for _, t := range c.scores() {
		if t.n == 0 {
			continue
		}
		how := make([]device.Sampling, t.n)
		for i := range how {
			how[i] = device.Sampling{Temperature: temperatures[i%4], TopP: 1, Uniform: c.random.Float64()}
			switch i % 5 { // cuts that matter to none of the numbers but that of sampling
			case 2:
				how[i].TopK = 1
			case 3:
				how[i].TopP = 0.5
			}
		}
		w, matrix, free := c.newWeights(t.w, t.vocabulary, t.hidden, device.Forward)
		logits := c.logitsOn(t, w)
		out := c.independent(t.what, t.n, func(s *scene, lo, hi int) [][]float32 {
			return flatten(c.drawOn(s, part(logits, lo, hi, t.vocabulary), t.vocabulary, how[lo:hi]))
		})
		tokens := make([]int32, t.n)
		for i, v := range out[0] {
			tokens[i] = int32(v)
			if v < 0 || int(v) >= t.vocabulary {
				c.failf("%s: row %d: token %d is not in the vocabulary", t.what, i, tokens[i])
				panic(stop{})
			}
			if how[i].Temperature == 0 && int(tokens[i]) != likeliest(wide(part(logits, i, i+1, t.vocabulary))) {
				c.failf("%s: row %d: token %d at temperature 0, the likeliest is %d", t.what, i, tokens[i], likeliest(wide(part(logits, i, i+1, t.vocabulary))))
			}
		}
		c.reported(t, logits, tokens, how, out)
		if c.options.Exact {
			c.likeScore(t, w, matrix, tokens, how, out)
		}
		free()
	}
}

// logitsOn are a device's own logits, which are float32 in every compute type.
func (c *check) logitsOn(t scored, w device.Weights) []float32 {
	s := c.scene(0, "%s, logits", t.what)
	x, y := s.input("x", t.x, t.n, t.hidden), s.lay("logits", device.F32, nil, t.n, t.vocabulary, guard)
	c.device.Product(y.matrix(), x.matrix(), t.n, w, false)
	logits := y.take()
	s.finish()
	return logits
}

// flatten turns choices into results of one number a row: token, log-probability, that of sampling,
// untempered, entropy.
func flatten(dst []device.Sampled) [][]float32 {
	out := make([][]float32, 5)
	for _, d := range dst {
		for i, v := range []float32{float32(d.Token), d.LogProb, d.SamplingLogProb, d.UntemperedLogProb, d.Entropy} {
			out[i] = append(out[i], v)
		}
	}
	return out
}

func inverseOf(h device.Sampling) float32 {
	if h.Temperature == 0 {
		return 1
	}
	return 1 / h.Temperature
}

// reported compares the numbers beside the tokens with the oracle's.
func (c *check) reported(t scored, logits []float32, tokens []int32, how []device.Sampling, out [][]float32) {
	for i, h := range how {
		row := exactly(wide(part(logits, i, i+1, t.vocabulary)))
		what := fmt.Sprintf("%s: row %d, %+v", t.what, i, h)
		target := tokens[i : i+1]
		logProbs, entropies := score(row, target, t.vocabulary, float64(inverseOf(h)))
		untempered, _ := score(row, target, t.vocabulary, 1)
		c.close(what+": LogProb", device.F32, out[1][i:i+1], logProbs)
		c.close(what+": UntemperedLogProb", device.F32, out[3][i:i+1], untempered)
		c.close(what+": Entropy", device.F32, out[4][i:i+1], entropies)
		if h.Temperature == 0 {
			c.equal(what+": SamplingLogProb", out[2][i:i+1], []float32{0})
		}
	}
}

// likeScore wants the log-probabilities to have the bits of Score at the same temperature.
func (c *check) likeScore(t scored, w device.Weights, matrix device.Buffer, tokens []int32, how []device.Sampling, out [][]float32) {
	t.targets = tokens
	for _, column := range []int{1, 3} {
		for i, h := range how {
			t.inverse = 1
			if column == 1 {
				t.inverse = inverseOf(h)
			}
			s := c.scene(uint64(i), "%s, score of row %d", t.what, i)
			_, logProbs, entropies := t.lay(s, w, matrix, i, i+1)
			entropies.free = true
			want := logProbs.take()
			s.finish()
			c.equal(fmt.Sprintf("%s: row %d, inverse temperature %g: Draw's log-probability against Score's", t.what, i, t.inverse), out[column][i:i+1], want)
		}
	}
}

// checkDrawCuts sweeps the random number over the inverse of the distribution: just inside both ends of each
// kept token's interval and in its middle. Nothing is left to luck: whichever token is wrong, cut
// though it should be kept or kept though it should be cut, some interval is displaced.
func checkDrawCuts(c *check) {
	for _, vocabulary := range []int{1, 2, 5, 31, 33, 64, 131} {
		logits := c.weights(vocabulary, 1.5)
		if vocabulary == 33 { // few different values, so that likeliest tokens tie
			for i := range logits {
				logits[i] = float32(math.Round(float64(logits[i])))
			}
		}
		for _, temperature := range []float32{1, 0.6, 2.2} {
			for _, h := range c.cuts(logits, temperature) {
				c.sweep(logits, h)
			}
		}
	}
	c.tiesAtTheBorder()
	c.greedyIgnoresCuts()
	c.certainAtTheColdest()
}

// cuts are all combinations of cuts, none of them within rounding of keeping one token more or less.
func (c *check) cuts(logits []float32, temperature float32) []device.Sampling {
	var all []device.Sampling
	for _, topK := range []int{0, 1, 1 + len(logits)/3, len(logits) + 5} {
		for _, share := range []float64{1, 0.3, 0.8} {
			h := device.Sampling{Temperature: temperature, TopK: topK, TopP: 1}
			kept := c.sorted(logits, h)
			sum := 0.0
			for _, p := range kept {
				if sum+p > share && p > 1e-3 && share < 1 {
					h.TopP = float32(sum + p/2) // between the sums before and with this token
					break
				}
				sum += p
			}
			kept = c.sorted(logits, h)
			all = append(all, h)
			if at := len(kept) / 2; at > 0 && kept[at-1]-kept[at] > 1e-3 {
				h.MinP = float32((kept[at-1] + kept[at]) / 2 / kept[0])
				all = append(all, h)
			}
		}
	}
	return all
}

// sorted is the distribution after the cuts, without the tokens cut, likeliest first.
func (c *check) sorted(logits []float32, h device.Sampling) []float64 {
	kept := slices.DeleteFunc(cut(wide(logits), hostSampling(h)), func(p float64) bool { return p == 0 })
	slices.Sort(kept)
	slices.Reverse(kept)
	return kept
}

func hostSampling(h device.Sampling) sampling {
	return sampling{temperature: float64(h.Temperature), topK: h.TopK, topP: float64(h.TopP), minP: float64(h.MinP)}
}

// sweep draws at every border of one distribution, in one call.
func (c *check) sweep(logits []float32, h device.Sampling) {
	// margin is how far a cumulative share may be off: float32 sums of shares below 1.
	const margin = 1e-5
	kept := cut(wide(logits), hostSampling(h))
	var how []device.Sampling
	var want []int
	at := func(token int, uniform float64) {
		h.Uniform = uniform
		how, want = append(how, h), append(want, token)
	}
	first, last, sum := -1, -1, 0.0
	for token, p := range kept {
		if p == 0 {
			continue
		}
		if p > 3*margin {
			if first < 0 && sum == 0 {
				first = token
			}
			at(token, min(sum+margin, 1-margin/2))
			at(token, sum+p/2)
			at(token, sum+p-margin)
		}
		last = token
		sum += p
	}
	if first >= 0 {
		at(first, 0)
	}
	if kept[last] > 3*margin {
		at(last, 1-1.0/(1<<53))
	}
	var rows []float32
	for range how {
		rows = append(rows, logits...)
	}
	s := c.scene(uint64(len(logits)), "vocabulary %d, %+v", len(logits), h)
	got := c.drawOn(s, rows, len(logits), how)
	s.finish()
	for i, g := range got {
		what := fmt.Sprintf("vocabulary %d, %+v", len(logits), how[i])
		if int(g.Token) != want[i] {
			c.failf("%s: token %d with a share of %v, want %d with %v", what, g.Token, kept[g.Token], want[i], kept[want[i]])
			continue
		}
		logProb := math.Log(kept[want[i]])
		estimate := estimate{value: []float64{logProb}, magnitude: []float64{4 + math.Abs(logProb) + largest(logits)/float64(h.Temperature)}, terms: len(logits)}
		c.close(what+": SamplingLogProb", device.F32, []float32{g.SamplingLogProb}, estimate)
	}
}

func largest(values []float32) float64 {
	most := 0.0
	for _, v := range values {
		most = max(most, math.Abs(float64(v)))
	}
	return most
}

// tiesAtTheBorder keeps the smaller of equally likely tokens, where all arithmetic is exact.
func (c *check) tiesAtTheBorder() {
	equal := make([]float32, 8)
	for i := range equal {
		equal[i] = 0.75
	}
	for _, h := range []device.Sampling{
		{Temperature: 1, TopK: 3, TopP: 1},
		{Temperature: 1, TopP: 0.5},
		{Temperature: 0.5, TopP: 0.51},
		{Temperature: 2, TopK: 4, TopP: 0.5},
		{Temperature: 1, TopP: 1, MinP: 1},
		{Temperature: 1, TopK: 6, TopP: 1, MinP: 0.9},
	} {
		c.sweep(equal, h)
	}
	two := []float32{1, 3, 1, 3, 2, 3, 0}
	c.sweep(two, device.Sampling{Temperature: 1, TopK: 2, TopP: 1})
	c.sweep(two, device.Sampling{Temperature: 1, TopP: 1, MinP: 1})
	c.sweep(two, device.Sampling{Temperature: 1, TopP: 1, TopK: 5})
	c.sweep(two, device.Sampling{Temperature: 0.01, TopP: 0.99, MinP: 0.5})
}

// greedyIgnoresCuts takes the first of the likeliest at temperature 0, whatever else is asked for.
func (c *check) greedyIgnoresCuts() {
	logits := []float32{-2, 1.5, 0, 1.5, 1.5, -7}
	how := []device.Sampling{{TopP: 1}, {TopK: 2, TopP: 0.1, Uniform: 0.99}, {TopP: 1, MinP: 1, Uniform: 0.5}, {TopP: 0.9, TopK: 3, Uniform: 1 - 1.0/(1<<53)}}
	var rows []float32
	for range how {
		rows = append(rows, logits...)
	}
	s := c.scene(1, "temperature 0")
	got := c.drawOn(s, rows, len(logits), how)
	s.finish()
	for i, g := range got {
		if g.Token != 1 || g.SamplingLogProb != 0 {
			c.failf("%+v over %v: token %d with sampling log-probability %v, want 1 with 0", how[i], logits, g.Token, g.SamplingLogProb)
		}
	}
}

// certainAtTheColdest draws at the lowest temperature that a run may have, of logits far larger than those of any
// policy that has not diverged: the likeliest token is certain, and every number says so.
func (c *check) certainAtTheColdest() {
	logits := []float32{-9.3e4, 99_800, 1e5 + 1.0/128, 0, 99_700, -1e5, 12.5}
	for _, h := range []device.Sampling{
		{Temperature: 0.001, TopP: 1}, {Temperature: 0.001, TopP: 0.9}, {Temperature: 0.001, TopP: 1, TopK: 3}, {Temperature: 0.001, TopP: 1, MinP: 0.1},
	} {
		h.Uniform = 1 - 1.0/(1<<53)
		s := c.scene(1, "%+v", h)
		got := c.drawOn(s, logits, len(logits), []device.Sampling{h})[0]
		s.finish()
		off := 0.0
		for _, numbers := range flatten([]device.Sampled{got})[1:] {
			off = max(off, math.Abs(float64(numbers[0]))) // NaN if any is
		}
		if got.Token != 2 || !(off < 1e-6) {
			c.failf("%+v over %v: got %+v, want token 2, certain", h, logits, got)
		}
	}
}

// checkDrawAgain draws several times with the same memory, which must not move while rows become no more, and has rows
// without a distribution, whose token the next pass may gather all the same.
func checkDrawAgain(c *check) {
	const rows, vocabulary = 9, 70
	logits, how := c.weights(rows*vocabulary, 1.5), make([]device.Sampling, rows)
	for i := range how {
		how[i] = device.Sampling{Temperature: float32(i % 3), TopP: 1, Uniform: c.random.Float64()}
	}
	want := c.drawOn(c.scene(1, "alone"), logits, vocabulary, how)
	before := c.device.Usage().Bytes
	var draws device.Draws
	for i, n := range []int{4, rows, rows, 3, rows - 1, 0, rows} {
		memory := draws.Memory
		s := c.scene(uint64(i), "draw %d, of %d rows", i, n)
		got := c.drawInto(s, &draws, logits[:n*vocabulary], vocabulary, how[:n])
		s.finish()
		if !slices.Equal(got, want[:n]) {
			c.failf("draw %d: the choices of %d rows are %+v, and %+v alone", i, n, got, want[:n])
		}
		if draws.Rows() != n || draws.Tokens.Len() != n || draws.Vocabulary != vocabulary {
			c.failf("draw %d: want %d rows of %d logits, got %d with %d tokens, of %d", i, n, vocabulary, draws.Rows(), draws.Tokens.Len(), draws.Vocabulary)
		}
		if i > 1 && draws.Memory != memory {
			c.failf("draw %d: the memory of %d rows moved for %d", i, rows, n)
		}
	}
	bad := slices.Clone(logits)
	bad[2*vocabulary+5] = float32(math.NaN())
	bad[7*vocabulary] = float32(math.Inf(1))
	s := c.scene(9, "rows without a distribution")
	for i, got := range c.drawInto(s, &draws, bad, vocabulary, how) {
		if lost := i == 2 || i == 7; lost != (got.Token < 0) || lost != (got.LogProb != got.LogProb) || !lost && got != want[i] {
			c.failf("row %d: got %+v where rows 2 and 7 have no distribution", i, got)
		}
	}
	s.finish()
	c.device.FreeDraws(&draws)
	if now := c.device.Usage().Bytes; now != before || draws.Rows() != 0 {
		c.failf("FreeDraws leaves %d rows, and %d bytes of what were %d before", draws.Rows(), now, before)
	}
}
