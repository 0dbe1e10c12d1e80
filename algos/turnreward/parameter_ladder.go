package turnreward

import (
	"slices"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// ParameterLadder rewards a turn by the mistakes in the parameters of its calls, the mean over them of
//
//	 1     the gold call
//	−0.25  the right parameters, a wrong value
//	−0.5   redundant or missing parameters
//	−0.8   hallucinated parameters
//	−1     redundant and missing
//	−1.3   hallucinated, and redundant or missing
//	−1.8   hallucinated, redundant and missing
//	−1.5   another tool than the gold one
//	−2     no such tool; unparsable
//
// The calls of a trajectory are assigned to gold calls one to one, as [Match] does; a call that is left over
// calls the wrong tool. A parameter the gold call does not have is hallucinated when the tool does not take
// it and redundant when it does. A void turn is unparsable; the answer turn without calls gets 0. A
// trajectory with calls whose task has no gold calls is an error. TL-Training's IRM,
// code/irm/dschat/rlhf/ppo_trainer.py; it clips the reward that the critic sees to ±5.
type ParameterLadder struct {
	// Parameters lists the parameters each tool takes, by tool name. For a tool that is not listed, the
	// status decides: of a call with status bad_args they are hallucinated, else redundant. Default none.
	Parameters map[string][]string `yaml:"parameters"`
}

// The rungs of the ladder that do not depend on parameters.
const (
	irmUnparsable  = -2.0
	irmUnknownTool = -2.0
	irmWrongTool   = -1.5
	irmWrongValue  = -0.25
	irmCorrect     = 1.0
)

// Rewards returns the rewards of every turn.
func (r ParameterLadder) Rewards(g *scored.Group) ([][]float64, error) {
	return eachTurn(g, func(t *rollout.Trajectory) (func(k int) (float64, error), error) {
		if err := needGoldCalls(t, g.Task); err != nil {
			return nil, err
		}
		rungs := r.rungs(t, g.Task.Gold.Calls)
		return func(k int) (float64, error) {
			if fact.Void(t, k) {
				return irmUnparsable, nil
			}
			total := 0.0
			for _, rung := range rungs[k] {
				total += rung / float64(len(rungs[k]))
			}
			return total, nil
		}, nil
	})
}

// rungs places every call of each turn on the ladder.
func (r ParameterLadder) rungs(t *rollout.Trajectory, gold []rollout.GoldCall) [][]float64 {
	var calls []rollout.Call
	for _, turn := range t.Turns {
		calls = append(calls, turn.Calls...)
	}
	partners := assignExact(similarities(calls, gold))
	out := make([][]float64, len(t.Turns))
	for k, turn := range t.Turns {
		for _, call := range turn.Calls {
			var want *rollout.GoldCall
			if partners[0] >= 0 {
				want = &gold[partners[0]]
			}
			out[k], partners = append(out[k], r.Rung(call, want)), partners[1:]
		}
	}
	return out
}

// Rung places one call on the ladder; want is the gold call it is assigned to, nil for none.
func (r ParameterLadder) Rung(call rollout.Call, want *rollout.GoldCall) float64 {
	switch {
	case call.Status == rollout.CallUnparsable:
		return irmUnparsable
	case call.Status == rollout.CallUnknownTool:
		return irmUnknownTool
	case want == nil:
		return irmWrongTool
	}
	hallucinated, redundant, missing := r.mistakes(call, *want)
	switch {
	case hallucinated && redundant && missing:
		return -1.8
	case hallucinated && (redundant || missing):
		return -1.3
	case redundant && missing:
		return -1
	case hallucinated:
		return -0.8
	case redundant || missing:
		return -0.5
	case Similarity(call, *want) < 1:
		return irmWrongValue
	}
	return irmCorrect
}

// mistakes compares the names of the parameters.
func (r ParameterLadder) mistakes(call rollout.Call, want rollout.GoldCall) (hallucinated, redundant, missing bool) {
	parameters, listed := r.Parameters[call.Name]
	for key := range call.Args {
		if _, ok := want.Args[key]; ok {
			continue
		}
		if takes := slices.Contains(parameters, key); listed && !takes || !listed && call.Status == rollout.CallBadArgs {
			hallucinated = true
		} else {
			redundant = true
		}
	}
	for key := range want.Args {
		if _, ok := call.Args[key]; !ok {
			missing = true
		}
	}
	return hallucinated, redundant, missing
}
