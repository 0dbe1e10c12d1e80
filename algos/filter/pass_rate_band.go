package filter

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/outcome"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// RateOf says what a group's pass rate is the share of.
type RateOf string

const (
	RateOutcome  RateOf = "outcome"  // members with an outcome of at least the threshold
	RateMajority RateOf = "majority" // members with the answer that most members gave, where no verdict is known
)

// PassRateBand keeps a group whose pass rate p over its kept members lies in the band, bounds included:
//
//	keep where Low ≤ p ≤ High
//
// and drops the others with reason "pass_rate". The majority's share is that of the outcome rule majority, the same for all
// parts of a method: over all members that may be trained, whoever an earlier filter dropped; one without an
// answer counts among the members and for no answer. Agent0 (majority, 0.3 to 0.7 in executor_train; its
// advantage scaling assumes 0.3 to 0.8); VISTA-Gym's tail patch (outcome, 0.125 to 0.375).
type PassRateBand struct {
	// Low is the smallest pass rate that is kept. Default 0.3.
	Low float64 `yaml:"low"`
	// High is the largest. Default 0.7.
	High float64 `yaml:"high"`
	// Of says what the pass rate is the share of. Default outcome.
	Of RateOf `yaml:"of" jsonschema:"enum=outcome,enum=majority"`
	// Threshold is the outcome from which on a member has passed; unused with majority. Default 0.5.
	Threshold float64 `yaml:"threshold"`
	// Normalize says what equal answers may differ in: text ignores case and spacing, words also punctuation and
	// articles; unused with outcome. Default text.
	Normalize outcome.Normalization `yaml:"normalize" jsonschema:"enum=text,enum=words"`
	// KeepAllIfEmpty drops nothing when that would leave no trajectory of the batch. Default false.
	KeepAllIfEmpty bool `yaml:"keep_all_if_empty"`
}

// NewPassRateBand returns PassRateBand with its defaults.
func NewPassRateBand() PassRateBand {
	return PassRateBand{Low: 0.3, High: 0.7, Of: RateOutcome, Threshold: 0.5, Normalize: outcome.Text}
}

// Validate reports settings that are unknown or out of range.
func (f PassRateBand) Validate() error {
	switch {
	case !(f.Low >= 0 && f.Low <= 1):
		return fmt.Errorf("low: %v must lie between 0 and 1", f.Low)
	case !(f.High >= f.Low && f.High <= 1):
		return fmt.Errorf("high: %v must lie between low %v and 1", f.High, f.Low)
	case f.Of != RateOutcome && f.Of != RateMajority:
		return fmt.Errorf("of: unknown value %q: use outcome or majority", f.Of)
	}
	if err := f.Normalize.Validate(); err != nil {
		return err
	}
	return fact.Finite("threshold", f.Threshold)
}

// Drop drops the groups outside the band. Groups without kept members are left alone.
func (f PassRateBand) Drop(groups []*scored.Group) error {
	dropGroups(groups, f.KeepAllIfEmpty, "pass_rate", func(g *scored.Group) bool {
		members := kept(g)
		if len(members) == 0 {
			return true
		}
		p := f.rate(g, members)
		return p >= f.Low && p <= f.High
	})
	return nil
}

func (f PassRateBand) rate(g *scored.Group, members []int) float64 {
	if f.Of == RateMajority {
		_, share := outcome.Vote(g, f.Normalize)
		return share
	}
	return float64(correct(g, members, f.Threshold)) / float64(len(members))
}
