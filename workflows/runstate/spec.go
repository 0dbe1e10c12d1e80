package runstate

import "fmt"

// Spec is the plan of a run, fixed when it is submitted.
type Spec struct {
	// WarmSteps are supervised steps before reinforcement learning; may be 0.
	WarmSteps int `json:"warm_steps"`
	// TrainSteps are reinforcement learning steps; may be 0 when WarmSteps is not.
	TrainSteps int `json:"train_steps"`
	// GroupsPerStep is how many groups one reinforcement step trains.
	GroupsPerStep int `json:"groups_per_step"`
	// Staleness bounds version trained − oldest version that sampled a trained token. 0 is synchronous.
	Staleness int `json:"staleness"`
	// EvaluateEvery evaluates after every so many reinforcement steps; 0 only before the first and after the last.
	EvaluateEvery int `json:"evaluate_every"`
	// Pools is how many rollout pools share the groups: pool p plays the groups g with g mod Pools = p.
	Pools int `json:"pools"`
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
	case s.TrainSteps > 0 && s.Pools < 1:
		return fmt.Errorf("pools %d: must be at least 1", s.Pools)
	case s.Staleness < 0:
		return fmt.Errorf("staleness %d: must not be negative", s.Staleness)
	case s.EvaluateEvery < 0:
		return fmt.Errorf("evaluate_every %d: must not be negative", s.EvaluateEvery)
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
}

// Control is what rollout workers read to learn what they may do. It is replaced as a whole.
type Control struct {
	// Revision grows with every published control, so that a late writer cannot bring an old one back.
	Revision int `json:"revision"`
	// Version and Weights are the policy to sample with.
	Version int `json:"version"`
	Weights Ref `json:"weights"`
	// Admitted bounds the groups that may start: those with a smaller number.
	Admitted int `json:"admitted"`
	// Consumed bounds the groups already trained: they need not be reported again.
	Consumed int `json:"consumed"`
	// Stopped tells rollout workers to leave: the run has ended.
	Stopped bool `json:"stopped"`
}
