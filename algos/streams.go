package algos

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/rollout"
)

// streams turns the advantages of a batch into what the learner reads.
func (m Method) streams(b *advantage.Batch) ([]rollout.Streams, error) {
	var out []rollout.Streams
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			s := rollout.Streams{
				Trajectory: g.Trajectories[i].ID,
				Kept:       g.Kept(i),
				Reason:     g.Reason[i],
				Outcome:    g.Outcome[i],
				Advantage:  make([]float64, len(b.Tokens[gi][i])),
				Terms:      make([]rollout.Term, len(m.Advantage.Terms)),
			}
			if g.Turns != nil {
				s.TurnRewards = g.Turns[i]
			}
			for t, a := range b.Tokens[gi][i] {
				if math.IsNaN(a) || math.IsInf(a, 0) {
					return nil, fmt.Errorf("group %s: trajectory %s: token %d: the advantage is %v: a reward or score of the group is not finite",
						g.ID, s.Trajectory, t, a)
				}
				s.Advantage[t] = a
			}
			for j, term := range m.Advantage.Terms {
				s.Terms[j] = rollout.Term{Name: term.Name, Weight: term.Weight, Turns: b.Terms[gi][i][j]}
			}
			out = append(out, s)
		}
	}
	return out, nil
}
