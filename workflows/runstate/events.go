package runstate

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
}

// ContinuedAsNew says that the workflow goes on in a fresh history with the state it had.
type ContinuedAsNew struct{}

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
	Weights Ref // weights of the version the step made
}

// StepFailed says that a step cannot be committed, ever: retrying would not help.
type StepFailed struct {
	Step   int
	Reason string
}

// GroupReady says that a group is in the store. It may arrive late, twice or out of order.
type GroupReady struct{ Group GroupRef }

// Evaluated says that an evaluation is recorded.
type Evaluated struct{ Version int }

// EvaluationFailed says that an evaluation cannot be made, ever.
type EvaluationFailed struct {
	Version int
	Reason  string
}

// PauseAsked asks to stop at the next safe point: nothing new is admitted, trained or evaluated.
type PauseAsked struct{}

// ResumeAsked takes a pause back.
type ResumeAsked struct{}

// CancelAsked asks to end the run after what is in flight.
type CancelAsked struct{}

// HandoverAsked asks to bring the run to a point where nothing is in flight, so that the workflow can
// continue as new.
type HandoverAsked struct{}

func (Prepared) isEvent()         {}
func (ContinuedAsNew) isEvent()   {}
func (PoolFailed) isEvent()       {}
func (Broken) isEvent()           {}
func (StepCommitted) isEvent()    {}
func (StepFailed) isEvent()       {}
func (GroupReady) isEvent()       {}
func (Evaluated) isEvent()        {}
func (EvaluationFailed) isEvent() {}
func (PauseAsked) isEvent()       {}
func (ResumeAsked) isEvent()      {}
func (CancelAsked) isEvent()      {}
func (HandoverAsked) isEvent()    {}

// Command is something to do.
type Command interface{ isCommand() }

// StartPools starts the rollout pools.
type StartPools struct{ Pools int }

// PublishControl replaces the control object.
type PublishControl struct{ Control Control }

// TrainStep makes one step.
type TrainStep struct {
	Step int
	Kind Kind
	// Batch are the groups of a reinforcement step, in training order; nil for a warm step.
	Batch []GroupRef
	// Fence is larger than that of every step command before it, also over restarts.
	Fence int
}

// Evaluate plays held-out tasks with a version's weights.
type Evaluate struct {
	Version int
	Weights Ref
}

// Note records an event of the run for people.
type Note struct{ Text string }

// HandOver says that nothing is in flight and the workflow may continue as new.
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
func (Evaluate) isCommand()       {}
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
