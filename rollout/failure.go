package rollout

import "fmt"

// FailureKind says what kept an attempt at an episode from coming to its end. A failure is never data:
// an attempt that failed has no reward.
type FailureKind string

const (
	FailedEnvironment FailureKind = "environment" // the environment could not be opened, restored or closed
	FailedTool        FailureKind = "tool"        // a tool broke for reasons the policy did not cause
	FailedEngine      FailureKind = "engine"      // the sampling engine broke
	FailedTimeout     FailureKind = "timeout"     // a limit of the clock came first
	FailedCancelled   FailureKind = "cancelled"   // the run withdrew the episode
	FailedLost        FailureKind = "lost"        // the process that played it is gone
	FailedStorage     FailureKind = "storage"     // a turn could not be recorded: a full disk
)

// FailureKinds lists every kind.
var FailureKinds = []FailureKind{FailedEnvironment, FailedTool, FailedEngine, FailedTimeout, FailedCancelled, FailedLost, FailedStorage}

// Failure is why an attempt has no trajectory.
type Failure struct {
	Kind FailureKind
	Err  error
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Kind, f.Err) }
func (f *Failure) Unwrap() error { return f.Err }

// Attempt is one try at a member of a group, in the attempt ledger of the group. What one attempt
// finished the next one goes on from.
type Attempt struct {
	// Trajectory is the member's id, "g17/3".
	Trajectory string `json:"trajectory"`
	// Number counts the member's attempts from 1.
	Number int `json:"attempt"`
	// Tenure is the rollout loop that made it.
	Tenure int `json:"tenure"`
	// From is the turn that the attempt began with: those before it were finished by earlier attempts.
	From int `json:"from"`
	// Discarded is how many finished turns it threw away, because its environment cannot go on in the
	// middle of an episode; it began with turn 0 then.
	Discarded int `json:"discarded,omitempty"`
	// Failure is why it did not come to the end; "" for the attempt that did.
	Failure FailureKind `json:"failure,omitempty"`
	// Reason is the failure in words.
	Reason string `json:"reason,omitempty"`
}
