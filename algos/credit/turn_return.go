package credit

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/scored"
)

// TurnReturn scores a turn by what follows it:
//
//	D_k = Σ_{j ≥ k} Discount^{j−k}·r_j
//
// Observations between turns are not counted as time. MatchTIR (λ 0.9), arXiv 2601.10712; GTPO (γ 0.9),
// arXiv 2511.14846, eq. 6.
type TurnReturn struct {
	// Discount is in [0, 1]. Default 0.9.
	Discount float64 `yaml:"discount"`
}

// Validate reports a discount outside [0, 1].
func (r TurnReturn) Validate() error {
	if !(r.Discount >= 0 && r.Discount <= 1) {
		return fmt.Errorf("discount: %v is outside [0, 1]", r.Discount)
	}
	return nil
}

// Level is the turn.
func (TurnReturn) Level() Level { return Turn }

// NeedsOutcome is false: the outcome counts only where a turn-reward rule has put it.
func (TurnReturn) NeedsOutcome() bool { return false }

// NeedsTurns is true.
func (TurnReturn) NeedsTurns() bool { return true }

// Scores returns the returns of every turn.
func (r TurnReturn) Scores(g *scored.Group) ([][]float64, error) {
	out := make([][]float64, len(g.Turns))
	for i, rewards := range g.Turns {
		out[i] = make([]float64, len(rewards))
		next := 0.0
		for k := len(rewards) - 1; k >= 0; k-- {
			next = rewards[k] + r.Discount*next
			out[i][k] = next
		}
	}
	return out, nil
}
