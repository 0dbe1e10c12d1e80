package chaos

import (
	"slices"
	"time"
)

// Progress is something durable that a run has gained.
type Progress struct {
	// Seen is when a [Watch] first saw it.
	Seen time.Time
	// Of is whose work it is: the learner's for a committed step, the control process's for a control
	// object, an event or a published decision, the rollout workers' for a finished turn.
	Of Role
	// Step is the committed step; 0 otherwise. Fence is the token in its manifest, which is smaller than any
	// under a later lease.
	Step, Fence int
	// Tenure and Group are those of a finished turn. Since is when the tenure was first seen.
	Tenure, Group int
	Since         time.Time
}

// Recovery tells when a run was over a fault: when the first progress came that shows that the victim's
// work goes on. False while it has not come. By the victim's role:
//
//   - learner, or a corrupt object: a step was committed; after the loss of a device, under another lease.
//   - control: a control object, an event or a step was published that was not yet decided when the fault
//     struck, which a step is when it comes right after the last committed one.
//   - server: the same, after the killed server served again.
//   - rollout: a turn was finished by a loop that began after the fault, or by another process's loop in a
//     group that the victim had begun. A victim that held no loop has recovered once it serves again.
//
// A fault that lasts is recovered from when progress of that kind comes after it was lifted; any loop's
// turn will do, as the victim itself goes on.
func Recovery(strike Strike, progress []Progress) (time.Time, bool) {
	after := strike.Lifted
	if strike.Role == Server && strike.Kind == SIGKILL {
		if strike.Serving.IsZero() {
			return time.Time{}, false
		}
		after = strike.Serving
	}
	if strike.Role == Rollout && strike.Kind == SIGKILL && len(strike.Tenures) == 0 {
		return strike.Serving, !strike.Serving.IsZero()
	}
	for _, p := range progress {
		if p.Seen.After(after) && strike.shownBy(p) {
			return p.Seen, true
		}
	}
	return time.Time{}, false
}

// shownBy says whether progress after the fault shows that the victim's work goes on.
func (s Strike) shownBy(p Progress) bool {
	switch s.Role {
	case Learner, Store:
		return p.Of == Learner && (s.Kind != Device || s.Lease != 0 && p.Fence >= s.Lease)
	case Control, Server:
		return p.Of == Control || p.Of == Learner && p.Step > s.Committed+1
	}
	if p.Of != Rollout || s.Kind != SIGKILL {
		return p.Of == Rollout
	}
	if slices.Contains(s.Tenures, p.Tenure) {
		return false
	}
	return p.Since.After(s.At) || slices.Contains(s.Groups, p.Group)
}
