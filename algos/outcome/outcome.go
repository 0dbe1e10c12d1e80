// Package outcome holds the rules that give a trajectory its outcome reward.
package outcome

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// Rule gives each trajectory one reward for its result.
type Rule interface {
	// Outcomes returns one reward per trajectory; that of a dropped trajectory is not read.
	Outcomes(g *scored.Group) ([]float64, error)
}

// Table lists every outcome rule.
var Table = []scored.Variant{
	{Name: "verifier", Doc: "the environment's verdict, as recorded with the trajectory", New: func() any { return Verifier{} }},
	{Name: "answer_f1", Doc: "token-set F1 of the answer and the gold answer", Cite: "MatchTIR, arXiv 2601.10712, answer reward", New: func() any { return AnswerF1{} }},
	{Name: "none", Doc: "no outcome reward: 0", New: func() any { return None{} }},
}

// Verifier uses the verdict recorded with the trajectory.
type Verifier struct{}

// Outcomes returns the recorded verdicts. A kept trajectory without one is an error.
func (Verifier) Outcomes(g *scored.Group) ([]float64, error) {
	out := make([]float64, len(g.Trajectories))
	for i, t := range g.Trajectories {
		switch {
		case !g.Kept(i):
		case t.Outcome == nil:
			return nil, fmt.Errorf("trajectory %s: outcome is null: record a verdict, or let the method compute it with outcome.type answer_f1", t.ID)
		case math.IsNaN(*t.Outcome) || math.IsInf(*t.Outcome, 0):
			return nil, fmt.Errorf("trajectory %s: outcome is %v, want a finite number", t.ID, *t.Outcome)
		default:
			out[i] = *t.Outcome
		}
	}
	return out, nil
}

// None gives no outcome reward.
type None struct{}

// Outcomes returns zeros.
func (None) Outcomes(g *scored.Group) ([]float64, error) {
	return make([]float64, len(g.Trajectories)), nil
}
