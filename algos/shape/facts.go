package shape

import (
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Counted says which tool calls count.
type Counted string

const (
	CountIssued Counted = "issued" // every call the policy issued, parsable or not
	CountValid  Counted = "valid"  // calls of a known tool with arguments that fit it, whether or not the tool then failed
	CountOK     Counted = "ok"     // calls that the tool answered
)

// Counteds lists every way to count.
var Counteds = []Counted{CountIssued, CountValid, CountOK}

// counts is true for a call that is to be counted; no names means those of all tools.
func (c Counted) counts(call rollout.Call, tools []string) bool {
	if len(tools) > 0 && !slices.Contains(tools, call.Name) {
		return false
	}
	switch c {
	case CountValid:
		return call.Status == rollout.CallOK || call.Status == rollout.CallError
	case CountOK:
		return call.Status == rollout.CallOK
	}
	return true
}

// calls is how many calls of a trajectory count.
func (c Counted) calls(t *rollout.Trajectory, tools []string) int {
	n := 0
	for _, turn := range t.Turns {
		for _, call := range turn.Calls {
			if c.counts(call, tools) {
				n++
			}
		}
	}
	return n
}

// Length says which tokens make a trajectory's length.
type Length string

const (
	LengthSampled  Length = "sampled"  // the tokens the policy sampled
	LengthResponse Length = "response" // all tokens after the prompt, observations included
)

// Lengths lists every way to measure.
var Lengths = []Length{LengthSampled, LengthResponse}

// of is the length of a trajectory in tokens.
func (l Length) of(t *rollout.Trajectory) int {
	if l == LengthResponse {
		if first := slices.Index(t.Sampled, true); first >= 0 {
			return len(t.Tokens) - first
		}
		return 0
	}
	return sampledTokens(t)
}

func sampledTokens(t *rollout.Trajectory) int {
	n := 0
	for _, sampled := range t.Sampled {
		if sampled {
			n++
		}
	}
	return n
}

// malformed is how many turns of a trajectory did not parse.
func malformed(t *rollout.Trajectory) int {
	n := 0
	for _, turn := range t.Turns {
		if !turn.FormatOK {
			n++
		}
	}
	return n
}

// isFinite is false for NaN and infinities.
func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// kept are the indices of the trajectories that are not dropped.
func kept(g *scored.Group) []int {
	var out []int
	for i := range g.Trajectories {
		if g.Kept(i) {
			out = append(out, i)
		}
	}
	return out
}

// scale multiplies a positive outcome. One that is not positive stays, since a factor below 1 would make a
// loss smaller.
func scale(outcome, factor float64) float64 {
	if outcome <= 0 {
		return outcome
	}
	return outcome * factor
}
