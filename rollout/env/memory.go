package env

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// blankText answers every call when observations are blanked.
const blankText = " -"

// memory is the state of an episode whose tools only reveal: the set of calls that went well. Two
// episodes of a task that know the same have the same state, whatever the order.
type memory struct {
	known []string // sorted, distinct
	blank bool
}

// reveal records a call and its result and returns what the policy sees of it.
func (m *memory) reveal(call rollout.Call, spec tool.Spec, result Result) Result {
	if result.Status == rollout.CallOK {
		text := tool.Format(call, spec)
		if at, found := slices.BinarySearch(m.known, text); !found {
			m.known = slices.Insert(m.known, at, text)
		}
	}
	if m.blank {
		result.Text = blankText
	}
	return result
}

// State implements [Episode].
func (m *memory) State() string { return fmt.Sprintf("%016x", hash(m.known...)) }

// Snapshot implements [Restorer]: the calls that went well, as a list of texts.
func (m *memory) Snapshot() (json.RawMessage, error) {
	return json.Marshal(append([]string{}, m.known...))
}

// Restore implements [Restorer].
func (m *memory) Restore(_ context.Context, snapshot json.RawMessage) error {
	var known []string
	if json.Unmarshal(snapshot, &known) != nil || known == nil {
		return fmt.Errorf("the snapshot %s is no list of calls", tool.Excerpt(string(snapshot)))
	}
	for i := 1; i < len(known); i++ {
		if known[i-1] >= known[i] {
			return fmt.Errorf("the snapshot is no sorted list of distinct calls: %s comes before %s", tool.Excerpt(known[i-1]), tool.Excerpt(known[i]))
		}
	}
	m.known = known
	return nil
}

// Close implements [Episode]; there is nothing to release.
func (m *memory) Close() error { return nil }

func failed(text string) Result { return Result{Text: " error: " + text, Status: rollout.CallError} }

func succeeded(text string) Result { return Result{Text: text, Status: rollout.CallOK} }

// verify is 1 when the answer equals the gold answer in normal form, else 0.
func verify(task rollout.Task, answer string) float64 {
	if tool.Normalize(answer) == tool.Normalize(task.Gold.Answer) {
		return 1
	}
	return 0
}
