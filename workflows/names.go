// Package workflows holds the Temporal workflows: thin shells that turn futures, signals and updates
// into events of the pure machine in runstate, and its commands into activities.
//
// History carries references and decisions, never tokens or tensors. The activities are called by
// name; package workflows/activity implements them.
package workflows

// Task queues. A worker process serves those of its roles.
const (
	ControlQueue = "turnwise/control" // workflows
	LearnerQueue = "turnwise/learner" // preparation, changes of settings
	// FolderQueue is for small writes in a run's folder: control objects and events. Learners and rollout workers
	// serve it, since both have the folder, so that a run is steered while either is away.
	FolderQueue = "turnwise/folder"
)

// Workflow types.
const (
	TrainingRunType = "TrainingRun"
	RolloutPoolType = "RolloutPool"
	EvaluationType  = "Evaluation"
	DevicePoolType  = "DevicePool"
)

// Activity types.
const (
	PrepareActivity        = "Prepare"
	PublishControlActivity = "PublishControl"
	RecordEventActivity    = "RecordEvent"
	TrainStepActivity      = "TrainStep"
	EvaluateActivity       = "Evaluate"
	RolloutLoopActivity    = "RolloutLoop"
	RepairActivity         = "Repair"
	ChangeConfigActivity   = "ChangeConfig"
)

// Names of the run's signals, query and updates.
const (
	GroupsSignal     = "groups"     // a GroupsReport of a rollout loop
	PoolSignal       = "pool"       // a PoolNews of a rollout pool or its loop
	EvaluationSignal = "evaluation" // an EvaluationNews of an evaluation
	StatusQuery      = "status"
	PauseUpdate      = "pause"
	ResumeUpdate     = "resume"
	CancelUpdate     = "cancel"
	SetUpdate        = "set"
	LeaseSignal      = "lease" // a lease.News of the device pool, to whoever asked for a lease
)

// Names of the device pool's signals, query and updates.
const (
	RequestSignal = "request" // a lease.Request, and its place in what the holder says
	RenewSignal   = "renew"   // a lease.Lease, and its place
	ReleaseSignal = "release" // a lease.Released, and its place
	DevicesQuery  = "devices" // answers with a lease.Snapshot
	ReportUpdate  = "report"  // a lease.Report of an agent, answered with a lease.Reply
	DrainUpdate   = "drain"   // a DrainInput
	UndrainUpdate = "undrain" // a DrainInput
	QueueUpdate   = "queue"   // a lease.Queue
)

// Search attributes that a namespace must know.
const (
	RunAttribute    = "TurnwiseRun"
	MethodAttribute = "TurnwiseMethod"
	StatusAttribute = "TurnwiseStatus"
)

// NonRetryable is the type of an activity error that retrying cannot cure: data that break a
// contract, or a digest that does not match.
const NonRetryable = "turnwise.NonRetryable"

// OutOfMemory is the type of an activity error that says that a device had too little memory, while somebody else
// held enough of it: trying again helps once that is given back.
const OutOfMemory = "turnwise.OutOfMemory"

// DeviceFailed is the type of an activity error that says that a device has failed the activity's process, which
// leaves: the work goes on under the next lease.
const DeviceFailed = "turnwise.DeviceFailed"

// LeaseLost is the type of an activity error that says that the activity's lease has ended, or never was.
// Nothing is wrong with the work itself.
const LeaseLost = "turnwise.LeaseLost"
