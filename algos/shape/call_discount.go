package shape

import "github.com/turnwise-rl/turnwise/algos/scored"

// CallDiscount takes a share off the outcome of a trajectory that called one of the named tools:
//
//	R ← R·(1 − Discount) where any of Tools was called
//
// An outcome that is not positive stays. DeepEyesV2, verl/utils/reward_score/deepeyesv2.py, where weighted
// (outcome 0.8) and format_bonus (weight 0.2) follow.
type CallDiscount struct {
	// Tools are the tools that cost. Default search.
	Tools []string `yaml:"tools"`
	// Discount is the share taken off, once however many the calls. Default 0.1.
	Discount float64 `yaml:"discount"`
	// Count says which calls count. Default issued.
	Count Counted `yaml:"count" jsonschema:"enum=issued,enum=valid,enum=ok"`
}

// Validate reports settings that are unknown or out of range.
func (s CallDiscount) Validate() error {
	return first(someTools("tools", s.Tools), within("discount", s.Discount, 0, 1), oneOf("count", s.Count, Counteds))
}

// Shape discounts the outcomes.
func (s CallDiscount) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		if s.Count.calls(&g.Trajectories[i], s.Tools) > 0 {
			g.Outcome[i] = scale(g.Outcome[i], 1-s.Discount)
		}
	}
	return nil
}
