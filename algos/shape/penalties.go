package shape

import (
	"slices"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Penalties adds one small penalty per kind of mistake that a trajectory makes, however often it makes it:
//
//	R ← R + Σ_m penalty_m·1{the trajectory makes mistake m}
//
// A penalty of 0 is off. VerlTool's ToRL reward, verl_tool/workers/reward_manager: ±1 with optional penalties
// of −0.25 or −0.5.
type Penalties struct {
	// InvalidAction is added where a call is unparsable, of an unknown tool or with wrong arguments. Default −0.25.
	InvalidAction float64 `yaml:"invalid_action"`
	// ToolError is added where a tool ran and failed. Default −0.25.
	ToolError float64 `yaml:"tool_error"`
	// NoTool is added where the trajectory issued no call. Default −0.25.
	NoTool float64 `yaml:"no_tool"`
	// BadFormat is added where a turn is malformed. Default −0.25.
	BadFormat float64 `yaml:"bad_format"`
	// Unfinished is added where the trajectory ended without an answer. Default −0.25.
	Unfinished float64 `yaml:"unfinished"`
}

// NewPenalties returns Penalties with its defaults.
func NewPenalties() Penalties {
	return Penalties{InvalidAction: -0.25, ToolError: -0.25, NoTool: -0.25, BadFormat: -0.25, Unfinished: -0.25}
}

// Validate reports penalties that are no numbers.
func (s Penalties) Validate() error {
	return first(fact.Finite("invalid_action", s.InvalidAction), fact.Finite("tool_error", s.ToolError), fact.Finite("no_tool", s.NoTool),
		fact.Finite("bad_format", s.BadFormat), fact.Finite("unfinished", s.Unfinished))
}

// Shape adds the penalties.
func (s Penalties) Shape(g *scored.Group) error {
	for _, i := range kept(g) {
		t := &g.Trajectories[i]
		for _, mistake := range []struct {
			made    bool
			penalty float64
		}{
			{anyCall(t, rollout.CallUnparsable, rollout.CallUnknownTool, rollout.CallBadArgs), s.InvalidAction},
			{anyCall(t, rollout.CallError), s.ToolError},
			{CountIssued.calls(t, nil) == 0, s.NoTool},
			{malformed(t) > 0, s.BadFormat},
			{t.Stop != rollout.StopAnswer, s.Unfinished},
		} {
			if mistake.made {
				g.Outcome[i] += mistake.penalty
			}
		}
	}
	return nil
}

// anyCall is true when a call of the trajectory went one of these ways.
func anyCall(t *rollout.Trajectory, statuses ...rollout.CallStatus) bool {
	for _, turn := range t.Turns {
		for _, call := range turn.Calls {
			if slices.Contains(statuses, call.Status) {
				return true
			}
		}
	}
	return false
}
