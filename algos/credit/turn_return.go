package credit

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels"
)

// TurnReturn scores a turn by what follows it:
//
//	D_k = Σ_{j ≥ k} Discount^{j−k}·r_j
//
// Observations between turns are not counted as time; rewards at single tokens count with their turn. It is
// the return of MatchTIR (λ 0.9), arXiv 2601.10712; of GTPO (γ 0.9), arXiv 2511.14846, eq. 6; of GiGPO's steps
// (γ 0.95), arXiv 2505.10978; and of StepTool's (γ 0.99), arXiv 2410.07745.
type TurnReturn struct {
	// Discount is in [0, 1]. Default 0.9.
	Discount float64 `yaml:"discount"`
}

// Validate reports a discount outside [0, 1].
func (r TurnReturn) Validate() error { return fraction("discount", r.Discount) }

func fraction(key string, value float64) error {
	if !(value >= 0 && value <= 1) {
		return fmt.Errorf("%s: %v is outside [0, 1]", key, value)
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
func (r TurnReturn) Scores(b *scored.Batch) ([][][]float64, error) {
	flat, rewards := units(b, turnCount)
	scan := kernels.Scan{Rewards: flat, Bounds: []int32{0}, Counted: make([]bool, len(flat)), Between: kernels.BetweenSkip}
	for t := range scan.Counted {
		scan.Counted[t] = true
	}
	at := int32(0)
	for gi, g := range b.Groups {
		for i := range g.Trajectories {
			at += int32(turnCount(g, i))
			scan.Bounds = append(scan.Bounds, at)
			if read(g, i) {
				turnRewards(g, i, rewards[gi][i])
			}
		}
	}
	returns, err := b.Arithmetic.Returns(scan, r.Discount)
	if err != nil {
		return nil, err
	}
	return cut(b, returns, turnCount), nil
}

// turnRewards writes the rewards of trajectory i's turns.
func turnRewards(g *scored.Group, i int, into []float64) {
	for k, turn := range g.Trajectories[i].Turns {
		into[k] = tokenTotal(g, i, turn.Start, turn.End)
		if g.Turns != nil {
			into[k] += g.Turns[i][k]
		}
	}
}
