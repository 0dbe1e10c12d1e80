// Package ledger compares what a run's store, its ledger and its history say, and finds where they do
// not agree.
//
// [Check] is a pure function of [Facts]: whoever calls it reads the folder and asks Temporal. A sound run
// has no findings at any moment, not only after its end; a run at work may be ahead of what was read of
// it by one step, and [Facts.Ended] says when nothing may be missing any more.
package ledger

// Facts are what is known of one run.
type Facts struct {
	// Ended is "completed", "failed" or "cancelled" as the run's last event says; "" while it goes on.
	Ended string
	// EndedAt is the step that the last event names; it counts only when Ended is set.
	EndedAt int
	// LastStep is the number of the plan's last step.
	LastStep int
	// Steps are the manifests that can be read, ascending.
	Steps []Step
	// Unreadable are objects and files that are there and cannot be read.
	Unreadable []Unreadable
	// Segments are the groups in the store, ascending.
	Segments []Segment
	// Objects are the weights and checkpoints that manifests refer to.
	Objects []Object
	// Metrics are the steps of the lines of metrics.jsonl, in the order of the file.
	Metrics []int
	// History is what Temporal holds of the run; nil when it was not asked.
	History *History
}

// Unreadable is something whose content is not what the program wrote.
type Unreadable struct {
	Key     string
	Problem string
}

// Step is one committed step as its manifest tells it.
type Step struct {
	Number int
	// Staleness is what the config in force allowed: version trained − oldest version that sampled.
	Staleness int
	// Batch are the groups trained, in order; nil for a step without rollouts.
	Batch []Batched
	// Rows are the ledger, one a trajectory of the batch, in order.
	Rows []Row
	// Dropped are the groups that were given up when the batch was filled.
	Dropped []Dropped
	// Weights is the digest of the stored weights; "" when none are stored.
	Weights string
}

// Batched is a group of a batch.
type Batched struct {
	Group  int
	Digest string
}

// Row says what became of one trajectory.
type Row struct {
	Trajectory string
	State      State
	// Versions are the smallest and largest policy version that sampled a token.
	Versions [2]int
}

// State is what a row says of its trajectory.
type State string

const (
	Trained State = "trained" // it moved the policy
	Left    State = "dropped" // it was in the batch and did not move the policy
	Failed  State = "failed"  // there is none: every attempt at the member failed
)

// Dropped is a group that was given up.
type Dropped struct {
	Group  int
	Reason string
}

// Segment is one group in the store.
type Segment struct {
	Group  int
	Digest string
	// Problem says why it cannot be read; "" when it can. Then Trajectories are known.
	Problem string
	// Trajectories are its members, in order.
	Trajectories []Trajectory
}

// Trajectory is one member of a group.
type Trajectory struct {
	ID string
	// Sampled is false when no token of it was sampled, or no version was recorded.
	Sampled bool
	// Versions are the smallest and largest version that sampled a token; they count when Sampled is set.
	Versions [2]int
}

// Object is an object that a manifest refers to.
type Object struct {
	Step int
	// What it is: "weights", "checkpoint weights" or "optimizer state".
	What string
	Key  string
	Want string // digest by the manifest
	Got  string // digest of what is there; "" when nothing is
	// Problem says why it cannot be read; "" when it can or is missing.
	Problem string
	// MayExpire says that the run's own rules may have removed it.
	MayExpire bool
}

// History is what Temporal holds of a run, over all workflow runs that continue each other.
type History struct {
	// Commits are the completions of training steps.
	Commits []Commit
	// Groups are the groups that rollout loops reported, in order; a group may be reported again.
	Groups []Batched
	// Outcome is how the workflow ended by its own result, with the last step it knew; "" while it runs.
	Outcome   string
	Committed int
}

// Commit is a training step that the history calls committed.
type Commit struct {
	Step int
	// Weights is the digest of the weights that the step stored; "" when it stored none.
	Weights string
	// Batch are the groups the step was asked to train; nil for a step without rollouts.
	Batch []Batched
}

// Kind sorts findings.
type Kind string

const (
	Unread          Kind = "unreadable"       // an object or a file does not hold what was written
	StepGap         Kind = "step_gap"         // a step is missing between others
	TrainedTwice    Kind = "trained_twice"    // a group is in two batches, or twice in one
	SegmentMissing  Kind = "segment_missing"  // a group of a batch is not in the store
	SegmentChanged  Kind = "segment_changed"  // a group in the store is not the one that was trained
	RowMissing      Kind = "row_missing"      // a trajectory of a batch has no row
	RowUnfounded    Kind = "row_unfounded"    // a row has no trajectory in the batch
	RowTwice        Kind = "row_twice"        // a trajectory has two rows
	RowMistaken     Kind = "row_mistaken"     // a row calls a trajectory failed that is in the batch, or has no known state
	RowVersions     Kind = "row_versions"     // a row has other versions than the trajectory's tokens
	Stale           Kind = "stale"            // a trained token is older than was allowed
	FromTheFuture   Kind = "from_the_future"  // a trained token is of a version that did not exist
	DroppedTrained  Kind = "dropped_trained"  // a group is both trained and dropped
	DroppedTwice    Kind = "dropped_twice"    // a group is dropped in two steps, or twice in one
	Unsettled       Kind = "unsettled"        // a completed run left a group in the store
	ObjectMissing   Kind = "object_missing"   // weights or a checkpoint are gone before their time
	ObjectCorrupt   Kind = "object_corrupt"   // weights or a checkpoint hold other bytes
	LineMissing     Kind = "line_missing"     // a committed step has no line of metrics
	LineUnfounded   Kind = "line_unfounded"   // a line of metrics has no committed step, or is a second one
	EndingWrong     Kind = "ending_wrong"     // the run's last event does not fit the manifests
	CommitLost      Kind = "commit_lost"      // the history has a commit that the store lacks
	CommitDiffers   Kind = "commit_differs"   // history and store have other weights or another batch
	ReportLost      Kind = "report_lost"      // the history has a group that the store lacks
	ReportDiffers   Kind = "report_differs"   // history and store have another content of a group
	HistoryMistaken Kind = "history_mistaken" // the workflow's result does not fit the manifests
)

// Kinds lists every kind.
var Kinds = []Kind{Unread, StepGap, TrainedTwice, SegmentMissing, SegmentChanged, RowMissing, RowUnfounded, RowTwice, RowMistaken, RowVersions, Stale, FromTheFuture,
	DroppedTrained, DroppedTwice, Unsettled, ObjectMissing, ObjectCorrupt, LineMissing, LineUnfounded, EndingWrong,
	CommitLost, CommitDiffers, ReportLost, ReportDiffers, HistoryMistaken}

// Finding is one disagreement, in a sentence that names both sides.
type Finding struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
}
