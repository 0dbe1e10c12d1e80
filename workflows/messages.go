package workflows

import (
	"fmt"
	"time"

	"github.com/turnwise-rl/turnwise/internal/lease"
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
	// Devices are what the run's roles ask the device pool for.
	Devices Needs `json:"devices"`
	// Fork starts the run from a committed step of another one; nil starts it from its own step 0.
	Fork *Fork `json:"fork,omitempty"`
	// State continues an earlier workflow run; nil at the start.
	State *runstate.State `json:"state,omitempty"`
}

// Limits bound the run's activities. All are positive: nothing waits for ever without being seen.
type Limits struct {
	// StepTimeout bounds one attempt at preparing, repairing or, before durations are measured, training.
	StepTimeout time.Duration `json:"step_timeout"`
	// HeartbeatTimeout is how long a worker may be silent before its work is given to another one: three
	// heartbeats.
	HeartbeatTimeout time.Duration `json:"heartbeat_timeout"`
	// LoopTimeout bounds one rollout loop, which hands over after half of it.
	LoopTimeout time.Duration `json:"loop_timeout"`
	// GiveUpAfter is how long one piece of work is tried again before the run fails.
	GiveUpAfter time.Duration `json:"give_up_after"`
}

// Validate reports the first limit that is not positive.
func (l Limits) Validate() error {
	for _, limit := range []struct {
		name  string
		value time.Duration
	}{
		{"step_timeout", l.StepTimeout}, {"heartbeat_timeout", l.HeartbeatTimeout},
		{"loop_timeout", l.LoopTimeout}, {"give_up_after", l.GiveUpAfter},
	} {
		if limit.value <= 0 {
			return fmt.Errorf("%s is %s: must be positive", limit.name, limit.value)
		}
	}
	return nil
}

// Fork names a committed step of another run.
type Fork struct {
	Run  string `json:"run"`
	Step int    `json:"step"`
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
	Fork   *Fork  `json:"fork,omitempty"`
}

// PrepareResult says what the folder holds; see [runstate.Prepared].
type PrepareResult struct {
	Committed int            `json:"committed"`
	Weights   runstate.Ref   `json:"weights"`
	Evaluated []int          `json:"evaluated"`
	Fence     int            `json:"fence"`
	Revision  int            `json:"revision"`
	Config    int            `json:"config"`
	Spec      *runstate.Spec `json:"spec,omitempty"`
	NextGroup int            `json:"next_group"`
	Open      []int          `json:"open,omitempty"`
}

// TrainInput asks for one step; see [runstate.TrainStep].
type TrainInput struct {
	Run        string              `json:"run"`
	Step       int                 `json:"step"`
	Kind       runstate.Kind       `json:"kind"`
	Batch      []runstate.GroupRef `json:"batch,omitempty"`
	Dropped    []runstate.Dropped  `json:"dropped,omitempty"`
	Config     int                 `json:"config"`
	Checkpoint bool                `json:"checkpoint"`
	Fence      int                 `json:"fence"`
	Lease      Under               `json:"lease"`
}

// TrainResult says that a step is committed, or, when Corrupt names groups, that it is not: their
// objects were set aside, and the step can be made once they are there again.
type TrainResult struct {
	Step    int          `json:"step"`
	Weights runstate.Ref `json:"weights"`
	Corrupt []int        `json:"corrupt,omitempty"`
}

// RepairInput asks for a corrupt object with weights to be made again.
type RepairInput struct {
	Run   string `json:"run"`
	Key   string `json:"key"`
	Lease Under  `json:"lease"`
}

// ChangeInput asks for settings of a running run to be changed. The new revision is kept in the run's
// folder; asking again with the same overrides gives the same one.
type ChangeInput struct {
	Run string `json:"run"`
	// Base is the revision that the overrides apply to, Revision the one they make.
	Base      int      `json:"base"`
	Revision  int      `json:"revision"`
	Overrides []string `json:"overrides"`
}

// ChangeResult is the plan with the changed settings.
type ChangeResult struct {
	Spec runstate.Spec `json:"spec"`
	// Summary says what changed, for people: "training.staleness 0 → 2".
	Summary string `json:"summary"`
}

// EvaluateInput asks for held-out tasks to be played with one version.
type EvaluateInput struct {
	Run     string       `json:"run"`
	Version int          `json:"version"`
	Weights runstate.Ref `json:"weights"`
	Lease   Under        `json:"lease"`
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
	Run  string `json:"run"`
	Pool int    `json:"pool"`
	// HandOverAfter is when the loop leaves by itself, so that a successor starts fresh.
	HandOverAfter time.Duration `json:"hand_over_after"`
	Lease         Under         `json:"lease"`
}

// LoopProgress is what a loop's heartbeats say, and what is left of it when it dies.
type LoopProgress struct {
	Tenure   int    `json:"tenure"`
	Worker   string `json:"worker"`
	Episodes int    `json:"episodes"` // in flight
}

// LoopResult says why a loop left.
type LoopResult struct {
	Tenure int `json:"tenure"`
	// Stopped is true when the run has ended; else the loop left for another one to go on.
	Stopped bool `json:"stopped"`
	// Reason says why it left, for people.
	Reason string `json:"reason"`
}

// PoolInput starts a RolloutPool.
type PoolInput struct {
	Run    string `json:"run"`
	Pool   int    `json:"pool"`
	Limits Limits `json:"limits"`
	// Request is what the pool's loops ask the device pool for, and Lease what they have of it.
	Request lease.Request `json:"request"`
	Lease   *lease.Lease  `json:"lease,omitempty"`
	// Failures counts loops that failed one after another without having served.
	Failures int `json:"failures,omitempty"`
}

// PoolID is the workflow id of a run's pool.
func PoolID(run string, pool int) string { return fmt.Sprintf("%s/pool/%d", run, pool) }

// GroupsReport is what a loop tells about groups of its share. It may come twice.
type GroupsReport struct {
	Pool    int            `json:"pool"`
	Tenure  int            `json:"tenure"`
	Ready   []ReadyGroup   `json:"ready,omitempty"`
	Short   []ShortGroup   `json:"short,omitempty"`
	Dropped []DroppedGroup `json:"dropped,omitempty"`
	// CorruptWeights is the key of an object with weights that does not hold what it held; "" when all do.
	CorruptWeights string `json:"corrupt_weights,omitempty"`
}

// ReadyGroup is a group in the store.
type ReadyGroup struct {
	runstate.GroupRef
	// Failed counts attempts of its members that failed without having been reported.
	Failed int `json:"failed,omitempty"`
}

// ShortGroup is a group whose round ended with members missing.
type ShortGroup struct {
	Number int                      `json:"number"`
	Round  int                      `json:"round"`
	Failed []runstate.MemberFailure `json:"failed"`
}

// DroppedGroup is a group that a loop gave up.
type DroppedGroup struct {
	Number int    `json:"number"`
	Reason string `json:"reason"`
}

// PoolState says how a pool stands.
type PoolState string

const (
	PoolServing PoolState = "serving" // a loop of this tenure is at work
	PoolQuiet   PoolState = "quiet"   // every episode waits at a turn because control Revision said pause
	PoolLost    PoolState = "lost"    // there is no loop now
	PoolFailed  PoolState = "failed"  // there will be none
)

// PoolNews is what a pool or its loop tells the run.
type PoolNews struct {
	Pool     int       `json:"pool"`
	State    PoolState `json:"state"`
	Tenure   int       `json:"tenure,omitempty"`
	Revision int       `json:"revision,omitempty"`
	Worker   string    `json:"worker,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// EvaluationInput starts an Evaluation.
type EvaluationInput struct {
	EvaluateInput
	Timeout time.Duration `json:"timeout"`
	Limits  Limits        `json:"limits"`
	// Request is what the evaluation asks the device pool for, and Lease what it has of it.
	Request lease.Request `json:"request"`
	Lease   *lease.Lease  `json:"lease,omitempty"`
	// Patient is true when an attempt took longer than what was measured lets expect.
	Patient bool `json:"patient,omitempty"`
}

// EvaluationID is the workflow id of the evaluation of a version.
func EvaluationID(run string, version int) string {
	return fmt.Sprintf("%s/evaluation/%d", run, version)
}

// EvaluationState says how an evaluation stands.
type EvaluationState string

const (
	EvaluationEnded   EvaluationState = ""        // it is recorded, or has failed for Reason
	EvaluationWaiting EvaluationState = "waiting" // it has no device, for Reason
	EvaluationPlaying EvaluationState = "playing" // it has one
)

// EvaluationNews is how an evaluation stands.
type EvaluationNews struct {
	Version int             `json:"version"`
	State   EvaluationState `json:"state,omitempty"`
	// Took is how long it was played.
	Took time.Duration `json:"took"`
	// Reason says why it waits or failed; "" when it is recorded.
	Reason string `json:"reason,omitempty"`
}

// ControlReply answers a pause, resume or cancel.
type ControlReply struct {
	Status runstate.Status `json:"status"`
}

// SetInput asks for settings to be changed, as overrides "key.path=value".
type SetInput struct {
	Overrides []string `json:"overrides"`
}

// SetReply says what was changed.
type SetReply struct {
	Revision int    `json:"revision"`
	Summary  string `json:"summary"`
	// FromStep is the first step that uses the settings.
	FromStep int             `json:"from_step"`
	Status   runstate.Status `json:"status"`
}
