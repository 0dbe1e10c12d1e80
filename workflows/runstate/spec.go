package runstate

import (
	"fmt"
	"time"
)

// Spec is the plan of a run. What may change while it runs comes with a [Changed] event.
type Spec struct {
	// WarmSteps are supervised steps before reinforcement learning; may be 0.
	WarmSteps int `json:"warm_steps"`
	// TrainSteps are reinforcement learning steps; may be 0 when WarmSteps is not.
	TrainSteps int `json:"train_steps"`
	// GroupsPerStep is how many groups one reinforcement step trains, GroupSize how many members a group has.
	GroupsPerStep int `json:"groups_per_step"`
	GroupSize     int `json:"group_size"`
	// Staleness bounds version trained − oldest version that sampled a trained token. 0 is synchronous.
	Staleness int `json:"staleness"`
	// Concurrency bounds the groups that are played at once over all pools; 0 leaves that to the slots.
	Concurrency int `json:"concurrency"`
	// Pools is how many rollout pools there are, Slots how many groups one of them plays at once.
	Pools int `json:"pools"`
	Slots int `json:"slots"`
	// EvaluateEvery evaluates after every so many reinforcement steps; 0 only before the first and after the last.
	EvaluateEvery int `json:"evaluate_every"`
	// CheckpointEvery writes a checkpoint after every so many steps.
	CheckpointEvery int `json:"checkpoint_every"`
	// Failures are what failed rollouts may cost.
	Failures Failures `json:"failures"`
	// StepTimeout is the longest time-out of one attempt at a step or an evaluation. Measured durations shorten it.
	StepTimeout time.Duration `json:"step_timeout"`
	// StallAfter is the longest time without progress that is not called a stall. Measured gaps shorten it.
	StallAfter time.Duration `json:"stall_after"`
}

// Failures are the budgets for rollouts that fail.
type Failures struct {
	// Retries is how often a member is tried again with the same seed.
	Retries int `json:"retries"`
	// Replacements is how many members of a group may be made anew, with a seed of their own.
	Replacements int `json:"replacements"`
	// MaxShare of the last Window attempts may fail before admission stops.
	MaxShare float64 `json:"max_share"`
	Window   int     `json:"window"`
}

// LastStep is the number of the run's last step.
func (s Spec) LastStep() int { return s.WarmSteps + s.TrainSteps }

// Validate reports the first impossible setting.
func (s Spec) Validate() error {
	switch {
	case s.WarmSteps < 0 || s.TrainSteps < 0:
		return fmt.Errorf("steps: warm %d, train %d: must not be negative", s.WarmSteps, s.TrainSteps)
	case s.LastStep() == 0:
		return fmt.Errorf("steps: a run needs at least one warm or train step")
	case s.TrainSteps > 0 && s.GroupsPerStep < 1:
		return fmt.Errorf("groups_per_step %d: must be at least 1", s.GroupsPerStep)
	case s.TrainSteps > 0 && s.GroupSize < 1:
		return fmt.Errorf("group_size %d: must be at least 1", s.GroupSize)
	case s.TrainSteps > 0 && (s.Pools < 1 || s.Slots < 1):
		return fmt.Errorf("pools %d with %d slots: must be at least 1", s.Pools, s.Slots)
	case s.Staleness < 0:
		return fmt.Errorf("staleness %d: must not be negative", s.Staleness)
	case s.Concurrency < 0:
		return fmt.Errorf("concurrency %d: must not be negative", s.Concurrency)
	case s.EvaluateEvery < 0:
		return fmt.Errorf("evaluate_every %d: must not be negative", s.EvaluateEvery)
	case s.CheckpointEvery < 1:
		return fmt.Errorf("checkpoint_every %d: must be at least 1", s.CheckpointEvery)
	case s.StepTimeout <= 0 || s.StallAfter <= 0:
		return fmt.Errorf("step_timeout %s, stall_after %s: must be positive, nothing waits for ever", s.StepTimeout, s.StallAfter)
	}
	return s.Failures.validate()
}

func (f Failures) validate() error {
	switch {
	case f.Retries < 0 || f.Replacements < 0:
		return fmt.Errorf("failures: retries %d, replacements %d: must not be negative", f.Retries, f.Replacements)
	case !(f.MaxShare > 0 && f.MaxShare <= 1):
		return fmt.Errorf("failures: max_share %g: must be above 0 and at most 1", f.MaxShare)
	case f.Window < 1:
		return fmt.Errorf("failures: window %d: must be at least 1", f.Window)
	}
	return nil
}

// EvaluationDue says whether the version is evaluated: the one after the warm start, the last one,
// and those EvaluateEvery steps apart in between.
func (s Spec) EvaluationDue(version int) bool {
	trained := version - s.WarmSteps
	switch {
	case trained < 0 || version > s.LastStep():
		return false
	case trained == 0 || version == s.LastStep():
		return true
	}
	return s.EvaluateEvery > 0 && trained%s.EvaluateEvery == 0
}

// CheckpointDue says whether the learner's whole state is written at a step: after the warm start, at
// the end, and CheckpointEvery steps apart.
func (s Spec) CheckpointDue(step int) bool {
	return step == s.WarmSteps || step == s.LastStep() || step%s.CheckpointEvery == 0
}

// Kind says what a step trains on.
type Kind string

const (
	Warm      Kind = "warm"      // demonstrations, supervised
	Reinforce Kind = "reinforce" // groups of rollouts
)

// Ref names an immutable object in the run's store.
type Ref struct {
	Key    string `json:"key"`
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
}

// GroupRef names one finished group.
type GroupRef struct {
	// Number is the group's place in the run, from 0.
	Number int `json:"number"`
	Object Ref `json:"object"`
	// Oldest and Newest are the versions that sampled its tokens.
	Oldest int `json:"oldest"`
	Newest int `json:"newest"`
}

// Dropped is a group that is settled without training.
type Dropped struct {
	Number int    `json:"number"`
	Reason string `json:"reason"`
	// Object is the group's segment; nil when it was never finished.
	Object *Ref `json:"object,omitempty"`
}

// Control is what rollout loops read to learn what they may do. It is replaced as a whole.
type Control struct {
	// Revision grows with every published control, so that a late writer cannot bring an old one back.
	Revision int `json:"revision"`
	// Version and Weights are the policy to sample with.
	Version int `json:"version"`
	Weights Ref `json:"weights"`
	// Staleness is the bound in force: a loop withdraws a group that began more versions ago.
	Staleness int `json:"staleness"`
	// Paused tells loops to hold every episode at its next turn.
	Paused bool `json:"paused"`
	// Stopped tells loops to leave: the run has ended.
	Stopped bool `json:"stopped"`
	// Shares are the groups of each serving pool, by pool.
	Shares []Share `json:"shares"`
}

// Share is what one pool plays now. A loop stops what is in its hands and not in its share.
type Share struct {
	Pool int `json:"pool"`
	// Tenure is the loop the share is for: one that has been replaced finds no share of its own.
	Tenure int `json:"tenure"`
	// Groups are in ascending order of numbers.
	Groups []Assignment `json:"groups"`
}

// Assignment is a group to play.
type Assignment struct {
	Group int `json:"group"`
	// Round grows whenever members are tried again: a loop that has reported a group short of members
	// waits for the next round.
	Round int `json:"round,omitempty"`
	// Members are the members to play; nil for 0 to group size − 1.
	Members []int `json:"members,omitempty"`
	// Moved is true when another tenure may have recorded turns of the group.
	Moved bool `json:"moved,omitempty"`
}
