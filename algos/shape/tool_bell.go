package shape

import (
	"math"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
)

// ToolBell pays for calls where tools help and charges for them where they do not. With n the trajectory's
// calls and ΔS how much better a reference model does the task with tools than without,
//
//	R ← R + Alpha·ΔS·exp(−Gamma·((n − MaxCalls)/MaxCalls)²)
//
// The sign of ΔS decides between bonus and penalty. Size at most Alpha·|ΔS|. AT-GRPO in AdaTooler-V,
// verl_tool/workers/reward_manager/AdaTooler-V .py.
type ToolBell struct {
	// Alpha multiplies the term. Default 0.6.
	Alpha float64 `yaml:"alpha"`
	// Gamma is how fast the term falls away from MaxCalls. Default 2.
	Gamma float64 `yaml:"gamma"`
	// MaxCalls is where the term peaks: the most calls an episode may make. Default 6.
	MaxCalls int `yaml:"max_calls"`
	// Score names the recorded ΔS. Default tool_benefit.
	Score string `yaml:"score"`
	// Count says which calls count. Default issued.
	Count Counted `yaml:"count" jsonschema:"enum=issued,enum=valid,enum=ok"`
	// Tools limits the count to calls of these tools. Default none: all tools.
	Tools []string `yaml:"tools"`
}

// NewToolBell returns ToolBell with its defaults.
func NewToolBell() ToolBell {
	return ToolBell{Alpha: 0.6, Gamma: 2, MaxCalls: 6, Score: "tool_benefit", Count: CountIssued}
}

// Validate reports settings that are unknown or out of range.
func (s ToolBell) Validate() error {
	return first(fact.NotNegative("alpha", s.Alpha), fact.NotNegative("gamma", s.Gamma), fact.Positive("max_calls", float64(s.MaxCalls)),
		fact.Named("score", s.Score), oneOf("count", s.Count, Counteds))
}

// Shape adds the term.
func (s ToolBell) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		benefit, err := fact.Score(&g.Trajectories[i], s.Score)
		if err != nil {
			return err
		}
		most := float64(s.MaxCalls)
		off := (float64(s.Count.calls(&g.Trajectories[i], s.Tools)) - most) / most
		g.Outcome[i] += s.Alpha * benefit * math.Exp(-s.Gamma*off*off)
	}
	return nil
}
