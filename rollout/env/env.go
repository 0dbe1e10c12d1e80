// Package env holds the environments: families of tasks with real tools and a verifier.
//
// An environment implements [Environment] in one file; see docs/writing-an-environment.md. The
// rollout worker plays it: it renders the prompt, lets the policy sample a turn, parses the turn's
// calls, runs each through [Episode.Call], shows the results and goes on until the policy answers.
//
// Everything is derived from a seed. Tasks of the held-out split share no fact with tasks of the
// training split, by construction. Verification reads only the task and the answer, so neither the
// policy nor a reward can influence it.
package env

import (
	"context"
	"encoding/json"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// Environment is a family of tasks.
type Environment interface {
	// Name is the environment's name in configs, task ids and metrics.
	Name() string
	// Tools are the tools every task of the environment offers.
	Tools() []tool.Spec
	// Task builds the task at index of a split. Equal arguments give equal tasks; any index ≥ 0 is
	// legal and indices of one split differ in content with overwhelming probability.
	Task(split rollout.Split, seed uint64, index int) rollout.Task
	// Open starts one attempt at a task.
	Open(task rollout.Task) (Episode, error)
	// Verify scores a final answer in [0, 1]; 1 is success. It must depend on nothing but its arguments.
	Verify(task rollout.Task, answer string) float64
	// Continuation says how an episode goes on in another process after the one that played it died.
	Continuation() Continuation
}

// Continuation is how an episode goes on after some finished turns, in a process that did not play them.
// Their observations are always those on record: no tool is called again for a finished turn.
type Continuation string

const (
	// Restores is for episodes that remember. Each implements [Restorer]: a new one is opened and brought
	// to the state after the last finished turn.
	Restores Continuation = "restores"
	// Replays is for episodes that remember nothing, whose State is "" throughout: the recorded
	// observations stand, and a new episode answers the calls to come.
	Replays Continuation = "replays"
	// Restarts is for episodes that remember what cannot be restored: the finished turns are discarded, the
	// episode begins anew with the same seeds, and the attempt ledger counts what was lost.
	Restarts Continuation = "restarts"
)

// Continuations lists every way.
var Continuations = []Continuation{Restores, Replays, Restarts}

// Restorer is implemented by the episodes of environments that restore.
type Restorer interface {
	// Snapshot returns what the episode remembers. It is taken between calls and stored with each turn, so
	// it is small.
	Snapshot() (json.RawMessage, error)
	// Restore brings an episode that was just opened to the state of a snapshot of another attempt at the
	// same task: State and the results of all further calls are as they would have been there. A snapshot
	// that is none of the task's is an error.
	Restore(ctx context.Context, snapshot json.RawMessage) error
}

// Episode is one attempt at a task. It is used by one goroutine and closed once. A call that was cut off
// by a death is made again with the same idempotency key ([rollout.Call].Key): a tool with effects outside
// the episode keeps the result under the key and answers a repetition from there.
type Episode interface {
	// Call runs one tool call whose name and arguments have already been checked against
	// [Environment.Tools]. What the policy did wrong is a [Result]; an error means the tool itself
	// broke and fails the attempt. It returns soon after its context has ended.
	Call(ctx context.Context, call rollout.Call) (Result, error)
	// State is an opaque hash of what the environment remembers; "" when it remembers nothing.
	State() string
	// Close releases what the episode holds.
	Close() error
}

// Result is the observation that answers one call.
type Result struct {
	// Text is what the policy reads.
	Text string
	// Status is [rollout.CallOK] or [rollout.CallError].
	Status rollout.CallStatus
}

// Demonstrator is implemented by environments that can show scripted episodes for a supervised warm
// start. Demonstrations are imperfect on purpose, as cold-start data are.
type Demonstrator interface {
	// Demonstrate scripts an episode of a training task: the texts of its turns in order. The tools
	// really run while the episode is played, so the observations are real.
	Demonstrate(task rollout.Task, seed uint64) ([]string, error)
}
