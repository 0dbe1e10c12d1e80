package shape

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// CalibrationRule is how a stated confidence is scored.
type CalibrationRule string

const (
	CalibrationCorrectness CalibrationRule = "correctness" // the answer alone
	CalibrationBrier       CalibrationRule = "brier"       // less the squared error of the confidence
	CalibrationLog         CalibrationRule = "log"         // plus the log-likelihood of the verdict
	CalibrationMargin      CalibrationRule = "margin"      // squared error on a leash: every correct answer beats every wrong one
)

// Calibration replaces the outcome by a score of the answer and of the confidence p that the policy stated.
// With y = 1 where R ≥ Threshold, else 0, and p limited to [Clamp, 1 − Clamp] in the logarithm,
//
//	correctness: R = y
//	brier:       R = y − (y − p)²
//	log:         R = y + y·log p + (1 − y)·log(1 − p)
//	margin:      R = y·(1 − b(1 − p)²) − (1 − y)·b·p²,  b = Spread
//
// margin puts correct answers in [1 − b, 1] and wrong ones in [−b, 0], 1 − b apart at least; brier lies in
// [−1, 1]. Confidence Dichotomy (CAR, MSCR), reconstructed: the paper's formulas are not public.
type Calibration struct {
	// Rule scores the confidence. Default margin.
	Rule CalibrationRule `yaml:"rule" jsonschema:"enum=correctness,enum=brier,enum=log,enum=margin"`
	// Spread is the weight b of margin, at most 0.5. Default 0.5.
	Spread float64 `yaml:"spread"`
	// Clamp keeps p this far from 0 and 1 in log. Default 0.01.
	Clamp float64 `yaml:"clamp"`
	// Threshold is the outcome from which on an answer is correct. Default 0.5.
	Threshold float64 `yaml:"threshold"`
	// Score names the recorded confidence, from 0 to 1; correctness does not read it. Default confidence.
	Score string `yaml:"score"`
}

// NewCalibration returns Calibration with its defaults.
func NewCalibration() Calibration {
	return Calibration{Rule: CalibrationMargin, Spread: 0.5, Clamp: 0.01, Threshold: 0.5, Score: "confidence"}
}

// Validate reports settings that are unknown or out of range.
func (s Calibration) Validate() error {
	if !(s.Clamp > 0 && s.Clamp < 0.5) {
		return fmt.Errorf("clamp: %v must lie between 0 and 0.5, both excluded", s.Clamp)
	}
	rules := []CalibrationRule{CalibrationCorrectness, CalibrationBrier, CalibrationLog, CalibrationMargin}
	return first(oneOf("rule", s.Rule, rules), within("spread", s.Spread, 0, 0.5), fact.Finite("threshold", s.Threshold), fact.Named("score", s.Score))
}

// Shape scores the outcomes.
func (s Calibration) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		correct, p := g.Outcome[i] >= s.Threshold, 0.0
		if s.Rule != CalibrationCorrectness {
			var err error
			if p, err = fact.Score(&g.Trajectories[i], s.Score); err != nil {
				return err
			}
			if p < 0 || p > 1 {
				return fmt.Errorf("trajectory %s: score %q is %v, want a confidence from 0 to 1", g.Trajectories[i].ID, s.Score, p)
			}
		}
		g.Outcome[i] = s.reward(correct, p)
	}
	return nil
}

func (s Calibration) reward(correct bool, p float64) float64 {
	y, likelihood := 0.0, 1-p
	if correct {
		y, likelihood = 1, p
	}
	switch s.Rule {
	case CalibrationBrier:
		return y - (1-likelihood)*(1-likelihood)
	case CalibrationLog:
		return y + math.Log(min(max(likelihood, s.Clamp), 1-s.Clamp))
	case CalibrationMargin:
		return y - s.Spread*(1-likelihood)*(1-likelihood)
	}
	return y
}
