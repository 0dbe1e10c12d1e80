package runfolder

import "github.com/turnwise-rl/turnwise/workflows/runstate"

// SamplersLag is for how many steps weights stay for the sake of samplers alone: one may have read an older control
// object just now.
const SamplersLag = 4

// Retention is the rule by which weights and optimizer states go. What removes them follows it, and so does what
// audits a folder.
type Retention struct {
	Plan runstate.Spec
	// Checkpoints is how many of the newest checkpoints stay.
	Checkpoints int
	// Adopted is the step that a fork begins with, 0 in other runs. Of the steps up to it a fork has what the run it
	// comes from had left.
	Adopted int
}

// Ages are how many steps old something becomes when it may go.
func (r Retention) Ages() []int { return []int{SamplersLag, r.kept()} }

// kept is the age at which a checkpoint is no more among the newest ones that stay.
func (r Retention) kept() int { return r.Checkpoints * r.Plan.CheckpointEvery }

// Passing says which objects of a step need not be in the folder when newest is the newest committed step and
// checkpoint the newest that has a checkpoint. Step 0 stays whole, and so do the newest checkpoint and the end of
// the warm start: a learner begins there, and its weights are the policy that methods compare with, also those
// that a run is changed to later. Weights of evaluated versions stay, except those that a fork adopts.
func (r Retention) Passing(m Manifest, newest, checkpoint int) (weights, optimizer bool) {
	if m.Step <= 0 || m.Step == r.Plan.WarmSteps || m.Step == checkpoint {
		return false, false
	}
	if m.Step <= r.Adopted {
		return true, true
	}
	age := newest - m.Step
	optimizer = age >= r.kept()
	weights = age >= SamplersLag && !r.Plan.EvaluationDue(m.Step) && (m.Checkpoint == nil || optimizer)
	return weights, optimizer
}
