package credit

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// SegmentBroadcast is [Broadcast] for rollouts whose context was summarised on the way, so that each is recorded as
// several trajectories. Members of a group with the same recorded score, by the name in Rollout, are segments of one
// rollout. Its reward is that of the last kept segment; it is compared once, however many segments there are, and
// all of them get the result:
//
//	A_{i,s} = (R_i − centre)/(scale + ε),  statistics over rollouts i, not over segments s
//
// SUPO, arXiv 2510.06727; verl's advantage of several trajectories per session.
type SegmentBroadcast struct {
	// Of says which rewards count. Default outcome.
	Of Of `yaml:"of" jsonschema:"enum=outcome,enum=turns,enum=total"`
	// Rollout is the name of the score that numbers the rollouts of a group. Default rollout.
	Rollout string `yaml:"rollout"`
}

// Validate reports an unknown setting and a missing name.
func (r SegmentBroadcast) Validate() error {
	if r.Rollout == "" {
		return fmt.Errorf("rollout: empty: name the recorded score that numbers the rollouts of a group")
	}
	return r.Of.validate()
}

// Level is the trajectory.
func (SegmentBroadcast) Level() Level { return Trajectory }

// NeedsOutcome is true when the outcome counts.
func (r SegmentBroadcast) NeedsOutcome() bool { return r.Of.outcome() }

// NeedsTurns is true when turn rewards count.
func (r SegmentBroadcast) NeedsTurns() bool { return r.Of.turns() }

// Scores returns the total of each trajectory's rollout.
func (r SegmentBroadcast) Scores(b *scored.Batch) ([][][]float64, error) {
	scores, err := Broadcast{Of: r.Of}.Scores(b)
	if err != nil {
		return nil, err
	}
	for gi, g := range b.Groups {
		last, err := r.Representatives(g)
		if err != nil {
			return nil, err
		}
		for i := range scores[gi] {
			scores[gi][i][0] = scores[gi][last[i]][0]
		}
	}
	return scores, nil
}

// Representatives returns the last kept segment of each trajectory's rollout; a dropped trajectory stands for
// itself. len = trajectories.
func (r SegmentBroadcast) Representatives(g *scored.Group) ([]int, error) {
	rollouts, last := make([]float64, len(g.Trajectories)), map[float64]int{}
	for i := range g.Trajectories {
		if !g.Kept(i) {
			continue
		}
		number, err := fact.Score(&g.Trajectories[i], r.Rollout)
		if err != nil {
			return nil, fmt.Errorf("group %s: %w", g.ID, err)
		}
		rollouts[i], last[number] = number, i
	}
	out := make([]int, len(g.Trajectories))
	for i := range out {
		out[i] = i
		if g.Kept(i) {
			out[i] = last[rollouts[i]]
		}
	}
	return out, nil
}
