package advantage

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/credit"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// minusCritic spreads scores over tokens and subtracts the critic's value at each:
//
//	A_t = x_{unit of t} − V_t
func (t Term) minusCritic(b *scored.Batch, level credit.Level, scores [][][]float64) ([][][]float64, error) {
	out := make([][][]float64, len(b.Groups))
	for gi, g := range b.Groups {
		out[gi] = make([][]float64, len(g.Trajectories))
		for i := range g.Trajectories {
			if !g.Kept(i) {
				continue
			}
			if err := credit.CheckValues(g, i); err != nil {
				return nil, err
			}
			trajectory := &g.Trajectories[i]
			out[gi][i] = make([]float64, len(trajectory.Tokens))
			for k, turn := range trajectory.Turns {
				for p := turn.Start; p < turn.End; p++ {
					out[gi][i][p] = scores[gi][i][unit(level, k, p)] - float64(trajectory.Values[p])
				}
			}
		}
	}
	return out, nil
}

// minusGreedy subtracts the score of the group's greedy rollout, the first of its scores when it has several: a
// return from the start. ReMax, arXiv 2310.10505.
func (t Term) minusGreedy(b *scored.Batch, level credit.Level, scores [][][]float64) error {
	for gi, g := range b.Groups {
		baseline, found := 0.0, false
		for i := range g.Trajectories {
			trajectory := &g.Trajectories[i]
			if trajectory.Role != "greedy" || failed(trajectory) || len(trajectory.Turns) == 0 {
				continue
			}
			baseline, found = scores[gi][i][unit(level, 0, trajectory.Turns[0].Start)], true
			break
		}
		for i := range g.Trajectories {
			if !g.Kept(i) {
				continue
			}
			if !found {
				return fmt.Errorf(`group %s: no greedy rollout to compare with, and center is greedy: sample one member of each group greedily and record it with role "greedy"`, g.ID)
			}
			for unit := range scores[gi][i] {
				scores[gi][i][unit] -= baseline
			}
		}
	}
	return nil
}

// failed is true for an episode that says nothing about the policy.
func failed(t *rollout.Trajectory) bool {
	return t.Stop == rollout.StopToolFailure || t.Stop == rollout.StopCancelled
}

// minusAverage subtracts a moving average of the scores so far, one for each environment, and then updates it:
//
//	A_i = x_i − b,  b ← Decay·b + (1 − Decay)·x_i
//
// Trajectories come in batch order and every batch begins with b = 0. RAE, prime-rl orchestrator/algo rae.
func (t Term) minusAverage(b *scored.Batch, scores [][][]float64) {
	average := map[string]float64{}
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			if !g.Kept(i) {
				continue
			}
			score, before := scores[gi][i][0], average[g.Task.Env]
			average[g.Task.Env] = t.Decay*before + (1-t.Decay)*score
			scores[gi][i][0] = score - before
		}
	}
}
