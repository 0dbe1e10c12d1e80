package worker

import (
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
)

// add appends a finished turn to the trajectory.
func (e *episode) add(turn journal.Turn) {
	e.context = turn.Context
	e.sample(turn)
	e.observe(turn.Observation)
	e.out.Turns = append(e.out.Turns, turn.Record)
	e.out.Stop, e.out.Answer = turn.Stop, turn.Answer
	e.out.ElapsedSeconds += turn.Seconds
}

// observe appends tokens the policy did not choose.
func (e *episode) observe(tokens []int32) {
	n := len(tokens)
	e.context = journal.Context(e.context, tokens)
	e.out.Tokens = append(e.out.Tokens, tokens...)
	e.out.Sampled = append(e.out.Sampled, make([]bool, n)...)
	e.out.BehaviorLogProbs = append(e.out.BehaviorLogProbs, make([]float32, n)...)
	e.out.Entropies = append(e.out.Entropies, make([]float32, n)...)
	e.out.Versions = append(e.out.Versions, make([]rollout.Version, n)...)
}

// sample appends tokens the policy chose.
func (e *episode) sample(turn journal.Turn) {
	e.observe(turn.Tokens)
	from := len(e.out.Tokens) - len(turn.Tokens)
	for t := from; t < len(e.out.Tokens); t++ {
		e.out.Sampled[t] = true
	}
	copy(e.out.BehaviorLogProbs[from:], turn.LogProbs)
	copy(e.out.Entropies[from:], turn.Entropies)
	copy(e.out.Versions[from:], turn.Versions)
}

func mean(values []float32) float64 {
	if len(values) == 0 {
		return 0
	}
	sum := 0.0
	for _, v := range values {
		sum += float64(v)
	}
	return sum / float64(len(values))
}
