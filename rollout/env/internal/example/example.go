// Package example is the environment that docs/writing-an-environment.md explains: find a secret
// number by asking whether it is higher or lower.
package example

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// HighLow asks for a number below a million. Multiples of five are secrets of the held-out split.
type HighLow struct{}

// Name is the word for configs, task ids and metrics.
func (HighLow) Name() string { return "highlow" }

// Tools declares the one tool.
func (HighLow) Tools() []tool.Spec {
	return []tool.Spec{{Name: "guess", Doc: "compares the secret with a number", Params: []tool.Param{{Name: "number", Doc: "the guess"}}}}
}

// Task hides a secret that follows from the arguments alone.
func (HighLow) Task(split rollout.Split, seed uint64, index int) rollout.Task {
	secret := 5 * rand.New(rand.NewPCG(seed, uint64(index))).IntN(200_000)
	if split == rollout.Train {
		secret += 1 + index%4
	}
	return rollout.Task{
		ID:     fmt.Sprintf("highlow/%s/%d", split, index),
		Env:    "highlow",
		Prompt: " Which number below 1000000 is it ?",
		Gold:   rollout.Gold{Answer: strconv.Itoa(secret)}, // many chains of calls find it, so none is gold
		World:  json.RawMessage(strconv.Itoa(secret)),
	}
}

// Continuation says that an attempt can be taken up by another process.
func (HighLow) Continuation() env.Continuation { return env.Restores }

// Open starts an attempt that knows nothing yet.
func (HighLow) Open(task rollout.Task) (env.Episode, error) {
	secret, err := strconv.Atoi(string(task.World))
	return &episode{secret: secret, below: 1_000_000}, err
}

// Verify is 1 for the secret, else 0.
func (HighLow) Verify(task rollout.Task, answer string) float64 {
	if tool.Normalize(answer) == task.Gold.Answer {
		return 1
	}
	return 0
}

// episode remembers the bounds that the guesses have shown: least ≤ secret < below.
type episode struct{ secret, least, below int }

// Call answers a guess.
func (e *episode) Call(_ context.Context, call rollout.Call) (env.Result, error) {
	text, _ := call.Args.StringArg("number") // present, because the worker checks a call first
	switch n, err := strconv.Atoi(text); {
	case err != nil:
		return env.Result{Text: " error: no number " + tool.Excerpt(text), Status: rollout.CallError}, nil
	case n < e.secret:
		e.least = max(e.least, n+1)
		return env.Result{Text: " higher", Status: rollout.CallOK}, nil
	case n > e.secret:
		e.below = min(e.below, n)
		return env.Result{Text: " lower", Status: rollout.CallOK}, nil
	}
	e.least, e.below = e.secret, e.secret+1
	return env.Result{Text: " equal", Status: rollout.CallOK}, nil
}

// State is what the guesses have shown.
func (e *episode) State() string { return fmt.Sprintf("%d-%d", e.least, e.below) }

// Snapshot is what another process needs to take the attempt up.
func (e *episode) Snapshot() (json.RawMessage, error) { return json.Marshal([]int{e.least, e.below}) }

// Restore takes it up.
func (e *episode) Restore(_ context.Context, snapshot json.RawMessage) error {
	var bounds []int
	if json.Unmarshal(snapshot, &bounds) != nil || len(bounds) != 2 || bounds[0] > e.secret || bounds[1] <= e.secret {
		return fmt.Errorf("%s are no bounds of the secret", tool.Excerpt(string(snapshot)))
	}
	e.least, e.below = bounds[0], bounds[1]
	return nil
}

// Close has nothing to release.
func (e *episode) Close() error { return nil }
