package rollout

import "encoding/json"

// Split names a disjoint part of an environment's tasks. Facts that occur in held-out tasks never
// occur in training tasks.
type Split string

const (
	Train   Split = "train"   // tasks that the policy trains on
	HeldOut Split = "heldout" // tasks that only measure
)

// Task is one problem instance given to the policy. It is fully determined by its environment,
// split, seed and index, so references to it are small and it can be rebuilt anywhere.
type Task struct {
	// ID is unique within a run, for example "lookup/train/17".
	ID string `json:"id"`
	// Env is the name of the environment that made the task.
	Env string `json:"env"`
	// Prompt is the text the policy reads first.
	Prompt string `json:"prompt"`
	// Gold is what a verifier and a method may compare an episode with. The policy never sees it.
	Gold Gold `json:"gold"`
	// World is the environment's own description of the task (its knowledge base, say). Opaque
	// outside the environment; nil when the environment needs none.
	World json.RawMessage `json:"world,omitempty"`
}

// Gold is the known solution of a task.
type Gold struct {
	// Answer is the right final answer.
	Answer string `json:"answer"`
	// Calls are the tool calls that lead to the answer, in order. Empty when unknown.
	Calls []GoldCall `json:"calls,omitempty"`
}

// GoldCall is one tool call of a known solution.
type GoldCall struct {
	Name string `json:"name"`
	Args Args   `json:"args"`
}

// Args are the named arguments of a tool call; each value is compact JSON.
type Args map[string]json.RawMessage

// StringArg returns the argument key as a string and whether it is present and a JSON string.
func (a Args) StringArg(key string) (string, bool) {
	raw, ok := a[key]
	if !ok {
		return "", false
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// StringArgs builds Args whose values are all strings, from alternating keys and values.
func StringArgs(keyValues ...string) Args {
	args := make(Args, len(keyValues)/2)
	for i := 0; i+1 < len(keyValues); i += 2 {
		quoted, _ := json.Marshal(keyValues[i+1]) // a string always marshals
		args[keyValues[i]] = quoted
	}
	return args
}
