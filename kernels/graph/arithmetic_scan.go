package graph

import (
	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// Returns are discounted sums of rewards to come: a scan of the rewards, in which a token's coefficient says what it
// does to the sum behind it.
func (a *Arithmetic) Returns(r kernels.Scan, discount float64) ([]float64, error) {
	rules := rulesOf(r)
	vectors := [][]float64{rules.taken(r.Rewards), rules.carried(discount), rules.counted}
	out, err := a.compute("returns", r.Bounds, vectors, nil, func(b *builder, in operands) []*G.Node {
		rewards, carried, counted := in.vector(), in.vector(), in.vector()
		return []*G.Node{b.mul(counted, b.scan(rewards, carried))}
	})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// GAE returns the advantages of a critic. With v⁺ the value that a token sees behind it,
//
//	δ_t = r_t + discount·v⁺_t − v_t,  A_t = δ_t + discount·lambda·A_{t+1}
//
// Schulman et al., arXiv 1506.02438, eq. 16.
func (a *Arithmetic) GAE(r kernels.Scan, values []float64, discount, lambda float64) ([]float64, error) {
	rules := rulesOf(r)
	vectors := [][]float64{
		rules.taken(r.Rewards), rules.taken(values), rules.passes, rules.steps, rules.carried(discount * lambda), rules.counted,
	}
	out, err := a.compute("gae", r.Bounds, vectors, []float64{discount}, func(b *builder, in operands) []*G.Node {
		rewards, values, passes, steps, carried, counted := in.vector(), in.vector(), in.vector(), in.vector(), in.vector(), in.vector()
		behind := b.gather(following, b.scan(values, passes))
		delta := b.sub(b.add(rewards, b.mul(in.number(), behind)), values)
		return []*G.Node{b.mul(counted, b.scan(b.mul(steps, delta), carried))}
	})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// between are the rules of a [kernels.Between] as numbers, one per token.
type between struct {
	scan kernels.Scan
	// counted is 1 at the policy's tokens, passes at those that are skipped, and steps at those at
	// which time passes.
	counted, passes, steps []float64
}

func rulesOf(r kernels.Scan) between {
	n := len(r.Rewards)
	rules := between{scan: r, counted: make([]float64, n), passes: make([]float64, n), steps: make([]float64, n)}
	for t, counted := range r.Counted {
		switch {
		case counted:
			rules.counted[t], rules.steps[t] = 1, 1
		case r.Between == kernels.BetweenSkip:
			rules.passes[t] = 1
		case r.Between != kernels.BetweenReset:
			rules.steps[t] = 1
		}
	}
	return rules
}

// taken are the values that count, and 0 elsewhere.
func (r between) taken(values []float64) []float64 {
	out := make([]float64, len(values))
	for t, v := range values {
		if r.scan.Counted[t] || r.scan.Between == kernels.BetweenPlain {
			out[t] = v
		}
	}
	return out
}

// carried are the coefficients of a scan: what is left of a sum where time passes, all of it where a token is skipped,
// nothing where the pass starts anew.
func (r between) carried(decay float64) []float64 {
	out := make([]float64, len(r.steps))
	for t := range out {
		out[t] = r.passes[t] + decay*r.steps[t]
	}
	return out
}
