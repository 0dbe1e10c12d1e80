package workflows

import (
	"fmt"
	"time"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// RunInput starts a TrainingRun.
type RunInput struct {
	// Run is the run's id, which is also the workflow's id.
	Run string `json:"run"`
	// Method is the name of the method, for people.
	Method string `json:"method"`
	// Config is the resolved config as YAML; a few kilobytes.
	Config string        `json:"config"`
	Spec   runstate.Spec `json:"spec"`
	Limits Limits        `json:"limits"`
	// State continues an earlier workflow run; nil at the start.
	State *runstate.State `json:"state,omitempty"`
}

// Limits bound the run's activities. All are positive: nothing waits for ever without being seen.
type Limits struct {
	// StepTimeout bounds one attempt at preparing, training or evaluating.
	StepTimeout time.Duration `json:"step_timeout"`
	// HeartbeatTimeout is how long a worker may be silent before its work is given to another one.
	HeartbeatTimeout time.Duration `json:"heartbeat_timeout"`
	// LoopTimeout bounds one attempt of a rollout loop, which then hands over to the next.
	LoopTimeout time.Duration `json:"loop_timeout"`
}

// Validate reports the first limit that is not positive.
func (l Limits) Validate() error {
	for _, limit := range []struct {
		name  string
		value time.Duration
	}{{"step_timeout", l.StepTimeout}, {"heartbeat_timeout", l.HeartbeatTimeout}, {"loop_timeout", l.LoopTimeout}} {
		if limit.value <= 0 {
			return fmt.Errorf("%s is %s: must be positive", limit.name, limit.value)
		}
	}
	return nil
}

// RunResult is how a run ended.
type RunResult struct {
	Outcome   runstate.Outcome `json:"outcome"`
	Committed int              `json:"committed"`
	Weights   runstate.Ref     `json:"weights"`
	Reason    string           `json:"reason,omitempty"`
}

// PrepareInput asks for the run's folder to be made ready.
type PrepareInput struct {
	Run    string `json:"run"`
	Config string `json:"config"`
}

// PrepareResult says what the folder holds.
type PrepareResult struct {
	Committed int          `json:"committed"`
	Weights   runstate.Ref `json:"weights"`
	Evaluated []int        `json:"evaluated"`
	// Fence and Revision are the largest fence shown and the revision of the published control.
	Fence    int `json:"fence"`
	Revision int `json:"revision"`
}

// TrainInput asks for one step.
type TrainInput struct {
	Run   string              `json:"run"`
	Step  int                 `json:"step"`
	Kind  runstate.Kind       `json:"kind"`
	Batch []runstate.GroupRef `json:"batch,omitempty"`
	Fence int                 `json:"fence"`
}

// TrainResult says that a step is committed.
type TrainResult struct {
	Step    int          `json:"step"`
	Weights runstate.Ref `json:"weights"`
}

// EvaluateInput asks for held-out tasks to be played with one version.
type EvaluateInput struct {
	Run     string       `json:"run"`
	Version int          `json:"version"`
	Weights runstate.Ref `json:"weights"`
}

// ControlInput asks for the control object to be replaced.
type ControlInput struct {
	Run     string           `json:"run"`
	Control runstate.Control `json:"control"`
}

// RecordInput asks for a line in the run's events.
type RecordInput struct {
	Run  string    `json:"run"`
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

// LoopInput starts a rollout loop.
type LoopInput struct {
	Run   string `json:"run"`
	Pool  int    `json:"pool"`
	Pools int    `json:"pools"`
	// HandOverAfter is when the loop leaves by itself, so that a successor starts fresh.
	HandOverAfter time.Duration `json:"hand_over_after"`
}

// LoopResult says why a loop left.
type LoopResult struct {
	// Stopped is true when the run has ended; else the loop handed over.
	Stopped bool `json:"stopped"`
}

// PoolInput starts a RolloutPool.
type PoolInput struct {
	Run    string `json:"run"`
	Pool   int    `json:"pool"`
	Pools  int    `json:"pools"`
	Limits Limits `json:"limits"`
}

// PoolFailure tells a run that one of its pools cannot go on.
type PoolFailure struct {
	Pool   int    `json:"pool"`
	Reason string `json:"reason"`
}

// PoolID is the workflow id of a run's pool.
func PoolID(run string, pool int) string { return fmt.Sprintf("%s/pool/%d", run, pool) }

// ControlReply answers a pause, resume or cancel.
type ControlReply struct {
	Status runstate.Status `json:"status"`
}
