package algos

import (
	"slices"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/rollout"
)

// recorder notes what each part of a method does to every trajectory. Its methods do nothing on nil.
type recorder struct {
	batch *scored.Batch
	// advantages are those of the last part that had any.
	advantages *advantage.Batch
	// steps are by group and trajectory.
	steps [][][]rollout.Step
}

// begin starts with a batch that has no rewards yet.
func (r *recorder) begin(b *scored.Batch) {
	if r == nil {
		return
	}
	r.batch, r.steps = b, make([][][]rollout.Step, len(b.Groups))
	for gi, g := range b.Groups {
		r.steps[gi] = make([][]rollout.Step, len(g.Trajectories))
	}
}

// observer is what a mixture calls after its parts; nil when there is nothing to note.
func (r *recorder) observer() func(place string, part any, b *advantage.Batch) {
	if r == nil {
		return nil
	}
	return r.after
}

// after notes the state of the trajectories that a part has changed. A nil b leaves the advantages as they were.
func (r *recorder) after(place string, part any, b *advantage.Batch) {
	if r == nil {
		return
	}
	if b != nil {
		r.advantages = b
	}
	name := place + " " + NameOf(part)
	for gi, g := range r.batch.Groups {
		for i := range g.Trajectories {
			step, before := r.state(gi, i), rollout.Step{}
			if n := len(r.steps[gi][i]); n > 0 {
				before = r.steps[gi][i][n-1]
			}
			if !same(step, before) {
				step.Part = name
				r.steps[gi][i] = append(r.steps[gi][i], step)
			}
		}
	}
}

// state is what a trajectory has at the moment. A dropped one has no advantages.
func (r *recorder) state(gi, i int) rollout.Step {
	g := r.batch.Groups[gi]
	step := rollout.Step{Outcome: g.Outcome[i], Reason: g.Reason[i]}
	if g.Turns != nil {
		step.Turns = slices.Clone(g.Turns[i])
	}
	if r.advantages != nil && g.Kept(i) {
		step.Advantages = make([]float64, len(g.Trajectories[i].Turns))
		for k, turn := range g.Trajectories[i].Turns {
			step.Advantages[k] = r.advantages.Tokens[gi][i][turn.End-1]
		}
	}
	return step
}

func same(a, b rollout.Step) bool {
	return a.Outcome == b.Outcome && a.Reason == b.Reason && slices.Equal(a.Turns, b.Turns) &&
		(a.Turns == nil) == (b.Turns == nil) && slices.Equal(a.Advantages, b.Advantages) && (a.Advantages == nil) == (b.Advantages == nil)
}
