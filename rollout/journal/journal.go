// Package journal makes finished turns durable before the next ones begin, so that an episode goes on
// at its next turn after the process that played it died.
//
// Each rollout loop has a tenure, a number that no other loop of the run has, and writes one append-only
// file. A file holds what its loop began, finished and failed; together the files of a run tell how far
// every episode is. A file is removed once every group in it is settled.
package journal

import (
	"encoding/json"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Episode names one member of a group.
type Episode struct {
	Group  int
	Member int
}

// Begin says that an attempt at an episode starts a turn. It tells a turn that was cut off from one that
// never started.
type Begin struct {
	Episode
	// Attempt counts the attempts at the episode from 1.
	Attempt int
	// Turn is the turn's index.
	Turn int
}

// Turn is one finished turn: everything the trajectory gains by it.
type Turn struct {
	Begin
	// Prompt are the tokens before the first turn; nil at later turns.
	Prompt []int32
	// Tokens are those the policy sampled; the next three have the same length.
	Tokens    []int32
	LogProbs  []float32
	Entropies []float32
	Versions  []rollout.Version
	// Observation are the tokens that answer the turn; nil when nothing does.
	Observation []int32
	// Record is the turn as the trajectory holds it.
	Record rollout.Turn
	// State is what the environment needs to go on after the turn; nil when it needs nothing.
	State json.RawMessage
	// Stop is set when the turn ended the episode, with the Answer it gave.
	Stop   rollout.StopReason
	Answer string
	// Seconds is what the turn took.
	Seconds float64
}

// Failed says that an attempt ended without a trajectory.
type Failed struct {
	Episode
	Attempt int
	Kind    rollout.FailureKind
	Reason  string
}

// Past is how far an episode is.
type Past struct {
	// Turns are the finished turns, from the first one on without a gap.
	Turns []Turn
	// Attempts are those made so far, in order. One whose loop is gone has failed as lost.
	Attempts []rollout.Attempt
}
