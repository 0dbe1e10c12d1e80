package chaos

import (
	"fmt"
	"time"
)

// Episode names one member of a group.
type Episode struct {
	Group, Member int
}

// String is the id of the episode's trajectory.
func (e Episode) String() string { return fmt.Sprintf("g%d/%d", e.Group, e.Member) }

// MarkKind says what an entry of a journal tells.
type MarkKind string

const (
	Began    MarkKind = "began"    // a turn was started
	Finished MarkKind = "finished" // a turn is durable
	Failed   MarkKind = "failed"   // an attempt ended without a trajectory
)

// Mark is one entry of a journal of turns.
type Mark struct {
	Episode
	// Tenure is the rollout loop that made it.
	Tenure int
	Kind   MarkKind
	// Turn is the turn's index; 0 when an attempt failed.
	Turn int
	// Last says that the finished turn ended its episode.
	Last bool
	// Seen is when a [Watch] first saw the entry; zero when it did not.
	Seen time.Time
}

// Step is one committed step as its manifest tells.
type Step struct {
	Number int
	// Fence is the token the learner held.
	Fence int
	// Digest is that of the manifest's bytes, Weights that of the policy after the step.
	Digest, Weights string
	Committed       time.Time
	// Trained and Dropped are the groups that the step settled.
	Trained, Dropped []int
	// Rows are the trajectories in its ledger, and whether each moved the policy.
	Rows []Row
}

// Row is one trajectory of a step's ledger.
type Row struct {
	Trajectory string
	Trained    bool
}

// Evidence is what a run that has ended left behind, and what was seen of it on the way.
type Evidence struct {
	// Run is the run's id, Seed its seed.
	Run  string
	Seed uint64
	// LastStep is the last step of its plan, counted from 1.
	LastStep int
	// Outcome is how the run says that it ended; "completed" when all is well.
	Outcome string
	// Started is when it was submitted.
	Started time.Time
	// Steps are the committed steps in order, the untrained policy's step 0 first.
	Steps []Step
	// Seen are the digests of the manifests that a [Watch] saw during the run, by step.
	Seen map[int]string
	// Stored are the trajectories of each group in the store, by the group's number.
	Stored map[int][]string
	// Marks are the entries of all journals, by tenure and in their order; nil when no journal was kept.
	Marks []Mark
	// Strikes are the faults that struck the run.
	Strikes []Strike
}

// Strike is a fault that struck.
type Strike struct {
	Fault
	// Target is the process or the object that was struck.
	Target string
	// At is when it struck, Lifted when it was over; the same when it was over at once.
	At, Lifted time.Time
	// Committed is the last committed step when it struck.
	Committed int
	// Tenures are the rollout loops that the process had open. Groups are the groups they had begun that
	// no step had settled.
	Tenures, Groups []int
	// Lease is the smallest fencing token that a manifest can hold under the lease which the learner was given
	// after its device had been struck; 0 until then, and for other faults.
	Lease int
	// Serving is when the process, started again after a kill, served; zero until then.
	Serving time.Time
	// Recovered is when the work went on; see [Recovery]. It is the run's end when that came first.
	Recovered time.Time
}

// Seconds is how long the fault held its victim's work up: from a kill, or from the end of a fault that
// lasts, to the first progress after it.
func (s Strike) Seconds() float64 {
	from := s.At
	if s.Lasts > 0 {
		from = s.Lifted
	}
	return max(0, s.Recovered.Sub(from).Seconds())
}

// Final is the digest of the weights after the last committed step; "" when there is none.
func (e *Evidence) Final() string {
	if len(e.Steps) == 0 {
		return ""
	}
	return e.Steps[len(e.Steps)-1].Weights
}

// SecondsPerStep is the time from the submission to the last commit over the committed steps, step 0
// aside; 0 when there is none.
func (e *Evidence) SecondsPerStep() float64 {
	if len(e.Steps) < 2 {
		return 0
	}
	return e.Steps[len(e.Steps)-1].Committed.Sub(e.Started).Seconds() / float64(len(e.Steps)-1)
}
