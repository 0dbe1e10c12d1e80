package shape

import (
	"math"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// EfficiencyVariant says what few calls are measured by.
type EfficiencyVariant string

const (
	EfficiencyPPO   EfficiencyVariant = "ppo"   // each trajectory alone
	EfficiencyGroup EfficiencyVariant = "group" // the fewest calls of a correct member of the group
)

// ToolEfficiency multiplies the outcome by how few calls it took: R ← Alpha·r·R. With m the trajectory's calls,
// c = Smoothing and n the fewest calls of a correct kept member,
//
//	ppo:   r = cos(m·π/(2m + c))
//	group: r = 1 where m = n = 0;  cos(m·π/(2m + c)) where n = 0;  else sin(f·π/(2n)), f = 2nm/(m + n)
//
// r lies in [0, 1]; in the group form it is 1 exactly where m = n. Where no member is correct, r is 1 there.
// An outcome that is not positive is not multiplied: few calls must not earn a failure anything. The paper
// keeps n as a running minimum per task over the run; MinimumScore brings one in. OTC-PO, arXiv 2504.14870.
type ToolEfficiency struct {
	// Variant says what few calls are measured by. Default group.
	Variant EfficiencyVariant `yaml:"variant" jsonschema:"enum=ppo,enum=group"`
	// Alpha multiplies the result. Default 1.
	Alpha float64 `yaml:"alpha"`
	// Smoothing is c: the higher, the cheaper a call. Set it to the most calls an episode may make. Default 4.
	Smoothing float64 `yaml:"smoothing"`
	// Threshold is the outcome from which on a member is correct; variant group only. Default 0.5.
	Threshold float64 `yaml:"threshold"`
	// MinimumScore names a score with the fewest calls of any earlier correct trajectory of the task; n is
	// then no more than that. Default empty: the group alone.
	MinimumScore string `yaml:"minimum_score"`
	// Count says which calls count. Default issued.
	Count Counted `yaml:"count" jsonschema:"enum=issued,enum=valid,enum=ok"`
	// Tools limits the count to calls of these tools. Default none: all tools.
	Tools []string `yaml:"tools"`
}

// NewToolEfficiency returns ToolEfficiency with its defaults.
func NewToolEfficiency() ToolEfficiency {
	return ToolEfficiency{Variant: EfficiencyGroup, Alpha: 1, Smoothing: 4, Threshold: 0.5, Count: CountIssued}
}

// Validate reports settings that are unknown or out of range.
func (s ToolEfficiency) Validate() error {
	return first(oneOf("variant", s.Variant, []EfficiencyVariant{EfficiencyPPO, EfficiencyGroup}), fact.Positive("alpha", s.Alpha),
		fact.Positive("smoothing", s.Smoothing), fact.Finite("threshold", s.Threshold), oneOf("count", s.Count, Counteds))
}

// Shape multiplies the outcomes.
func (s ToolEfficiency) Shape(g *scored.Group) error {
	fewest, found := math.Inf(1), false
	for _, i := range kept(g) {
		if s.Variant != EfficiencyGroup {
			break
		}
		t := &g.Trajectories[i]
		if s.MinimumScore != "" {
			earlier, err := fact.Score(t, s.MinimumScore)
			if err != nil {
				return err
			}
			fewest, found = min(fewest, max(earlier, 0)), true
		}
		if g.Outcome[i] >= s.Threshold {
			fewest, found = min(fewest, float64(s.Count.calls(t, s.Tools))), true
		}
	}
	for _, i := range kept(g) {
		factor, m := 1.0, float64(s.Count.calls(&g.Trajectories[i], s.Tools))
		switch {
		case s.Variant == EfficiencyPPO:
			factor = s.alone(m)
		case found:
			factor = s.besides(m, fewest)
		}
		g.Outcome[i] = scale(g.Outcome[i], s.Alpha*factor)
	}
	return nil
}

// alone is r of m calls by themselves.
func (s ToolEfficiency) alone(m float64) float64 { return math.Cos(m * math.Pi / (2*m + s.Smoothing)) }

// besides is r of m calls where n would have done.
func (s ToolEfficiency) besides(m, n float64) float64 {
	switch {
	case m == 0 && n == 0:
		return 1
	case n == 0:
		return s.alone(m)
	}
	f := 2 * n * m / (m + n)
	return math.Sin(f * math.Pi / (2 * n))
}
