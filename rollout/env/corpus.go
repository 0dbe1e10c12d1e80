package env

import (
	"context"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/tool"
)

// Corpus returns the texts on which a tokenizer for the environment is trained: of each of the first
// n training tasks the prompt, every call of the gold solution with its observation, and the answer,
// each a text of its own; and, where the environment demonstrates, the turns and observations of a
// demonstration, which bring in the words of errors. A task that does not open contributes its
// prompt, calls and answer alone.
func Corpus(e Environment, n int, seed uint64) []string {
	var texts []string
	for index := range n {
		task := e.Task(rollout.Train, seed, index)
		texts = append(texts, task.Prompt)
		texts = append(texts, play(e, task, goldTurns(e, task))...)
		if d, ok := e.(Demonstrator); ok {
			if turns, err := d.Demonstrate(task, seed); err == nil {
				texts = append(texts, play(e, task, turns)...)
			}
		}
	}
	return texts
}

// goldTurns writes the gold solution of a task: one call a turn, then the answer.
func goldTurns(e Environment, task rollout.Task) []string {
	specs := make(map[string]tool.Spec)
	for _, spec := range e.Tools() {
		specs[spec.Name] = spec
	}
	var turns []string
	for _, call := range task.Gold.Calls {
		turns = append(turns, tool.Format(rollout.Call{Name: call.Name, Args: call.Args}, specs[call.Name]))
	}
	return append(turns, tool.FormatAnswer(task.Gold.Answer))
}

// play runs the turns of a script and returns turns and observations in order. Where a tool breaks,
// the turns go on without observations.
func play(e Environment, task rollout.Task, turns []string) []string {
	episode, err := e.Open(task)
	if err != nil {
		return turns
	}
	defer episode.Close()
	var texts []string
	for _, turn := range turns {
		texts = append(texts, turn)
		for _, call := range tool.Parse(turn).Calls {
			status, text := tool.Check(call, e.Tools())
			if status == rollout.CallOK {
				result, err := episode.Call(context.Background(), call)
				if err != nil {
					continue
				}
				text = result.Text
			}
			texts = append(texts, text)
		}
	}
	return texts
}
