package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Schema names the JSON form of a group; every line carries it.
const Schema = "turnwise.group/v1"

// WriteGroup writes one group as one line of JSON. The line is complete or, when w fails, cut: it is
// handed to w in a single Write. An invalid group is an error and nothing is written.
func WriteGroup(w io.Writer, g rollout.Group) error {
	if err := Validate(g); err != nil {
		return fmt.Errorf("write group %q: %w", g.ID, err)
	}
	line := groupLine{Schema: Schema, ID: g.ID, Task: taskLine(g.Task), Trajectories: make([]trajectoryLine, len(g.Trajectories)), Attempts: g.Attempts}
	for i, t := range g.Trajectories {
		line.Trajectories[i] = newTrajectoryLine(t)
	}
	data, err := marshal(line)
	if err != nil {
		return fmt.Errorf("write group %q: %w", g.ID, err)
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("write group %q: %w", g.ID, err)
	}
	return nil
}

type groupLine struct {
	Schema       string           `json:"schema"`
	ID           string           `json:"group"`
	Task         rollout.Task     `json:"task"`
	Trajectories []trajectoryLine `json:"trajectories"`
	// Attempts is left out when it is unknown.
	Attempts []rollout.Attempt `json:"attempts,omitempty"`
}

// trajectoryLine is a trajectory as the format writes it. Its own fields stand in place of the
// trajectory's fields of the same JSON name: sampled is 0 or 1 there, and lists are never null.
type trajectoryLine struct {
	ID      string          `json:"id"`
	Parent  *rollout.Parent `json:"parent"`
	Tokens  []int32         `json:"tokens"`
	Sampled []int8          `json:"sampled"`
	rollout.Trajectory
	Turns  []rollout.Turn     `json:"turns"`
	Scores map[string]float64 `json:"scores"`
}

func newTrajectoryLine(t rollout.Trajectory) trajectoryLine {
	line := trajectoryLine{
		ID: t.ID, Parent: t.Parent, Tokens: orEmpty(t.Tokens), Sampled: make([]int8, len(t.Sampled)),
		Trajectory: t, Turns: turnLines(t.Turns), Scores: orEmptyMap(t.Scores),
	}
	for i, sampled := range t.Sampled {
		if sampled {
			line.Sampled[i] = 1
		}
	}
	return line
}

// turnLines and taskLine copy what holds lists and maps and make the nil ones empty: the format
// writes [] and {}, and equal groups give equal bytes.
func turnLines(turns []rollout.Turn) []rollout.Turn {
	lines := make([]rollout.Turn, len(turns))
	for i, turn := range turns {
		turn.Rewards = orEmptyMap(turn.Rewards)
		turn.Calls = append(make([]rollout.Call, 0, len(turn.Calls)), turn.Calls...)
		for j := range turn.Calls {
			turn.Calls[j].Args = orEmptyMap(turn.Calls[j].Args)
		}
		lines[i] = turn
	}
	return lines
}

func taskLine(task rollout.Task) rollout.Task {
	task.Gold.Calls = append([]rollout.GoldCall(nil), task.Gold.Calls...)
	for i := range task.Gold.Calls {
		task.Gold.Calls[i].Args = orEmptyMap(task.Gold.Calls[i].Args)
	}
	return task
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func orEmptyMap[M ~map[string]V, V any](m M) M {
	if m == nil {
		return M{}
	}
	return m
}

// marshal writes JSON and a line break, leaving <, > and & as they are.
func marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
