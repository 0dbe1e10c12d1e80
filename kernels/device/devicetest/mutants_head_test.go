package devicetest

import (
	"math"
	"sort"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

func headMutants() []mutant {
	r := NewReference
	return []mutant{
		{"Score", "temperature left out", scoreTemperature{r()}},
		{"Score", "positive log-probabilities", scorePositive{r()}},
		{"Score", "the last token of the vocabulary left out", scoreLess{r()}},
		{"Score", "entropy in bits", scoreBits{r()}},
		{"Score", "bits that depend on the number of rows", scoreCompany{r()}},
		{"ScoreBack", "entropies left out", scoreBackFlat{r()}},
		{"ScoreBack", "dHead written instead of added", scoreBackWritten{r()}},
		{"ScoreBack", "temperature left out of the chain", scoreBackTemperature{r()}},
		{"ScoreBack", "other bits with a frozen head", scoreBackFrozen{r()}},
		{"Draw", "LogProb after the cuts", reporting{r(), func(s *device.Sampled, _ device.Sampling) { s.LogProb = s.SamplingLogProb }}},
		{"Draw", "LogProb without Score's bits", reporting{r(), func(s *device.Sampled, _ device.Sampling) { s.LogProb = math.Nextafter32(s.LogProb, -1) }}},
		{"Draw", "UntemperedLogProb tempered", reporting{r(), func(s *device.Sampled, _ device.Sampling) { s.UntemperedLogProb = s.LogProb }}},
		{"Draw", "SamplingLogProb at temperature 0", reporting{r(), func(s *device.Sampled, h device.Sampling) {
			if h.Temperature == 0 {
				s.SamplingLogProb = s.LogProb
			}
		}}},
		{"Draw", "entropy after the cuts", reporting{r(), func(s *device.Sampled, h device.Sampling) {
			if h.TopK == 1 {
				s.Entropy = 0
			}
		}}},
		{"Draw", "any token at temperature 0", asking{r(), func(h *device.Sampling) {
			if h.Temperature == 0 {
				h.Temperature = 1
			}
		}}},
		{"DrawCuts", "ways of choosing read when tokens are drawn", lateDraws{r()}},
		{"DrawAgain", "no token on the device", silentDraws{r()}},
		{"DrawAgain", "token -1 on the device", lostDraws{r()}},
		{"DrawAgain", "memory that moves each time", movingDraws{r()}},
		{"DrawAgain", "memory that is not given back", keptDraws{r()}},
		{"DrawCuts", "the last of equals at temperature 0", greedyLast{r()}},
		{"DrawCuts", "temperature left out", asking{r(), func(h *device.Sampling) {
			if h.Temperature > 0 {
				h.Temperature = 1
			}
		}}},
		{"DrawCuts", "top-k keeps one more", asking{r(), func(h *device.Sampling) {
			if h.TopK > 0 {
				h.TopK++
			}
		}}},
		{"DrawCuts", "top-k left out", asking{r(), func(h *device.Sampling) { h.TopK = 0 }}},
		{"DrawCuts", "top-p left out", asking{r(), func(h *device.Sampling) { h.TopP = 1 }}},
		{"DrawCuts", "min-p left out", asking{r(), func(h *device.Sampling) { h.MinP = 0 }}},
		{"DrawCuts", "top-p without the token that reaches the share", drawing{r(), faults{short: true}}},
		{"DrawCuts", "top-p of the uncut distribution", drawing{r(), faults{unnormalised: true}}},
		{"DrawCuts", "min-p as a probability", drawing{r(), faults{absolute: true}}},
		{"DrawCuts", "the larger of equally likely tokens kept", drawing{r(), faults{larger: true}}},
		{"DrawCuts", "cuts that do not renormalise", drawing{r(), faults{leaky: true}}},
		{"DrawCuts", "the inverse read in order of likelihood", drawing{r(), faults{likelyFirst: true}}},
		{"DrawCuts", "min-p before top-p", drawing{r(), faults{minFirst: true}}},
		{"DrawCuts", "SamplingLogProb before the cuts", reporting{r(), func(s *device.Sampled, _ device.Sampling) { s.SamplingLogProb = s.LogProb }}},
	}
}

type scoreTemperature struct{ *Reference }

func (d scoreTemperature) Score(s device.Scored) {
	s.InverseTemperature = 1
	d.Reference.Score(s)
}

type scorePositive struct{ *Reference }

func (d scorePositive) Score(s device.Scored) {
	d.Reference.Score(s)
	for i, v := range floats(s.LogProbs)[:s.Rows] {
		if v > -1e-9 {
			floats(s.LogProbs)[i] = 1e-8
		}
	}
}

type scoreLess struct{ *Reference }

func (d scoreLess) Score(s device.Scored) {
	m := *s.Head.(*referenceWeights)
	m.out = max(1, m.out-1)
	m.values = m.values[:m.out*m.in]
	own, _ := d.Allocate(device.ForWorkspace, device.I32, s.Rows)
	defer d.Free(own)
	for i := range s.Rows {
		ints(own)[i] = min(ints(s.Targets)[i], int32(m.out-1))
	}
	s.Head, s.Targets = &m, own
	d.Reference.Score(s)
}

type scoreBits struct{ *Reference }

func (d scoreBits) Score(s device.Scored) {
	d.Reference.Score(s)
	d.Scale(s.Entropies, 1/math.Ln2)
}

type scoreCompany struct{ *Reference }

func (d scoreCompany) Score(s device.Scored) {
	d.Reference.Score(s)
	if s.Rows > 1 {
		floats(s.LogProbs)[0] = math.Nextafter32(floats(s.LogProbs)[0], -1000)
	}
}

type scoreBackFlat struct{ *Reference }

func (d scoreBackFlat) ScoreBack(dx device.Rows, dHead, dLogProbs, _ device.Buffer, s device.Scored) {
	d.Reference.ScoreBack(dx, dHead, dLogProbs, device.Buffer{}, s)
}

type scoreBackWritten struct{ *Reference }

func (d scoreBackWritten) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	if !dHead.Absent() {
		d.Zero(dHead)
	}
	d.Reference.ScoreBack(dx, dHead, dLogProbs, dEntropies, s)
}

type scoreBackTemperature struct{ *Reference }

func (d scoreBackTemperature) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	d.Reference.ScoreBack(dx, dHead, dLogProbs, dEntropies, s)
	values := load(dx, s.Rows, s.Head.In())
	for i := range values {
		values[i] /= float64(s.InverseTemperature)
	}
	store(dx, s.Rows, s.Head.In(), values)
}

type scoreBackFrozen struct{ *Reference }

func (d scoreBackFrozen) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	d.Reference.ScoreBack(dx, dHead, dLogProbs, dEntropies, s)
	if dHead.Absent() && s.Rows > 0 {
		floats(dx.Data)[0] = math.Nextafter32(floats(dx.Data)[0], 1000)
	}
}

// reporting draws well and changes what it says about the token.
type reporting struct {
	*Reference
	change func(s *device.Sampled, h device.Sampling)
}

func (d reporting) Drawn(dst []device.Sampled, draws *device.Draws) error {
	err := d.Reference.Drawn(dst, draws)
	for i := range dst {
		d.change(&dst[i], draws.How[i])
	}
	return err
}

// asking draws as if asked for something else.
type asking struct {
	*Reference
	change func(h *device.Sampling)
}

func (d asking) PlaceSampling(draws *device.Draws, how []device.Sampling, vocabulary int) error {
	own := append([]device.Sampling(nil), how...)
	for i := range own {
		d.change(&own[i])
	}
	return d.Reference.PlaceSampling(draws, own, vocabulary)
}

type lateDraws struct{ *Reference }

func (d lateDraws) PlaceSampling(draws *device.Draws, how []device.Sampling, vocabulary int) error {
	err := d.Reference.PlaceSampling(draws, how, vocabulary)
	draws.How = how
	return err
}

type silentDraws struct{ *Reference }

func (d silentDraws) Draw(draws *device.Draws, logits device.Rows) {
	d.Reference.Draw(draws, logits)
	clear(ints(draws.Memory))
}

type lostDraws struct{ *Reference }

func (d lostDraws) Draw(draws *device.Draws, logits device.Rows) {
	d.Reference.Draw(draws, logits)
	for i, s := range draws.Chosen {
		ints(draws.Tokens)[i] = s.Token
	}
}

type movingDraws struct{ *Reference }

func (d movingDraws) PlaceSampling(draws *device.Draws, how []device.Sampling, vocabulary int) error {
	d.FreeDraws(draws)
	return d.Reference.PlaceSampling(draws, how, vocabulary)
}

type keptDraws struct{ *Reference }

func (d keptDraws) FreeDraws(draws *device.Draws) { *draws = device.Draws{} }

type greedyLast struct{ *Reference }

func (d greedyLast) Draw(draws *device.Draws, logits device.Rows) {
	d.Reference.Draw(draws, logits)
	for i, h := range draws.How {
		row := load(logits.From(i), 1, draws.Vocabulary)
		for j, z := range row {
			if h.Temperature == 0 && z == row[draws.Chosen[i].Token] {
				draws.Chosen[i].Token = int32(j)
			}
		}
	}
}

// faults are ways to cut a distribution wrongly.
type faults struct {
	short, unnormalised, absolute, larger, leaky, likelyFirst, minFirst bool
}

type drawing struct {
	*Reference
	faults faults
}

func (d drawing) Draw(draws *device.Draws, logits device.Rows) {
	d.Reference.Draw(draws, logits)
	for i, h := range draws.How {
		if h.Temperature > 0 {
			draws.Chosen[i].Token = d.faults.draw(load(logits.From(i), 1, draws.Vocabulary), h)
		}
	}
}

func (f faults) draw(logits []float64, h device.Sampling) int32 {
	p, _, _ := softmax(logits, 1/float64(h.Temperature))
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool {
		if f.larger && logits[order[a]] == logits[order[b]] {
			return order[a] > order[b]
		}
		return logits[order[a]] > logits[order[b]]
	})
	if h.TopK > 0 {
		order = order[:min(h.TopK, len(order))]
	}
	if f.minFirst {
		order = f.atLeast(order, p, h)
	}
	total := 1.0
	if !f.unnormalised {
		total = sumOf(order, p)
	}
	share := 0.0
	for n, i := range order {
		share += p[i] / total
		if h.TopP < 1 && share >= float64(h.TopP) {
			if f.short {
				n = max(0, n-1)
			}
			order = order[:n+1]
			break
		}
	}
	if !f.minFirst {
		order = f.atLeast(order, p, h)
	}
	total = sumOf(order, p)
	if f.leaky {
		total = 1
	}
	if !f.likelyFirst {
		sort.Ints(order)
	}
	sum := 0.0
	for _, i := range order {
		sum += p[i] / total
		if h.Uniform < sum {
			return int32(i)
		}
	}
	return int32(order[len(order)-1])
}

// atLeast keeps the tokens that min-p keeps.
func (f faults) atLeast(order []int, p []float64, h device.Sampling) []int {
	limit := float64(h.MinP) * p[order[0]]
	if f.absolute {
		limit = min(float64(h.MinP), p[order[0]])
	}
	var kept []int
	for _, i := range order {
		if p[i] >= limit {
			kept = append(kept, i)
		}
	}
	return kept
}

func sumOf(order []int, p []float64) float64 {
	sum := 0.0
	for _, i := range order {
		sum += p[i]
	}
	return sum
}
