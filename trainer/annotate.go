package trainer

import (
	"context"
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// Annotation says what credit reads of the networks besides what was recorded while sampling.
type Annotation struct {
	// Values asks for the critic's values, Reference for the reference policy's log-probabilities.
	Values, Reference bool
	// Temperature is the one the tokens were sampled at; 0 means 1.
	Temperature float64
	// MicroBatchTokens bounds the tokens of one pass, which bounds memory. It changes no bit.
	MicroBatchTokens int
}

// Annotate scores the trajectories of groups before credit and writes what it finds into them. The numbers are those
// of the weights before the step's updates.
func (l *Learner) Annotate(ctx context.Context, groups []rollout.Group, a Annotation) error {
	switch {
	case a.Values && !l.Model.Options().ValueHead:
		return fmt.Errorf("credit reads a critic's values and the policy has no value head")
	case a.Reference && l.Reference == nil:
		return fmt.Errorf("credit reads the reference policy and the learner has none")
	case a.MicroBatchTokens < 1:
		return fmt.Errorf("micro-batch of %d tokens: must be at least 1", a.MicroBatchTokens)
	}
	if a.Values {
		err := score(ctx, l.Model, groups, a, func(t *rollout.Trajectory, s policy.Scores, from, to int) {
			t.Values = slices.Clone(s.Values[from:to])
		})
		if err != nil {
			return fmt.Errorf("critic: %w", err)
		}
	}
	if a.Reference {
		err := score(ctx, l.Reference, groups, a, func(t *rollout.Trajectory, s policy.Scores, from, to int) {
			t.ReferenceLogProbs = slices.Clone(s.LogProbs[from:to])
		})
		if err != nil {
			return fmt.Errorf("reference policy: %w", err)
		}
	}
	return nil
}

// score goes through all trajectories in micro-batches and hands each its scores, at [from, to).
func score(ctx context.Context, model *policy.Model, groups []rollout.Group, a Annotation, write func(t *rollout.Trajectory, s policy.Scores, from, to int)) error {
	var trajectories []*rollout.Trajectory
	var sequences []Sequence
	for g := range groups {
		for i := range groups[g].Trajectories {
			t := &groups[g].Trajectories[i]
			trajectories, sequences = append(trajectories, t), append(sequences, Sequence{Tokens: t.Tokens})
		}
	}
	temperature := float32(a.Temperature)
	if temperature == 0 {
		temperature = 1
	}
	var p packing
	next := 0
	for _, micro := range cut(sequences, a.MicroBatchTokens) {
		p.layTokens(micro)
		scores, err := model.Score(ctx, p.packed, temperature)
		if err != nil {
			return err
		}
		for i := range micro {
			write(trajectories[next], scores, int(p.packed.Offsets[i]), int(p.packed.Offsets[i+1]))
			next++
		}
	}
	return nil
}
