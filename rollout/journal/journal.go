// Package journal makes finished turns durable before the next ones begin, so that an episode goes on
// at its next turn after the process that played it died.
//
// Each rollout loop has a tenure, a number that no other loop of the run has, and writes append-only
// files of its own through a [Writer]. They hold what the loop began, finished and failed; together the
// files of a run tell how far every episode is ([Read]). A file is removed once nothing
// asks for the groups in it any more ([Prune]).
//
// What [Writer.Finish] has acknowledged survives the loss of the machine's power; what [Writer.Begin] and
// [Writer.Fail] have acknowledged survives the death of the process. A file whose end was cut is read up
// to the cut. Damage in the middle of a file is a [DamagedError]; all that is whole stays usable.
package journal

import (
	"encoding/json"
	"fmt"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Episode names one member of a group.
type Episode struct {
	Group  int
	Member int
}

// String is the id of the episode's trajectory, "g17/3".
func (e Episode) String() string { return fmt.Sprintf("g%d/%d", e.Group, e.Member) }

// Begin says that an attempt at an episode starts a turn. It tells a turn that was cut off from one that
// never started.
type Begin struct {
	Episode
	// Attempt tells the attempts of one tenure at the episode apart; later ones have higher numbers.
	Attempt int
	// From is the turn that the attempt began with: those before it were finished by earlier attempts.
	From int
	// Discarded is how many finished turns the attempt threw away, because its environment cannot go on
	// in the middle; what earlier attempts recorded is void then. 0 otherwise.
	Discarded int
	// Turn is the turn's index.
	Turn int
}

// Turn is one finished turn: everything the trajectory gains by it.
type Turn struct {
	Begin
	// Context is the [Context] of all tokens before the turn's own. It tells turns that continue each other
	// from turns of two loops that played the same episode at the same time.
	Context uint64
	// Prompt are the tokens before the first turn; nil at later turns.
	Prompt []int32
	// Tokens are those the policy sampled; the next three have the same length.
	Tokens    []int32
	LogProbs  []float32
	Entropies []float32
	Versions  []rollout.Version
	// Observation are the tokens that answer the turn; nil when nothing does.
	Observation []int32
	// Replies are the texts of the observation, one a call; nil when nothing answers the turn.
	Replies []Reply
	// Record is the turn as the trajectory holds it.
	Record rollout.Turn
	// State is what the environment needs to go on after the turn; nil when it needs nothing.
	State json.RawMessage
	// After is the hash of the environment's state after the turn; "" when it remembers nothing or the
	// turn ended the episode.
	After string
	// Stop is set when the turn ended the episode, with the Answer it gave.
	Stop   rollout.StopReason
	Answer string
	// Seconds is what the turn took.
	Seconds float64
}

// Reply is what the policy read in answer to one call.
type Reply struct {
	// Name is the tool's; "" when no tool was called.
	Name string
	Text string
}

// Failed says that an attempt ended without a trajectory.
type Failed struct {
	Episode
	// Attempt, From and Discarded are as in [Begin].
	Attempt   int
	From      int
	Discarded int
	Kind      rollout.FailureKind
	Reason    string
}

// Past is how far an episode is.
type Past struct {
	// Turns are the finished turns, from the first one on without a gap. Each continues the one before.
	Turns []Turn
	// Attempts are those made so far, in order and numbered from 1. One whose loop is gone, or that another
	// attempt took over from, has failed as lost; one without a failure has ended or is still at work.
	Attempts []rollout.Attempt
}

// Ended says whether the last turn ended the episode.
func (p Past) Ended() bool {
	return len(p.Turns) > 0 && p.Turns[len(p.Turns)-1].Stop != ""
}

// Begun is the context of no token.
const Begun uint64 = 14695981039346656037

// Context extends the context of some tokens by those that follow: FNV-1a over the token ids. It starts
// from [Begun].
func Context(before uint64, tokens []int32) uint64 {
	for _, token := range tokens {
		for shift := 0; shift < 32; shift += 8 {
			before = (before ^ uint64(uint32(token)>>shift&0xff)) * 1099511628211
		}
	}
	return before
}
