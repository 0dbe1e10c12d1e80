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
}

// Episode is one attempt at a task. It is used by one goroutine and closed once.
type Episode interface {
	// Call runs one tool call whose name and arguments have already been checked against
	// [Environment.Tools]. What the policy did wrong is a [Result]; an error means the tool itself
	// broke and fails the episode.
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
