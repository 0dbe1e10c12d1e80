package runstate

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// TestStateRoundTrip carries a state with every field set through JSON.
func TestStateRoundTrip(t *testing.T) {
	object := group(4, 1, 2).Object
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	spec := Spec{WarmSteps: 1, TrainSteps: 2, Failures: Failures{MaxShare: 0.25}}
	state := State{
		Known: true, Spec: &spec, Config: 2, Committed: 3, Weights: weights(3), NextGroup: 9,
		Open:    []Group{{Number: 4, Place: Ready, Object: &object, Oldest: 1, Newest: 2}, {Number: 6, Place: Playing, Pool: 1, Round: 2, Members: []int{0, 3}, Spares: 1, Tried: []Tries{{1, 2}}, Moved: true}},
		Dropped: []Dropped{{Number: 5, Reason: "stale", Object: &object}}, Recording: 1, Training: 4, TrainingSince: at, Late: 1,
		Repairing: []string{"w"}, Evaluated: []int{1, 3}, Due: []Version{{3, weights(3)}}, Evaluating: true,
		Pools:   []Pool{{Serving: true, Quiet: true, Tenure: 7, Worker: "w", Since: at, Reason: "r"}},
		Control: Control{Revision: 5, Version: 3, Weights: weights(3), Staleness: 1, Paused: true, Stopped: true, Shares: []Share{{Pool: 1, Tenure: 7, Groups: []Assignment{{Group: 6, Round: 2, Members: []int{0, 3}, Moved: true}}}}},
		Fence:   9, Paused: true, PausedAt: 4, AtRest: true, Cancelling: true, HandingOver: true, Held: "h", Recent: "+-",
		Failures: []Count{{"tool", 2}}, Drops: []Count{{"stale", 1}},
		Times:   Times{Progress: at, PauseAsked: at, Gaps: []time.Duration{1}, Stalled: at, Warm: []time.Duration{2}, Steps: []time.Duration{3}, Evaluations: []time.Duration{4}, Began: at, Busy: 5},
		Failure: "f", Outcome: Failed,
	}
	back := roundTrip(t, state)
	if got, want := indented(t, back), indented(t, state); got != want {
		t.Errorf("state after JSON:\n got %s\nwant %s", got, want)
	}
}

// TestStateIsACopy makes sure that a state handed out does not change with the machine.
func TestStateIsACopy(t *testing.T) {
	m := New(Spec{TrainSteps: 1, GroupsPerStep: 3, GroupSize: 1, Pools: 1, Slots: 8, CheckpointEvery: 1, Failures: Failures{MaxShare: 1, Window: 1}, StepTimeout: 1, StallAfter: 1})
	now := time.Unix(0, 0)
	for _, e := range []Event{Prepared{}, Evaluated{Version: 0}, PoolServing{Pool: 0, Tenure: 1}, GroupReady{Group: group(2, 0, 0)}} {
		m.Step(now, e)
	}
	state := m.State()
	before := fmt.Sprintf("%+v", state.Open[1])
	m.Step(now, GroupReady{Group: group(1, 0, 0)})
	if after := fmt.Sprintf("%+v", state.Open[1]); after != before {
		t.Errorf("a group of the copy: got %s, want %s", after, before)
	}
}

// TestCapacity holds admission to the reference vectors and to those of AReaL's tests/test_staleness_manager.py.
func TestCapacity(t *testing.T) {
	for _, v := range []struct {
		limit, batch, staleness, version, accepted, running, want int
	}{
		{64, 32, 4, 10, 400, 20, 44}, // decoupled_ppo.staleness_capacity: capacity
		{64, 32, 3, 10, 400, 20, 28}, // and capacity_eta_3
		{10, 4, 2, 0, 0, 0, 10},
		{100, 32, 10, 0, 0, 0, 100},
		{5, 2, 10, 0, 0, 3, 2},
		{100, 4, 2, 0, 0, 0, 12},
		{1000, 4, 2, 5, 0, 0, 32},
		{10, 4, 2, 0, 0, 3, 7},
		{20, 4, 2, 0, 5, 0, 7},
		{5, 2, 5, 0, 0, 5, 0},
		{3, 2, 1, 0, 0, 10, -7},
		{100, 8, 0, 0, 0, 0, 8},
		{100, 8, 0, 5, 0, 0, 48},
		{10000, 64, 10, 1_000_000, 0, 0, 10000},
		{10, 4, 2, 0, 0, 0, 10},                                       // 10 rejected do not count
		{20, 8, 3, 0, 15, 0, 17},                                      // 5 rejected
		{32, 16, 2, 1, 14, 0, 32},                                     // 2 rejected
		{100, 8, 3, 0, 30, 0, 2},                                      // 30 accepted
		{1000, 16, 2, 0, 0, 0, 48},                                    // recovered: accepted is version × batch
		{1000, 16, 2, 5, 5 * 16, 0, 48},                               //
		{1000, 16, 2, 10, 10 * 16, 0, 48},                             //
		{1000, 16, 2, 50, 50 * 16, 0, 48},                             //
		{1000, 16, 2, 10, 10 * 16, 1, 47},                             // recovered with some running
		{1000, 16, 2, 10, 10 * 16, 5, 43},                             //
		{1000, 16, 2, 10, 10 * 16, 16, 32},                            //
		{math.MaxInt, 8, 1, 3, 3*8 + 2, 9, (1+3+1)*8 - (3*8 + 2 + 9)}, // no limit
		{0, 0, 0, 0, 0, 0, 1},                                         // a limit and a batch are at least 1
	} {
		if got := Capacity(v.limit, v.batch, v.staleness, v.version, v.accepted, v.running); got != v.want {
			t.Errorf("%+v: got %d", v, got)
		}
	}
}

// TestRandomOrder finishes groups in random order, with 30 seeds and every bound up to 4: nothing that is
// trained is older than allowed, and something is dropped for it, so that the test sees both rules at work.
func TestRandomOrder(t *testing.T) {
	drops := 0
	for seed := range uint64(30) {
		for staleness := 1; staleness <= 4; staleness++ {
			drops += playRandomly(t, seed, staleness)
		}
	}
	if drops == 0 {
		t.Error("no group was ever too old: the second rule was not tested")
	}
}

func TestValidate(t *testing.T) {
	good := Spec{WarmSteps: 1, TrainSteps: 1, GroupsPerStep: 1, GroupSize: 1, Pools: 1, Slots: 1, CheckpointEvery: 1,
		Failures: Failures{MaxShare: 0.5, Window: 8}, StepTimeout: time.Hour, StallAfter: time.Minute}
	for name, c := range map[string]struct {
		change func(*Spec)
		want   string
	}{
		"good": {func(*Spec) {}, ""},
		"warm only": {func(s *Spec) {
			s.TrainSteps, s.GroupsPerStep, s.GroupSize, s.Pools, s.Slots = 0, 0, 0, 0, 0
		}, ""},
		"no steps":         {func(s *Spec) { s.WarmSteps, s.TrainSteps = 0, 0 }, "steps: a run needs at least one warm or train step"},
		"negative steps":   {func(s *Spec) { s.TrainSteps = -1 }, "steps: warm 1, train -1: must not be negative"},
		"no groups":        {func(s *Spec) { s.GroupsPerStep = 0 }, "groups_per_step 0: must be at least 1"},
		"no members":       {func(s *Spec) { s.GroupSize = 0 }, "group_size 0: must be at least 1"},
		"no pools":         {func(s *Spec) { s.Pools = 0 }, "pools 0 with 1 slots: must be at least 1"},
		"staleness":        {func(s *Spec) { s.Staleness = -1 }, "staleness -1: must not be negative"},
		"concurrency":      {func(s *Spec) { s.Concurrency = -1 }, "concurrency -1: must not be negative"},
		"evaluation rate":  {func(s *Spec) { s.EvaluateEvery = -2 }, "evaluate_every -2: must not be negative"},
		"checkpoint rate":  {func(s *Spec) { s.CheckpointEvery = 0 }, "checkpoint_every 0: must be at least 1"},
		"endless step":     {func(s *Spec) { s.StepTimeout = 0 }, "step_timeout 0s, stall_after 1m0s: must be positive, nothing waits for ever"},
		"retries":          {func(s *Spec) { s.Failures.Retries = -1 }, "failures: retries -1, replacements 0: must not be negative"},
		"share of failure": {func(s *Spec) { s.Failures.MaxShare = math.NaN() }, "failures: max_share NaN: must be above 0 and at most 1"},
		"window":           {func(s *Spec) { s.Failures.Window = 0 }, "failures: window 0: must be at least 1"},
	} {
		spec := good
		c.change(&spec)
		got := ""
		if err := spec.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
