package record

import (
	"fmt"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// validateAttempts checks the attempt ledger: the attempts at each member are numbered from 1, one of those
// at a trajectory of the group ended it, and those at other members, which were replaced, all failed.
func validateAttempts(g rollout.Group, index map[string]int) error {
	made, ended := map[string]int{}, map[string]bool{}
	for i, a := range g.Attempts {
		at, known := index[a.Trajectory]
		made[a.Trajectory]++
		switch {
		case !known && !strings.HasPrefix(a.Trajectory, g.ID+"/"):
			return fmt.Errorf("attempts[%d].trajectory: %q is neither a trajectory of the group nor a member that was replaced", i, a.Trajectory)
		case a.Number != made[a.Trajectory]:
			return fmt.Errorf("attempts[%d].attempt: %d, but it is number %d at %q; attempts count from 1", i, a.Number, made[a.Trajectory], a.Trajectory)
		case a.Tenure < 0:
			return fmt.Errorf("attempts[%d].tenure: %d is negative", i, a.Tenure)
		case a.From < 0 || a.Discarded < 0:
			return fmt.Errorf("attempts[%d]: from %d, discarded %d; neither is negative", i, a.From, a.Discarded)
		case known && a.From > len(g.Trajectories[at].Turns):
			return fmt.Errorf("attempts[%d].from: %d, but %q has %d turns", i, a.From, a.Trajectory, len(g.Trajectories[at].Turns))
		case a.From > 0 && a.Discarded > 0:
			return fmt.Errorf("attempts[%d].from: %d, but an attempt that discarded turns begins with turn 0", i, a.From)
		case a.Failure != "" && !slices.Contains(rollout.FailureKinds, a.Failure):
			return fmt.Errorf("attempts[%d].failure: %q is unknown; known: %s", i, a.Failure, list(rollout.FailureKinds))
		case a.Failure == "" && a.Reason != "":
			return fmt.Errorf("attempts[%d].reason: %q, but there is no failure", i, a.Reason)
		case a.Failure == "" && !known:
			return fmt.Errorf("attempts[%d].failure: missing, but the group has no trajectory %q", i, a.Trajectory)
		case a.Failure == "" && ended[a.Trajectory]:
			return fmt.Errorf("attempts[%d].failure: missing, but another attempt ended %q", i, a.Trajectory)
		}
		ended[a.Trajectory] = ended[a.Trajectory] || a.Failure == ""
	}
	for i, t := range g.Trajectories {
		if made[t.ID] > 0 && !ended[t.ID] {
			return fmt.Errorf("trajectories[%d]: every attempt at %q failed", i, t.ID)
		}
	}
	return nil
}
