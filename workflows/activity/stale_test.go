package activity

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// TestStaleTokens trains tokens of older versions within the bound. How old they are, and how far the proximal policy
// is from the one that sampled, is measured and comes out in metrics; made again by redo the steps are the same.
func TestStaleTokens(t *testing.T) {
	learnerAlone(t)
	overrides := []string{"training.staleness=2", "checkpoint.every=9"}
	p := newApprentice(t, overrides...)
	p.behind = func(step int) int { return step - 3 }
	p.trainTo(5)
	lines, err := p.folder().Metrics(t.Context())
	if err != nil || len(lines) != 5 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for step := 3; step <= 5; step++ {
		line, age := lines[step-1], step-3
		if line.StalenessVersions != float64(age) || line.StalenessMax != age {
			t.Errorf("step %d: staleness %g, %d at most; want %d", step, line.StalenessVersions, line.StalenessMax, age)
		}
		if fresh := age == 0; fresh != (line.ProximalKL == 0) || fresh != (line.OnPolicyGap == 0) || line.BehaviorKL <= 0 {
			t.Errorf("step %d: proximal KL %g, gap %g, behavior KL %g", step, line.ProximalKL, line.OnPolicyGap, line.BehaviorKL)
		}
	}
	again := newApprentice(t, overrides...)
	again.behind = p.behind
	for step := 1; step <= 5; step++ {
		again.restart()
		again.train(again.input(step))
	}
	equalSteps(t, p.digests(1), again.digests(1))
}

// TestTooStale refuses tokens that admission and the filling of batches should have kept out. Nothing is committed
// and the learner goes on with a batch that is in order.
func TestTooStale(t *testing.T) {
	learnerAlone(t)
	for name, test := range map[string]struct {
		staleness string
		version   int
		want      string
	}{
		"synchronous": {"0", 3, "1 versions before the one that the step begins with: training.staleness allows 0"},
		"bounded":     {"1", 2, "2 versions before the one that the step begins with: training.staleness allows 1"},
		"unborn":      {"1", 5, "sampled by version 5, and the step begins with version 4"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newApprentice(t, "training.staleness="+test.staleness)
			p.trainTo(4)
			input := p.input(5)
			input.Batch = slices.Clone(input.Batch)
			input.Batch[1] = p.relabel(9, 4, test.version)
			_, err := p.order(input)
			if !isLasting(err) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "trajectory g9/1") {
				t.Errorf("lasting %v: %v; want %q", isLasting(err), err, test.want)
			}
			if _, err := p.folder().Manifest(t.Context(), 5); !errors.Is(err, blob.ErrNotFound) {
				t.Errorf("step 5: %v, want none", err)
			}
			p.trainTo(5)
		})
	}
}

// relabel makes a group of which one token of one member says that another version sampled it.
func (p *apprentice) relabel(number, version, says int) runstate.GroupRef {
	p.t.Helper()
	r, err := p.a.openRun(p.t.Context(), p.run)
	if err != nil {
		p.t.Fatal(err)
	}
	group := p.scripted(r, number, version)
	member := &group.Trajectories[1]
	member.Versions[slices.Index(member.Sampled, true)] = rollout.Version(says)
	return p.store(group, number)
}

// TestDroppedGroupsAreRecorded writes what was given up since the step before, and what of it is in the store.
func TestDroppedGroupsAreRecorded(t *testing.T) {
	learnerAlone(t)
	p := newApprentice(t)
	p.trainTo(2)
	input := p.input(3)
	lost := p.group(4, 2)
	input.Dropped = []runstate.Dropped{{Number: 4, Reason: "stale: too old", Object: &lost.Object}, {Number: 7, Reason: "short"}}
	p.train(input)
	want := []runfolder.Dropped{{Group: 4, Reason: "stale: too old", Object: &lost.Object}, {Group: 7, Reason: "short"}}
	if diff := cmp.Diff(want, p.manifest(3).Dropped); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	p.group(9, 2)
	found, err := p.a.found(t.Context(), p.folder())
	if err != nil || found.NextGroup != 10 || cmp.Diff([]int{3, 5, 6, 8, 9}, found.Open) != "" {
		t.Errorf("next group %d, open %v, %v; want 10 and 3, 5, 6, 8, 9", found.NextGroup, found.Open, err)
	}
	lines, err := p.folder().Metrics(t.Context())
	if err != nil || lines[2].Dropped != 2 {
		t.Errorf("metrics %+v, %v; want 2 dropped", lines, err)
	}
}

// TestLedgerOfAttempts has a row for each trajectory with the attempt that made it, and one for a member that was
// replaced.
func TestLedgerOfAttempts(t *testing.T) {
	one := 1.0
	group := rollout.Group{ID: "g7", Task: rollout.Task{Env: "calc"}, Trajectories: []rollout.Trajectory{{ID: "g7/0", Outcome: &one}, {ID: "g7/3"}}, Attempts: []rollout.Attempt{
		{Trajectory: "g7/0", Number: 1, Failure: rollout.FailedLost}, {Trajectory: "g7/1", Number: 1, Failure: rollout.FailedTool, Reason: "hung"},
		{Trajectory: "g7/1", Number: 2, Failure: rollout.FailedTimeout, Reason: "30m"}, {Trajectory: "g7/0", Number: 2}, {Trajectory: "g7/3", Number: 1},
	}}
	unknown := rollout.Group{ID: "g8", Task: group.Task, Trajectories: []rollout.Trajectory{{ID: "g8/0"}}}
	rewards, ledger := describe([]rollout.Group{group, unknown}, make([]rollout.Streams, 3), []string{"", "unpaired", ""})
	want := []runfolder.LedgerRow{
		{Trajectory: "g7/0", State: "trained", Attempt: 2}, {Trajectory: "g7/3", State: "dropped", Reason: "unpaired", Attempt: 1},
		{Trajectory: "g7/1", State: "failed", Reason: "timeout: 30m", Attempt: 2}, {Trajectory: "g8/0", State: "trained"},
	}
	if diff := cmp.Diff(want, ledger); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if rewards.Trajectories != 3 || rewards.Kept != 2 {
		t.Errorf("%d trajectories, %d kept; want 3 and 2: a failure is no trajectory", rewards.Trajectories, rewards.Kept)
	}
}
