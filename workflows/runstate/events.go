package runstate

import "time"

// Event is something that happened.
type Event interface{ isEvent() }

// Prepared says what the run's folder already holds, so that a run goes on from its last committed
// step even when the workflow's own history is gone.
type Prepared struct {
	Committed int   // last committed step
	Weights   Ref   // weights of that step
	Evaluated []int // versions whose evaluation is recorded, in any order
	Fence     int   // largest fence a learner has shown; new ones are larger
	Revision  int   // revision of the published control; new ones are larger
	Config    int   // newest revision of the settings, with its Spec; 0 for those submitted
	Spec      *Spec // nil for the one submitted
	// NextGroup is the first number that no group has; Open are the numbers below it that no step
	// trained or dropped. Their groups may be in the store already.
	NextGroup int
	Open      []int
}

// ContinuedAsNew says that the workflow goes on in a fresh history with the state it had.
type ContinuedAsNew struct{}

// Tick says that time has passed.
type Tick struct{}

// PoolServing says that a loop of a pool is at work. A later tenure replaces an earlier one.
type PoolServing struct {
	Pool, Tenure int
	Worker       string // for people
}

// PoolLost says that a pool has no loop any more, for now. Tenure is that of the loop that was lost; 0
// when it is not known.
type PoolLost struct {
	Pool, Tenure int
	Reason       string
}

// PoolQuiet says that every episode of a pool waits at a turn, after control Revision said pause.
type PoolQuiet struct{ Pool, Tenure, Revision int }

// PoolFailed says that a rollout pool cannot go on, ever. Before StartPools it means nothing: it is
// news of an earlier run of the same folder.
type PoolFailed struct {
	Pool   int
	Reason string
}

// Broken says that something the run cannot do without failed, ever: its preparation or its own
// bookkeeping.
type Broken struct{ Reason string }

// StepCommitted says that a step's manifest exists.
type StepCommitted struct {
	Step    int
	Weights Ref           // weights of the version the step made
	Took    time.Duration // from the command on; 0 when the step was there already
}

// StepFailed says that a step cannot be committed, ever: retrying would not help.
type StepFailed struct {
	Step   int
	Reason string
}

// StepTimedOut says that an attempt at a step took longer than its time-out.
type StepTimedOut struct{ Step int }

// StepCorrupt says that a step was not made because groups of its batch do not hold what they held. They
// are set aside, and made again under the same number.
type StepCorrupt struct {
	Step   int
	Groups []int
}

// WeightsCorrupt says that an object with weights does not hold what it held.
type WeightsCorrupt struct{ Key string }

// Repaired says that an object is whole again, or why that is impossible.
type Repaired struct {
	Key    string
	Reason string // "" when it is whole
}

// LeaseGranted says that the run has the lease that it asked for. One with a larger fence than the one held
// means that what is in flight begins again under it, for Reason.
type LeaseGranted struct {
	Lease  Lease
	Reason string
}

// LeaseWaiting says why the run has no lease yet.
type LeaseWaiting struct{ Reason string }

// LeaseYield asks for the lease with this fence at the next step.
type LeaseYield struct {
	Fence  int
	Reason string
}

// LeaseRevoked says that the lease with this fence has ended: what runs under it cannot commit.
type LeaseRevoked struct {
	Fence  int
	Reason string
}

// WorkLeft says that the agent of the lease with this fence leaves a step or a repair: nobody took it in
// time, or it was dropped without a word.
type WorkLeft struct {
	Fence  int
	Reason string
}

// GroupReady says that a group is in the store. It may arrive late, twice or out of order.
type GroupReady struct {
	Group GroupRef
	// Failed counts the attempts at its members that failed and were not reported as short.
	Failed int
}

// GroupShort says that members of a group failed in a round. The others are finished and recorded.
type GroupShort struct {
	Number, Round int
	Failed        []MemberFailure
}

// MemberFailure says why a member has no trajectory.
type MemberFailure struct {
	Member int    `json:"member"`
	Kind   string `json:"kind"` // a rollout.FailureKind
	Reason string `json:"reason"`
}

// GroupDropped says that a loop gave a group up, because it is too old to be trained.
type GroupDropped struct {
	Number int
	Reason string
}

// Evaluated says that an evaluation is recorded.
type Evaluated struct {
	Version int
	Took    time.Duration
}

// EvaluationWaiting says why the evaluation in flight has no device; "" when it has one.
type EvaluationWaiting struct {
	Version int
	Reason  string
}

// EvaluationFailed says that an evaluation cannot be made, ever.
type EvaluationFailed struct {
	Version int
	Reason  string
}

// Changed says that settings of the running run have changed. The next step uses them.
type Changed struct {
	Config  int // revision of the settings
	Spec    Spec
	Summary string // for people
}

// PauseAsked asks to stop at the next safe point: nothing new is admitted, trained or evaluated, and
// episodes wait at their next turn.
type PauseAsked struct{}

// ResumeAsked takes a pause back, and a hold.
type ResumeAsked struct{}

// CancelAsked asks to end the run after what is in flight.
type CancelAsked struct{}

// HandoverAsked asks to bring the run to a point where no activity of the workflow is in flight, so
// that it can continue as new. Pools and evaluations are workflows of their own and go on.
type HandoverAsked struct{}

func (Prepared) isEvent()          {}
func (ContinuedAsNew) isEvent()    {}
func (Tick) isEvent()              {}
func (PoolServing) isEvent()       {}
func (PoolLost) isEvent()          {}
func (PoolQuiet) isEvent()         {}
func (PoolFailed) isEvent()        {}
func (Broken) isEvent()            {}
func (StepCommitted) isEvent()     {}
func (StepFailed) isEvent()        {}
func (StepTimedOut) isEvent()      {}
func (StepCorrupt) isEvent()       {}
func (WeightsCorrupt) isEvent()    {}
func (Repaired) isEvent()          {}
func (LeaseGranted) isEvent()      {}
func (LeaseWaiting) isEvent()      {}
func (LeaseYield) isEvent()        {}
func (LeaseRevoked) isEvent()      {}
func (WorkLeft) isEvent()          {}
func (GroupReady) isEvent()        {}
func (GroupShort) isEvent()        {}
func (GroupDropped) isEvent()      {}
func (Evaluated) isEvent()         {}
func (EvaluationWaiting) isEvent() {}
func (EvaluationFailed) isEvent()  {}
func (Changed) isEvent()           {}
func (PauseAsked) isEvent()        {}
func (ResumeAsked) isEvent()       {}
func (CancelAsked) isEvent()       {}
func (HandoverAsked) isEvent()     {}

// Command is something to do.
type Command interface{ isCommand() }

// StartPools starts the rollout pools From to To − 1.
type StartPools struct{ From, To int }

// PublishControl replaces the control object.
type PublishControl struct{ Control Control }

// TrainStep makes one step.
type TrainStep struct {
	Step int
	Kind Kind
	// Batch are the groups of a reinforcement step, in training order; nil for a warm step.
	Batch []GroupRef
	// Dropped are the groups settled without training since the step before.
	Dropped []Dropped
	// Config is the revision of the settings that the step uses.
	Config int
	// Checkpoint says that the learner's whole state is written.
	Checkpoint bool
	// Fence is larger than that of every step command before it, also over restarts.
	Fence int
	// Timeout bounds one attempt.
	Timeout time.Duration
	// Lease is the one that the step runs under; Fence is at least its fence.
	Lease Lease
}

// AskLease asks for a lease for the learner, with a fence above the given one.
type AskLease struct{ Above int }

// GiveLease gives a lease back; Fence 0 is whatever the run has or has asked for.
type GiveLease struct{ Fence int }

// Abandon cancels the step and the repairs in flight without waiting for their end: their lease has ended,
// and whatever still comes of them is no news. Step 0 is none.
type Abandon struct {
	Step    int
	Repairs []string
}

// Evaluate plays held-out tasks with a version's weights.
type Evaluate struct {
	Version int
	Weights Ref
	Timeout time.Duration
}

// Repair makes a corrupt object again.
type Repair struct {
	Key string
	// Lease is the one that the repair runs under.
	Lease Lease
}

// Note records an event of the run for people.
type Note struct{ Text string }

// HandOver says that no activity is in flight and the workflow may continue as new.
type HandOver struct{}

// Finish ends the run.
type Finish struct {
	Outcome Outcome
	// Reason says why a run failed; "" otherwise.
	Reason string
}

func (StartPools) isCommand()     {}
func (PublishControl) isCommand() {}
func (TrainStep) isCommand()      {}
func (AskLease) isCommand()       {}
func (GiveLease) isCommand()      {}
func (Abandon) isCommand()        {}
func (Evaluate) isCommand()       {}
func (Repair) isCommand()         {}
func (Note) isCommand()           {}
func (HandOver) isCommand()       {}
func (Finish) isCommand()         {}

// Outcome says how a run ended.
type Outcome string

const (
	Completed Outcome = "completed" // every step asked for is committed
	Failed    Outcome = "failed"    // it could not go on; its reason says why
	Cancelled Outcome = "cancelled" // somebody ended it
)
