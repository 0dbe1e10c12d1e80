package decode

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// shares are the probabilities of the next token by the model's own scores, tempered and cut in the words of
// sampler.Request.
func shares(t *testing.T, m *policy.Model, r sampler.Request) []float64 {
	t.Helper()
	p := make([]float64, m.Config().VocabSize)
	order := make([]int, len(p)) // likeliest first
	for token := range p {
		order[token] = token
		p[token] = math.Exp(float64(score(t, m, r, []int32{int32(token)}, r.Temperature).LogProbs[0]))
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[b], p[a]) })
	// keep cuts the tokens that it should not keep, given their rank, their share and that of those before.
	keep := func(should func(rank int, share, before float64) bool) {
		before, total := 0.0, 0.0
		for rank, token := range order {
			share := p[token]
			if !should(rank, share, before) {
				p[token] = 0
			}
			before += share
			total += p[token]
		}
		for token := range p {
			p[token] /= total
		}
	}
	if r.TopK > 0 {
		keep(func(rank int, _, _ float64) bool { return rank < r.TopK })
	}
	if r.TopP > 0 {
		keep(func(_ int, _, before float64) bool { return before < r.TopP })
	}
	most := p[order[0]]
	keep(func(_ int, share, _ float64) bool { return share >= r.MinP*most })
	return p
}

// TestSamplingFollowsTheDistribution counts what many seeds sample and compares it, and the log-probabilities
// reported, with what the model scores.
func TestSamplingFollowsTheDistribution(t *testing.T) {
	c := family(policy.Qwen3)
	c.VocabSize = 7
	m := newModel(t, c, 4)
	e := newEngine(t, Config{Slots: 64}, snapshot(t, m))
	for name, r := range map[string]sampler.Request{
		"plain":    {Temperature: 1},
		"tempered": {Temperature: 0.6},
		"top k":    {Temperature: 1, TopK: 3},
		"top p":    {Temperature: 1.3, TopP: 0.7},
		"min p":    {Temperature: 0.8, MinP: 0.35},
		"all cuts": {Temperature: 1.2, TopK: 5, TopP: 0.9, MinP: 0.3},
	} {
		t.Run(name, func(t *testing.T) {
			r.Tokens, r.MaxTokens = []int32{1, 2, 3}, 1
			const n, callers = 4000, 8
			want := shares(t, m, r)
			counts := make([]float64, c.VocabSize)
			var mu sync.Mutex
			var wait sync.WaitGroup
			for caller := range callers {
				wait.Go(func() {
					for i := range n / callers {
						one := r
						one.Seed = uint64(caller*n + i)
						got, err := e.Generate(context.Background(), one)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						counts[got.Tokens[0]]++
						mu.Unlock()
						if p := math.Exp(float64(got.SamplingLogProbs[0])); math.Abs(p-want[got.Tokens[0]]) > 1e-5 {
							t.Errorf("token %d has sampling probability %v, want %v", got.Tokens[0], p, want[got.Tokens[0]])
							return
						}
					}
				})
			}
			wait.Wait()
			chi, kept := 0.0, 0
			for token, share := range want {
				if share == 0 {
					if counts[token] > 0 {
						t.Errorf("token %d is cut and was sampled %v times", token, counts[token])
					}
					continue
				}
				kept++
				chi += (counts[token] - n*share) * (counts[token] - n*share) / (n * share)
			}
			// At most six degrees of freedom: 27.9 has probability 1e-4. The seeds are fixed, so the value is too.
			if chi > 27.9 || kept < 2 || (r.TopK > 0 || r.TopP > 0 || r.MinP > 0) && kept == len(want) {
				t.Errorf("χ² = %.1f over %v, expected shares %v", chi, counts, want)
			}
		})
	}
}
