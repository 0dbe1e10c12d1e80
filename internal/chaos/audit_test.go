package chaos

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// at is a moment of a run, in seconds.
func at(seconds float64) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

// story is a run of two steps that train two groups of two members each, whose episodes have two turns.
// Tenure 1 plays group 0 whole and begins group 1; it is killed at second 5, between the turns of g1/0 and
// in the second turn of g1/1. Tenure 2 ends them.
func story() *Evidence {
	mark := func(tenure, group, member int, kind MarkKind, turn int, seen float64) Mark {
		return Mark{Episode: Episode{group, member}, Tenure: tenure, Kind: kind, Turn: turn, Last: kind == Finished && turn == 1, Seen: at(seen)}
	}
	e := &Evidence{
		Run: "demo", LastStep: 2, Outcome: "completed", Started: at(0), Seen: map[int]string{0: "m0", 1: "m1"},
		Steps: []Step{
			{Number: 0, Digest: "m0", Weights: "w0", Committed: at(1)},
			{Number: 1, Digest: "m1", Weights: "w1", Committed: at(4), Trained: []int{0}, Rows: []Row{{"g0/0", true}, {"g0/1", false}}},
			{Number: 2, Digest: "m2", Weights: "w2", Committed: at(8), Trained: []int{1}, Rows: []Row{{"g1/0", true}, {"g1/1", true}}},
		},
		Stored: map[int][]string{0: {"g0/0", "g0/1"}, 1: {"g1/0", "g1/1"}},
	}
	for member := range 2 {
		for turn := range 2 {
			e.Marks = append(e.Marks, mark(1, 0, member, Began, turn, 2), mark(1, 0, member, Finished, turn, 3))
		}
	}
	e.Marks = append(e.Marks,
		mark(1, 1, 0, Began, 0, 4), mark(1, 1, 0, Finished, 0, 4.5),
		mark(1, 1, 1, Began, 0, 4), mark(1, 1, 1, Finished, 0, 4.5), mark(1, 1, 1, Began, 1, 4.8),
		mark(2, 1, 0, Began, 1, 6), mark(2, 1, 0, Finished, 1, 7),
		mark(2, 1, 1, Began, 1, 6), mark(2, 1, 1, Finished, 1, 7))
	e.Strikes = []Strike{{Fault: Fault{Number: 1, Kind: SIGKILL, Role: Rollout}, Target: "rollout-1", At: at(5), Lifted: at(5),
		Committed: 1, Tenures: []int{1}, Groups: []int{1}, Recovered: at(7)}}
	return e
}

func TestAuditOfAnHonestRun(t *testing.T) {
	found := Audit(story())
	if len(found.Broken) > 0 || found.StepsLost+found.TrajectoriesLost+found.TrainedTwice+found.Resampled > 0 {
		t.Errorf("an honest run: %+v", found)
	}
	if want := []Restart{{Strike: 1, Turns: 1, InFlight: 2}}; !slices.Equal(found.Restarts, want) {
		t.Errorf("restarts %+v, want %+v", found.Restarts, want)
	}
}

// Each violation is planted in the honest run and must be found.
func TestAuditFindsWhatIsBroken(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(*Evidence)
		want  string // what is said of it
		count func(Findings) int
		n     int
	}{
		"a manifest that is gone": {
			func(e *Evidence) { e.Steps = slices.Delete(e.Steps, 1, 2); e.Stored, e.Marks = nil, nil },
			"step 1 was committed and is gone", func(f Findings) int { return f.StepsLost }, 1},
		"a manifest that was replaced": {
			func(e *Evidence) { e.Steps[1].Digest = "other" },
			"step 1 was committed as m1 and is now other", func(f Findings) int { return f.StepsLost }, 1},
		"a run that stopped early": {
			func(e *Evidence) { e.LastStep = 5 },
			"3 of 5 steps were never committed", func(f Findings) int { return f.StepsLost }, 3},
		"a run that failed": {
			func(e *Evidence) { e.Outcome = "failed" },
			"it ended failed", func(f Findings) int { return len(f.Broken) }, 1},
		"a run that says nothing": {
			func(e *Evidence) { e.Outcome = "" },
			"it ended without saying how", func(f Findings) int { return len(f.Broken) }, 1},
		"a stored group that no step settled": {
			func(e *Evidence) { e.Stored[2] = []string{"g2/0", "g2/1"} },
			"g2/1 has finished turns and was neither trained nor dropped", func(f Findings) int { return f.TrajectoriesLost }, 2},
		"an episode that was begun and forgotten": {
			func(e *Evidence) {
				e.Marks = append(e.Marks, Mark{Episode: Episode{2, 0}, Tenure: 2, Kind: Began}, Mark{Episode: Episode{2, 0}, Tenure: 2, Kind: Finished})
			},
			"g2/0 has finished turns", func(f Findings) int { return f.TrajectoriesLost }, 1},
		"a member without a row": {
			func(e *Evidence) { e.Steps[2].Rows = e.Steps[2].Rows[:1] },
			"g1/1 has finished turns", func(f Findings) int { return f.TrajectoriesLost }, 1},
		"a group that two steps trained": {
			func(e *Evidence) { e.Steps[2].Trained = []int{0, 1} },
			"group g0 was trained at step 1 and at step 2", func(f Findings) int { return f.TrainedTwice }, 2},
		"a trajectory with two rows": {
			func(e *Evidence) { e.Steps[2].Rows = append(e.Steps[2].Rows, Row{"g0/0", true}) },
			"g0/0 was trained at step 1 and at step 2", func(f Findings) int { return f.TrainedTwice }, 1},
		"a turn that the killed loop had finished": {
			func(e *Evidence) {
				e.Marks = append(e.Marks, Mark{Episode: Episode{1, 0}, Tenure: 2, Kind: Began, Seen: at(6)}, Mark{Episode: Episode{1, 0}, Tenure: 2, Kind: Finished, Seen: at(7)})
			},
			"turn 0 of g1/0 was finished and then sampled again, by tenure 2", func(f Findings) int { return f.Resampled }, 1},
		"a turn that the same loop had finished": {
			func(e *Evidence) {
				e.Marks = append(e.Marks, Mark{Episode: Episode{1, 0}, Tenure: 2, Kind: Began, Turn: 1, Seen: at(7)})
			},
			"turn 1 of g1/0 was finished and then sampled again, by tenure 2", func(f Findings) int { return f.Resampled }, 1},
		"a turn that another living loop was seen to have finished": {
			func(e *Evidence) {
				e.Strikes = nil
				e.Marks = append(e.Marks, Mark{Episode: Episode{0, 0}, Tenure: 2, Kind: Began, Seen: at(6)})
			},
			"turn 0 of g0/0 was finished and then sampled again, by tenure 2", func(f Findings) int { return f.Resampled }, 1},
		"a turn that was begun twice after one kill": {
			func(e *Evidence) {
				e.Marks = slices.Insert(e.Marks, len(e.Marks)-2, Mark{Episode: Episode{1, 1}, Tenure: 2, Kind: Began, Turn: 1, Seen: at(5.5)})
			},
			"turn 1 of g1/1 was begun 2 times after fault 1", func(f Findings) int { return f.Restarts[0].Turns }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			e := story()
			c.plant(e)
			found := Audit(e)
			if got := c.count(found); got != c.n || !strings.Contains(strings.Join(found.Broken, "\n"), c.want) {
				t.Errorf("counted %d and said %q, want %d and %q", got, found.Broken, c.n, c.want)
			}
		})
	}
}

// What looks like a violation and is none.
func TestAuditIsFair(t *testing.T) {
	for name, plant := range map[string]func(*Evidence){
		"a group that was dropped": func(e *Evidence) {
			e.Stored[2] = []string{"g2/0"}
			e.Marks = append(e.Marks, Mark{Episode: Episode{2, 0}, Tenure: 2, Kind: Finished, Last: true})
			e.Steps[2].Dropped = []int{2}
		},
		"a member that was replaced before it ended": func(e *Evidence) {
			e.Marks = append(e.Marks, Mark{Episode: Episode{1, 2}, Tenure: 2, Kind: Began}, Mark{Episode: Episode{1, 2}, Tenure: 2, Kind: Finished},
				Mark{Episode: Episode{1, 2}, Tenure: 2, Kind: Failed})
		},
		"a turn that failed and was begun again": func(e *Evidence) {
			again := Mark{Episode: Episode{1, 1}, Tenure: 2, Kind: Began, Turn: 1, Seen: at(5.5)}
			failed := again
			failed.Kind = Failed
			e.Marks = slices.Insert(e.Marks, len(e.Marks)-2, again, failed)
		},
		"a loop that was taken for dead and ended a turn that another one had begun": func(e *Evidence) {
			e.Strikes[0].Kind = Freeze
			e.Marks = append(e.Marks, Mark{Episode: Episode{1, 1}, Tenure: 1, Kind: Finished, Turn: 1, Last: true, Seen: at(9)})
			slices.SortStableFunc(e.Marks, func(a, b Mark) int { return a.Tenure - b.Tenure })
		},
		"an episode that was begun and has no finished turn": func(e *Evidence) {
			e.Marks = append(e.Marks, Mark{Episode: Episode{2, 0}, Tenure: 2, Kind: Began})
		},
		"no journals": func(e *Evidence) { e.Marks = nil },
	} {
		e := story()
		plant(e)
		if found := Audit(e); len(found.Broken) > 0 {
			t.Errorf("%s: %q", name, found.Broken)
		}
	}
}

// Two kills cut the same turn off: each is to blame for one beginning.
func TestRestartsBelongToTheKillThatCausedThem(t *testing.T) {
	e := story()
	again := e.Marks[len(e.Marks)-2:]
	for i := range again {
		again[i].Tenure = 3
	}
	e.Marks = slices.Insert(e.Marks, len(e.Marks)-2, Mark{Episode: Episode{1, 1}, Tenure: 2, Kind: Began, Turn: 1, Seen: at(6)})
	second := e.Strikes[0]
	second.Number, second.Tenures, second.At = 2, []int{2}, at(6.5)
	e.Strikes = append(e.Strikes, second)
	found := Audit(e)
	if want := []Restart{{1, 1, 2}, {2, 1, 1}}; !slices.Equal(found.Restarts, want) || len(found.Broken) > 0 {
		t.Errorf("restarts %+v, broken %q, want %+v and nothing", found.Restarts, found.Broken, want)
	}
}

func TestRecovery(t *testing.T) {
	strike := Strike{Fault: Fault{Kind: SIGKILL}, At: at(10), Lifted: at(10), Committed: 4, Tenures: []int{1}, Groups: []int{7}}
	with := func(edit func(*Strike)) Strike {
		s := strike
		edit(&s)
		return s
	}
	step := func(seen float64, number int) Progress { return Progress{Seen: at(seen), Of: Learner, Step: number} }
	under := func(seen float64, number, fence int) Progress {
		return Progress{Seen: at(seen), Of: Learner, Step: number, Fence: fence}
	}
	control := func(seen float64) Progress { return Progress{Seen: at(seen), Of: Control} }
	turn := func(seen float64, tenure, group int, since float64) Progress {
		return Progress{Seen: at(seen), Of: Rollout, Tenure: tenure, Group: group, Since: at(since)}
	}
	for name, c := range map[string]struct {
		strike   Strike
		progress []Progress
		want     float64 // 0: not recovered
	}{
		"learner: the next step":                    {with(func(s *Strike) { s.Role = Learner }), []Progress{step(9, 4), control(11), turn(11, 2, 7, 11), step(12, 5)}, 2},
		"learner: nothing yet":                      {with(func(s *Strike) { s.Role = Learner }), []Progress{step(9, 4), control(11)}, 0},
		"store: the next step":                      {with(func(s *Strike) { s.Role, s.Kind = Store, CorruptBlob }), []Progress{control(11), step(13, 5)}, 3},
		"device: not under the lease it lost":       {with(func(s *Strike) { s.Role, s.Kind, s.Lease = Learner, Device, 7<<16 }), []Progress{under(11, 5, 6<<16|3), under(12, 6, 7<<16)}, 2},
		"device: not before there is another lease": {with(func(s *Strike) { s.Role, s.Kind = Learner, Device }), []Progress{under(11, 5, 6<<16|3)}, 0},
		"control: a control object":                 {with(func(s *Strike) { s.Role = Control }), []Progress{step(11, 5), control(12)}, 2},
		"control: a step decided afterwards":        {with(func(s *Strike) { s.Role = Control }), []Progress{step(11, 5), step(14, 6)}, 4},
		"server: not while it is away":              {with(func(s *Strike) { s.Role = Server }), []Progress{control(11)}, 0},
		"server: after it serves":                   {with(func(s *Strike) { s.Role, s.Serving = Server, at(12) }), []Progress{control(11), control(13)}, 3},
		"rollout: its own last turn":                {with(func(s *Strike) { s.Role = Rollout }), []Progress{turn(11, 1, 7, 1)}, 0},
		"rollout: another loop's own work":          {with(func(s *Strike) { s.Role = Rollout }), []Progress{turn(11, 2, 8, 1)}, 0},
		"rollout: a loop that takes over":           {with(func(s *Strike) { s.Role = Rollout }), []Progress{turn(11, 2, 8, 1), turn(12, 2, 7, 1)}, 2},
		"rollout: a new loop":                       {with(func(s *Strike) { s.Role = Rollout }), []Progress{turn(13, 3, 9, 11)}, 3},
		"rollout: an idle one, back":                {with(func(s *Strike) { s.Role, s.Tenures, s.Serving = Rollout, nil, at(11) }), nil, 1},
		"rollout: an idle one, away":                {with(func(s *Strike) { s.Role, s.Tenures = Rollout, nil }), []Progress{turn(11, 2, 8, 1)}, 0},
		"hung tools: any turn after the end": {with(func(s *Strike) { s.Role, s.Kind, s.Lasts, s.Lifted = Rollout, HungTool, time.Second, at(11) }),
			[]Progress{turn(10.5, 1, 7, 1), turn(11.5, 1, 7, 1)}, 0.5},
		"partition: a step after the end": {with(func(s *Strike) { s.Role, s.Kind, s.Lasts, s.Lifted = Learner, Partition, time.Second, at(11) }),
			[]Progress{step(10.5, 5), step(11.25, 6)}, 0.25},
	} {
		recovered, ok := Recovery(c.strike, c.progress)
		if ok != (c.want > 0) {
			t.Errorf("%s: recovered is %v", name, ok)
			continue
		}
		c.strike.Recovered = recovered
		if ok && c.strike.Seconds() != c.want {
			t.Errorf("%s: after %v s, want %v", name, c.strike.Seconds(), c.want)
		}
	}
}

func TestSum(t *testing.T) {
	calm := story()
	calm.Run, calm.Strikes, calm.Marks = "calm", nil, nil
	calm.Steps[2].Committed = at(6)
	disturbed := story()
	other := Strike{Fault: Fault{Number: 2, Kind: Delay, Role: Learner, Lasts: time.Second}, At: at(7), Lifted: at(8), Recovered: at(8.5)}
	disturbed.Strikes = append(disturbed.Strikes, other)
	result := Sum([]Compared{{disturbed, calm, true}})
	if len(result.Broken) > 0 || result.Kills != 2 || result.Faults[SIGKILL] != 1 || result.Faults[Delay] != 1 || result.StepsCommitted != 2 {
		t.Errorf("got %+v", result)
	}
	if result.RestartedMax != 1 || result.InFlight != 2 || result.Recovery != (RecoverySeconds{P50: 0.5, P99: 2}) {
		t.Errorf("got %+v, want 1 of 2 turns restarted, and recoveries after 0.5 and 2 seconds", result)
	}
	if ratio := result.TrainingTimeRatio; ratio == nil || *ratio != 0.75 {
		t.Errorf("ratio %v, want 6 over 8 seconds", ratio)
	}
	if result.DigestEqual == nil || !*result.DigestEqual {
		t.Errorf("the same weights: %v", result.DigestEqual)
	}
	disturbed.Steps[1].Weights, disturbed.Steps[2].Weights = "x1", "x2"
	result = Sum([]Compared{{story(), calm, true}, {disturbed, calm, true}})
	if result.DigestEqual == nil || *result.DigestEqual || len(result.Broken) != 1 || !strings.Contains(result.Broken[0], "from step 1 on its weights are others (x1) than without faults (w1)") {
		t.Errorf("other weights: %v, %q", result.DigestEqual, result.Broken)
	}
	for name, run := range map[string]Compared{"asynchronous": {disturbed, calm, false}, "not compared": {disturbed, nil, true}} {
		if result := Sum([]Compared{run}); result.DigestEqual != nil || len(result.Broken) > 0 || (result.TrainingTimeRatio == nil) != (run.Calm == nil) {
			t.Errorf("%s: %+v", name, result)
		}
	}
	if got := fmt.Sprint(Sum(nil)); !strings.Contains(got, "{0 0}") {
		t.Errorf("of nothing: %s", got)
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, c := range []struct {
		of    []float64
		share float64
		want  float64
	}{{nil, 0.5, 0}, {[]float64{3}, 0.5, 3}, {[]float64{3}, 0.99, 3}, {[]float64{1, 2}, 0.5, 1}, {hundred, 0.5, 50}, {hundred, 0.99, 99}} {
		if got := quantile(c.of, c.share); got != c.want {
			t.Errorf("quantile %v of %d values: %v, want %v", c.share, len(c.of), got, c.want)
		}
	}
}
