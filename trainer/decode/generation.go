package decode

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// generation is one request under way. The batch writes result and err before it closes done.
type generation struct {
	sequence sequence
	sampling device.Sampling // without Uniform
	seed     uint64
	stop     []int32
	names    []string // of the stop strings
	strings  stopStrings
	limit    int // of sampled tokens
	ended    bool
	result   sampler.Result
	err      error
	done     chan struct{}
}

// roomAtOnce is how many tokens a result has room for from the start. Longer ones grow, so that a
// generous limit does not hold memory.
const roomAtOnce = 1024

// newGeneration prepares a checked request; limit is the most tokens it may sample.
func newGeneration(r sampler.Request, limit int) *generation {
	g := &generation{
		sampling: device.Sampling{Temperature: float32(r.Temperature), TopK: r.TopK, TopP: float32(r.TopP), MinP: float32(r.MinP)},
		seed:     r.Seed, stop: slices.Clone(r.Stop), names: slices.Clone(r.StopStrings),
		strings: newStopStrings(r.StopStrings), limit: limit, done: make(chan struct{}),
	}
	if r.TopP == 0 {
		g.sampling.TopP = 1
	}
	room := min(limit, roomAtOnce)
	tokens := make([]int32, len(r.Tokens), len(r.Tokens)+room)
	copy(tokens, r.Tokens)
	table := make([]int32, 0, pagesFor(len(r.Tokens)+room))
	g.sequence = sequence{name: r.Sequence, tokens: tokens, table: table, generation: g}
	numbers := make([]float32, 4*room)
	part := func(i int) []float32 { return numbers[i*room : i*room : (i+1)*room] }
	g.result = sampler.Result{
		Tokens: make([]int32, 0, room), Versions: make([]rollout.Version, 0, room),
		LogProbs: part(0), SamplingLogProbs: part(1), UntemperedLogProbs: part(2), Entropies: part(3),
	}
	return g
}

// how says how the token behind the next so many is drawn.
func (g *generation) how(behind int) device.Sampling {
	how := g.sampling
	how.Uniform = uniform(g.seed, uint64(len(g.result.Tokens)+behind))
	return how
}

// closing reports whether the next token is the last one, whatever it is.
func (g *generation) closing() bool { return len(g.result.Tokens)+1 == g.limit }

// take appends a sampled token and reports whether it is the last.
func (g *generation) take(chosen device.Sampled, version rollout.Version, text []byte) bool {
	r := &g.result
	g.sequence.tokens = append(g.sequence.tokens, chosen.Token)
	r.Tokens = append(r.Tokens, chosen.Token)
	r.LogProbs = append(r.LogProbs, chosen.LogProb)
	r.SamplingLogProbs = append(r.SamplingLogProbs, chosen.SamplingLogProb)
	r.UntemperedLogProbs = append(r.UntemperedLogProbs, chosen.UntemperedLogProb)
	r.Entropies = append(r.Entropies, chosen.Entropy)
	r.Versions = append(r.Versions, version)
	if slices.Contains(g.stop, chosen.Token) {
		r.Finish = sampler.FinishStop
		return true
	}
	if len(g.names) > 0 {
		if which, beyond := g.strings.add(text); which >= 0 {
			r.Finish, r.StopString, r.StopBeyond = sampler.FinishStop, g.names[which], beyond
			return true
		}
	}
	if len(r.Tokens) == g.limit {
		r.Finish = sampler.FinishLength
		return true
	}
	return false
}

// finish hands the result to the caller.
func (g *generation) finish(err error) {
	g.ended, g.err = true, err
	close(g.done)
}

// limits are what requests are checked against.
type limits struct {
	positions, vocabulary, pages int
	text                         bool // whether the bytes of tokens are known
}

// check reports what is wrong with a request, by field and range.
func (l limits) check(r sampler.Request) error {
	switch {
	case len(r.Tokens) == 0:
		return errors.New("no tokens to continue")
	case len(r.Tokens) > l.positions:
		return fmt.Errorf("%d tokens, the engine reads at most %d: shorten the context", len(r.Tokens), l.positions)
	case r.MaxTokens < 1:
		return fmt.Errorf("max tokens is %d, must be positive", r.MaxTokens)
	case r.TopK < 0:
		return fmt.Errorf("top k is %d, must be 0 (all tokens) or positive", r.TopK)
	case !(r.TopP >= 0 && r.TopP <= 1) || r.TopP > 0 && float32(r.TopP) == 0:
		return fmt.Errorf("top p is %v, must be in (0, 1], or 0 for all tokens", r.TopP)
	case !(r.MinP >= 0 && r.MinP <= 1):
		return fmt.Errorf("min p is %v, must be in [0, 1]", r.MinP)
	case len(r.StopStrings) > 0 && !l.text:
		return errors.New("stop strings need the bytes of tokens: start the engine with TokenBytes")
	case slices.Contains(r.StopStrings, ""):
		return fmt.Errorf("stop string %d is empty, it would end every turn", slices.Index(r.StopStrings, ""))
	}
	return errors.Join(checkTemperature(r.Temperature), l.checkTokens("token", r.Tokens), l.checkTokens("stop token", r.Stop), l.checkPages(r))
}

func checkTemperature(t float64) error {
	switch {
	case !(t >= 0) || math.IsInf(t, 0):
		return fmt.Errorf("temperature is %v, must be 0 (greedy) or positive and finite", t)
	case t > 0 && (float32(t) == 0 || math.IsInf(float64(1/float32(t)), 0)):
		return fmt.Errorf("temperature is %v, too small to divide by; use 0 for greedy", t)
	case math.IsInf(float64(float32(t)), 0):
		return fmt.Errorf("temperature is %v, too large for float32", t)
	}
	return nil
}

func (l limits) checkTokens(what string, tokens []int32) error {
	for i, t := range tokens {
		if t < 0 || int(t) >= l.vocabulary {
			return fmt.Errorf("%s %d is %d, the vocabulary has %d", what, i, t, l.vocabulary)
		}
	}
	return nil
}

// room is the most tokens that a request may sample. The last one needs no position of its own in the
// cache, but the context with it must be one the network can read.
func (l limits) room(r sampler.Request) int { return min(r.MaxTokens, l.positions-len(r.Tokens)) }

// checkPages makes sure that a request comes to its end when it is alone, whatever others hold now.
func (l limits) checkPages(r sampler.Request) error {
	if need := pagesFor(len(r.Tokens) + l.room(r) - 1); need > l.pages {
		return fmt.Errorf("%d tokens and up to %d more need %d pages of %d positions, the cache has %d: raise cache_bytes or lower max tokens",
			len(r.Tokens), l.room(r), need, pageTokens, l.pages)
	}
	return nil
}
