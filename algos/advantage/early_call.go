package advantage

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// EarlyCall moves the advantages of a group's eligible rollouts E, those that are correct and called the tool,
// by how early they did:
//
//	A_i ← A_i + clip(Delta·(p_i − mean_E p)/mean_E L, −Bound·|A_i|, Bound·|A_i|),  i ∈ E
//
// p is where the first turn with a call of the tool that parses begins and L is where the rollout ends, both in
// tokens from its first sampled one, observations included. A negative Delta rewards early calls; the bound keeps an advantage's
// sign for Bound < 1. Other rollouts are left as they are. ASPO, arXiv 2508.19201.
type EarlyCall struct {
	// Tool is the name of the tool whose call counts; "" is any. Default "".
	Tool string `yaml:"tool"`
	// Delta is how much the place of the call matters. Default −2.
	Delta float64 `yaml:"delta"`
	// Bound limits the change to a part of the advantage; at least 0. Default 0.7.
	Bound float64 `yaml:"bound"`
	// Correct is the shaped outcome from which on a rollout is correct. Default 0.5.
	Correct float64 `yaml:"correct"`
}

// NewEarlyCall returns EarlyCall with its defaults.
func NewEarlyCall() EarlyCall { return EarlyCall{Delta: -2, Bound: 0.7, Correct: 0.5} }

// NeedsOutcome is true: what is correct is told by it.
func (EarlyCall) NeedsOutcome() bool { return true }

// Validate reports settings out of range.
func (e EarlyCall) Validate() error {
	if math.IsNaN(e.Delta) || math.IsInf(e.Delta, 0) {
		return fmt.Errorf("delta: %v is not a finite number", e.Delta)
	}
	if !(e.Bound >= 0) || math.IsInf(e.Bound, 0) {
		return fmt.Errorf("bound: %v must be a finite number, at least 0", e.Bound)
	}
	return nil
}

// Transform moves the advantages of eligible rollouts.
func (e EarlyCall) Transform(b *Batch) error {
	for gi, g := range b.Groups {
		var eligible []int
		starts, length := make([]float64, len(g.Trajectories)), 0.0
		mean := 0.0
		for i := range g.Trajectories {
			start, called := e.start(g, i)
			if !g.Kept(i) || !called || g.Outcome[i] < e.Correct {
				continue
			}
			eligible, starts[i] = append(eligible, i), start
			mean += start
			length += float64(len(g.Trajectories[i].Tokens) - g.Trajectories[i].Turns[0].Start)
		}
		n := float64(len(eligible))
		for _, i := range eligible {
			shift := e.Delta * (starts[i] - mean/n) / (length / n)
			for _, turn := range g.Trajectories[i].Turns {
				for t := turn.Start; t < turn.End; t++ {
					limit := e.Bound * math.Abs(b.Tokens[gi][i][t])
					b.Tokens[gi][i][t] += min(max(shift, -limit), limit)
				}
			}
		}
	}
	return nil
}

// start is where trajectory i first calls the tool, and whether it does.
func (e EarlyCall) start(g *scored.Group, i int) (float64, bool) {
	turns := g.Trajectories[i].Turns
	for _, turn := range turns {
		for _, call := range turn.Calls {
			if parses(call) && (e.Tool == "" || call.Name == e.Tool) {
				return float64(turn.Start - turns[0].Start), true
			}
		}
	}
	return 0, false
}
