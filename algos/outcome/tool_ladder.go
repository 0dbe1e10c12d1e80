package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// ToolLadder rewards the answer, and where that is wrong, the use of tools:
//
//	R = 0               any turn malformed
//	R = Correct         verdict ≥ Threshold
//	R = mean of ladder  otherwise
//
// The ladder has the [Rungs] of the calls in order and −1 for a turn without calls. Zeros at its end are cut
// off, then it ends before its first −1; an empty ladder is worth 0. As Correct is more than any ladder, tools
// stay optional. AdaReasoner, AdaTG/verl/utils/reward_score/unified_tool.py.
type ToolLadder struct {
	// Correct is the reward of a right answer. Default 8.
	Correct float64 `yaml:"correct"`
	// Threshold is the least verdict of a right answer. Default 1.
	Threshold float64 `yaml:"threshold"`
}

// Validate reports settings that are not finite.
func (r ToolLadder) Validate() error {
	if err := fact.Finite("correct", r.Correct); err != nil {
		return err
	}
	return fact.Finite("threshold", r.Threshold)
}

// Outcomes returns the reward of each trajectory.
func (r ToolLadder) Outcomes(g *scored.Group) ([]float64, error) {
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		verdict, err := fact.Verdict(t)
		switch {
		case err != nil:
			return 0, err
		case !wellFormed(t):
			return 0, nil
		case verdict >= r.Threshold:
			return r.Correct, nil
		}
		return ladder(t)
	})
}

func ladder(t *rollout.Trajectory) (float64, error) {
	var values []float64
	for k := range t.Turns {
		rungs, err := Rungs(t, k)
		if err != nil {
			return 0, err
		}
		if len(rungs) == 0 {
			rungs = []float64{-1}
		}
		values = append(values, rungs...)
	}
	for len(values) > 0 && values[len(values)-1] == 0 {
		values = values[:len(values)-1]
	}
	total, n := 0.0, 0
	for _, value := range values {
		if value == -1 {
			break
		}
		total, n = total+value, n+1
	}
	return total / float64(max(n, 1)), nil
}

// wellFormed is true when every turn parses strictly.
func wellFormed(t *rollout.Trajectory) bool {
	for _, turn := range t.Turns {
		if !turn.FormatOK {
			return false
		}
	}
	return true
}
