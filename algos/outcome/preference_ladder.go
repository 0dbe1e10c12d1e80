package outcome

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// PreferenceLadder orders candidate answers for a ranking loss:
//
//	R = Correct      the answer is right, and tools were used exactly when needed
//	R = Undecided    the answer is right, the decision about tools is not
//	R = Wrong[n]     the answer is wrong, with n closer ones in the group; the last rung is for all that follow
//
// Right is a verdict ≥ Threshold, needed scores["tool_needed"] ≥ 0.5, used any call at all, closer a greater
// scores["closeness"]; equally close answers share a rung. A wrong candidate without an answer is on the last
// rung and needs no closeness. TRICE, generate_data/score.py.
type PreferenceLadder struct {
	// Correct is the score of a right answer with the right decision. Default 20.
	Correct float64 `yaml:"correct"`
	// Undecided is the score of a right answer with the wrong decision. Default 15.
	Undecided float64 `yaml:"undecided"`
	// Wrong are the scores of wrong answers, the closest one's first, not increasing. Default 15, 10, 5, 0.
	Wrong []float64 `yaml:"wrong"`
	// Threshold is the least verdict of a right answer. Default 1.
	Threshold float64 `yaml:"threshold"`
}

// NewPreferenceLadder returns PreferenceLadder with its defaults.
func NewPreferenceLadder() PreferenceLadder {
	return PreferenceLadder{Correct: 20, Undecided: 15, Wrong: []float64{15, 10, 5, 0}, Threshold: 1}
}

// Validate reports settings that are missing, not finite or out of order.
func (r PreferenceLadder) Validate() error {
	if err := fact.Finite("correct", r.Correct); err != nil {
		return err
	}
	if err := fact.Finite("undecided", r.Undecided); err != nil {
		return err
	}
	if len(r.Wrong) == 0 {
		return fmt.Errorf("wrong: empty: list at least one score for wrong answers")
	}
	for n, score := range r.Wrong {
		if err := fact.Finite(fmt.Sprintf("wrong[%d]", n), score); err != nil {
			return err
		}
		if n > 0 && score > r.Wrong[n-1] {
			return fmt.Errorf("wrong[%d]: %v is more than %v before it: a closer answer has the greater score", n, score, r.Wrong[n-1])
		}
	}
	return fact.Finite("threshold", r.Threshold)
}

// Outcomes returns the scores.
func (r PreferenceLadder) Outcomes(g *scored.Group) ([]float64, error) {
	closeness, err := r.closeness(g)
	if err != nil {
		return nil, err
	}
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		verdict, err := fact.Verdict(t)
		switch {
		case err != nil:
			return 0, err
		case verdict < r.Threshold && t.Answer == "":
			return r.Wrong[len(r.Wrong)-1], nil
		case verdict < r.Threshold:
			own := t.Scores["closeness"]
			closer := 0
			for _, other := range closeness {
				if other > own {
					closer++
				}
			}
			return r.Wrong[min(closer, len(r.Wrong)-1)], nil
		}
		needed, err := fact.Score(t, "tool_needed")
		if err == nil && (needed >= 0.5) == usesTools(t) {
			return r.Correct, nil
		}
		return r.Undecided, err
	})
}

// closeness are the different values among the group's wrong answers.
func (r PreferenceLadder) closeness(g *scored.Group) ([]float64, error) {
	var out []float64
	_, err := each(g, func(t *rollout.Trajectory) (float64, error) {
		verdict, err := fact.Verdict(t)
		if err != nil || verdict >= r.Threshold || t.Answer == "" {
			return 0, err
		}
		x, err := fact.Score(t, "closeness")
		if !slices.Contains(out, x) {
			out = append(out, x)
		}
		return 0, err
	})
	return out, err
}

func usesTools(t *rollout.Trajectory) bool {
	return slices.ContainsFunc(t.Turns, func(turn rollout.Turn) bool { return len(turn.Calls) > 0 })
}
