// Package scored holds a group together with the rewards its trajectories have earned so far.
//
// Parts of a method read and extend a [Group] one after another: outcome and turn-reward rules fill
// it, shapers edit it, filters give reasons to drop, credit rules read it.
package scored

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Group is a group with its rewards.
type Group struct {
	rollout.Group
	// Outcome is each trajectory's outcome reward. len = trajectories.
	Outcome []float64
	// Turns are each trajectory's rewards at its turns. len = trajectories, then turns; nil when the
	// method has no turn rewards.
	Turns [][]float64
	// Reason says why a trajectory is dropped, "" while it is kept. A dropped trajectory is in no
	// comparison and its advantages are 0. len = trajectories.
	Reason []string
	// Tokens are rewards at single tokens, a penalty for divergence for example; they count beside those
	// of turns, which lie at a turn's last token. len = trajectories, then tokens; nil when there are none.
	Tokens [][]float64
	// LossWeights, CEWeights and ReferenceKLWeights are per-token streams for the learner. len =
	// trajectories, then tokens; nil, as a whole or for one trajectory, means none were given.
	LossWeights, CEWeights, ReferenceKLWeights [][]float64
	// ClipHigh is each trajectory's own upper clip bound, NaN for none. len = trajectories, or nil.
	ClipHigh []float64
	// RankScores order the trajectories of the group. len = trajectories; nil when the method does not rank.
	RankScores []float64
	// Pairs are preferences between two members.
	Pairs []Pair
	// Multiplicity is how many copies of the group its batch stands for, where a filter refills the batch with
	// copies of informative groups; 0 and 1 both mean one. Transforms read it.
	Multiplicity int
}

// Pair is a preference between two trajectories of a group, by index.
type Pair struct{ Chosen, Rejected int }

// Batch is the groups of one step, for parts that look at all of them at once.
type Batch struct {
	Groups []*Group
	// Arithmetic computes what is worth a kernel.
	Arithmetic kernels.Arithmetic
}

// Variant is one row of a table of parts.
type Variant = kernels.Variant

// New returns the group without rewards, after checking that its trajectories keep the contract:
// sampled flags for every token, and turns that are exactly the maximal sampled runs, in order.
func New(group rollout.Group) (*Group, error) {
	g := &Group{
		Group:   group,
		Outcome: make([]float64, len(group.Trajectories)),
		Reason:  make([]string, len(group.Trajectories)),
	}
	for i := range group.Trajectories {
		if err := check(&group.Trajectories[i]); err != nil {
			return nil, fmt.Errorf("group %s: trajectory %s: %w", group.ID, group.Trajectories[i].ID, err)
		}
	}
	return g, nil
}

func check(t *rollout.Trajectory) error {
	if len(t.Sampled) != len(t.Tokens) {
		return fmt.Errorf("sampled: %d values for %d tokens", len(t.Sampled), len(t.Tokens))
	}
	for _, stream := range []struct {
		name   string
		values []float32
	}{
		{"behavior_logprobs", t.BehaviorLogProbs}, {"entropies", t.Entropies},
		{"values", t.Values}, {"reference_logprobs", t.ReferenceLogProbs},
	} {
		if stream.values != nil && len(stream.values) != len(t.Tokens) {
			return fmt.Errorf("%s: %d values for %d tokens", stream.name, len(stream.values), len(t.Tokens))
		}
	}
	end := 0
	for k, turn := range t.Turns {
		if turn.Start < end || turn.End <= turn.Start || turn.End > len(t.Tokens) {
			return fmt.Errorf("turns[%d]: tokens [%d, %d) do not lie after the previous turn's end %d and within %d tokens",
				k, turn.Start, turn.End, end, len(t.Tokens))
		}
		if err := checkRun(t, end, turn.Start, false); err != nil {
			return fmt.Errorf("turns[%d]: %w", k, err)
		}
		if err := checkRun(t, turn.Start, turn.End, true); err != nil {
			return fmt.Errorf("turns[%d]: %w", k, err)
		}
		if k > 0 && turn.Start == end {
			return fmt.Errorf("turns[%d]: starts at %d where turns[%d] ends: one sampled run is one turn", k, turn.Start, k-1)
		}
		end = turn.End
	}
	return checkRun(t, end, len(t.Tokens), false)
}

func checkRun(t *rollout.Trajectory, from, to int, sampled bool) error {
	for i := from; i < to; i++ {
		if t.Sampled[i] != sampled {
			return fmt.Errorf("token %d: sampled is %t: turns must be exactly the sampled runs", i, t.Sampled[i])
		}
	}
	return nil
}

// Kept is true while trajectory i is not dropped.
func (g *Group) Kept(i int) bool { return g.Reason[i] == "" }

// TurnTotal is the sum of trajectory i's turn rewards; 0 when the method has none.
func (g *Group) TurnTotal(i int) float64 {
	if g.Turns == nil {
		return 0
	}
	total := 0.0
	for _, reward := range g.Turns[i] {
		total += reward
	}
	return total
}
