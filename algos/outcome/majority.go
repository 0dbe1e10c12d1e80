package outcome

import (
	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// Majority takes the answer that most members of the group give for the right one:
//
//	R_i = 1[answer_i = label],  label = the most frequent answer
//
// It needs no gold answer. Members without an answer get 0 and vote for none; when nobody answers, all get 0
// and the share p̂ of [Vote] is 0, which a filter on p̂ drops. Agent0's executor,
// Agent0/executor_train/verl_tool.
type Majority struct {
	// Normalize says what equal answers may differ in: text ignores case and spacing, words also
	// punctuation and articles. Default text.
	Normalize Normalization `yaml:"normalize" jsonschema:"enum=text,enum=words"`
}

// Validate reports an unknown setting.
func (r Majority) Validate() error { return r.Normalize.Validate() }

// Outcomes returns 1 for each member that agrees with the majority, else 0.
func (r Majority) Outcomes(g *scored.Group) ([]float64, error) {
	label, _ := Vote(g, r.Normalize)
	return each(g, func(t *rollout.Trajectory) (float64, error) {
		if answer := r.Normalize.Apply(t.Answer); answer != "" && answer == label {
			return 1, nil
		}
		return 0, nil
	})
}

// Vote returns the group's most frequent normalised answer and the share p̂ of its members that gave it. Of
// equally frequent answers it is the first in alphabetical order. Every member counts that a method may
// train, whatever filters or masks have dropped since, so that p̂ is the same for all parts of a method; with
// nobody answering the label is "" and the share 0.
func Vote(g *scored.Group, normalize Normalization) (label string, share float64) {
	votes, members := map[string]int{}, 0
	for i := range g.Trajectories {
		if t := &g.Trajectories[i]; fact.Trainable(t) {
			members++
			if answer := normalize.Apply(t.Answer); answer != "" {
				votes[answer]++
			}
		}
	}
	for answer, n := range votes {
		if most := votes[label]; n > most || n == most && answer < label {
			label = answer
		}
	}
	return label, float64(votes[label]) / float64(max(members, 1))
}
