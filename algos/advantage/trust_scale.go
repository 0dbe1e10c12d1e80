package advantage

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/outcome"
)

// TrustScale scales a group's advantages by how far its label can be trusted, where the label is the majority's
// answer:
//
//	A ← A·(Floor + (1 − Floor)·clip((p̂ − Low)/(High − Low), 0, 1))
//
// p̂ is a recorded score, or the share of the group's rollouts that gave the most frequent answer, as the outcome rule
// majority counts it. ADPO in Agent0, arXiv 2511.16043, executor_train/verl_tool/trainer/ppo/core_algos.py; its script
// has Floor 0.6, its code 0.5.
type TrustScale struct {
	// Score is the name of the recorded score that is p̂; "" is the majority's share. Default "".
	Score string `yaml:"score"`
	// Normalize says what equal answers may differ in: text ignores case and spacing, words also punctuation and
	// articles. Unused with a score. Default text.
	Normalize outcome.Normalization `yaml:"normalize" jsonschema:"enum=text,enum=words"`
	// Floor is the factor where p̂ ≤ Low, in [0, 1]. Default 0.6.
	Floor float64 `yaml:"floor"`
	// Low is where the factor begins to rise. Default 0.3.
	Low float64 `yaml:"low"`
	// High is where it is 1. Default 0.8.
	High float64 `yaml:"high"`
}

// NewTrustScale returns TrustScale with its defaults.
func NewTrustScale() TrustScale {
	return TrustScale{Normalize: outcome.Text, Floor: 0.6, Low: 0.3, High: 0.8}
}

// Validate reports settings out of range.
func (s TrustScale) Validate() error {
	if err := s.Normalize.Validate(); err != nil {
		return err
	}
	if !(s.Floor >= 0 && s.Floor <= 1) {
		return fmt.Errorf("floor: %v is outside [0, 1]", s.Floor)
	}
	if math.IsNaN(s.Low) || math.IsInf(s.Low, 0) || !(s.High > s.Low) || math.IsInf(s.High, 0) {
		return fmt.Errorf("high: %v must be a finite number above low, %v", s.High, s.Low)
	}
	return nil
}

// Transform scales the batch.
func (s TrustScale) Transform(b *Batch) error {
	for gi, g := range b.Groups {
		_, share := outcome.Vote(g, s.Normalize)
		for i := range g.Trajectories {
			if !g.Kept(i) {
				continue
			}
			trust := share
			if s.Score != "" {
				var err error
				if trust, err = fact.Score(&g.Trajectories[i], s.Score); err != nil {
					return fmt.Errorf("group %s: %w", g.ID, err)
				}
			}
			for k := range g.Trajectories[i].Turns {
				b.scaleTurn(gi, i, k, s.factor(trust))
			}
		}
	}
	return nil
}

func (s TrustScale) factor(trust float64) float64 {
	return s.Floor + (1-s.Floor)*min(max((trust-s.Low)/(s.High-s.Low), 0), 1)
}
