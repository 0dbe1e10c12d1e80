package telemetry

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/workflows/activity"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func open(t *testing.T) *Metrics {
	t.Helper()
	m, err := New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// everything tells all that can be told of a run.
func everything(m *Metrics, run string) {
	m.StepCommitted(activity.StepSeen{Run: run, Method: "grpo", Step: 3, Kind: runstate.Reinforce, Groups: 2, Dropped: []string{"stale: 3 behind", "who knows"}, Staleness: []int{0, 4}})
	m.TurnRecorded(activity.TurnSeen{Run: run, Env: "calc", Tool: "python", Sampled: 3, Observed: 4})
	m.GroupStored(run)
	m.EpisodeFailed(run, rollout.FailedTool)
	m.RolloutTime(run, activity.PhaseTool, "python", time.Second)
	m.WeightsTaken(run, time.Second)
	m.WeightsBehind(run, 2)
	m.Evaluated(run, runfolder.Evaluation{ByEnvironment: []runfolder.EnvironmentScore{{Environment: "calc", Success: 0.5}}})
}

// series counts those of a run.
func series(t *testing.T, m *Metrics, run string) int {
	t.Helper()
	all, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, family := range all {
		for _, one := range family.GetMetric() {
			for _, pair := range one.GetLabel() {
				if pair.GetName() == runLabel && pair.GetValue() == run {
					count++
				}
			}
		}
	}
	return count
}

// TestSeriesOfARunGo waits for the series of two runs to go: of the one that has ended soon, of the other one when
// nothing was heard of it for a day.
func TestSeriesOfARunGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t)
		everything(m, "ended")
		everything(m, "silent")
		m.LoopLeft("ended", true)
		at := func(after time.Duration, ended, silent bool) {
			t.Helper()
			time.Sleep(after)
			if got := series(t, m, "ended") > 0; got != ended {
				t.Errorf("%v later the series of the run that ended are there: %t, want %t", after, got, ended)
			}
			if got := series(t, m, "silent") > 0; got != silent {
				t.Errorf("%v later the series of the silent run are there: %t, want %t", after, got, silent)
			}
		}
		at(keepEnded-time.Nanosecond, true, true)
		at(time.Nanosecond, false, true)
		at(keepSilent-keepEnded-time.Nanosecond, false, true)
		at(time.Nanosecond, false, false)
		if len(m.runs) != 0 {
			t.Errorf("%d runs are remembered", len(m.runs))
		}
	})
}

// TestARunThatGoesOnStays tells of a run after its end: it was submitted again.
func TestARunThatGoesOnStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := open(t)
		step := activity.StepSeen{Run: "r", Step: 4, Kind: runstate.Reinforce, Last: true}
		m.StepCommitted(step)
		step.Step, step.Last = 5, false
		m.StepCommitted(step)
		time.Sleep(2 * keepEnded)
		if series(t, m, "r") == 0 {
			t.Error("the series are gone in mid-run")
		}
		step.Step, step.Last = 6, true
		m.StepCommitted(step)
		time.Sleep(keepEnded)
		if series(t, m, "r") != 0 {
			t.Error("the series stay after the last step")
		}
	})
}

// TestLabelsHaveFewValues tells what must not become a label: text of errors, names that are not text, long names.
func TestLabelsHaveFewValues(t *testing.T) {
	m := open(t)
	for _, reason := range []string{"failed: member 1, tool: /tmp/x", "failed: member 2, tool: /tmp/y", "strange 1", "strange 2"} {
		m.StepCommitted(activity.StepSeen{Run: "r", Kind: runstate.Reinforce, Dropped: []string{reason}})
	}
	all, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]float64{}
	for _, family := range all {
		if family.GetName() == Prefix+"groups_total" {
			for _, one := range family.GetMetric() {
				reasons[one.GetLabel()[1].GetValue()] = one.GetCounter().GetValue()
			}
		}
	}
	if reasons["failed"] != 2 || reasons[otherReason] != 2 || len(reasons) != 3 { // and those trained, without one
		t.Errorf("reasons %v, want 2 failed and 2 other", reasons)
	}
	m.TurnRecorded(activity.TurnSeen{Run: "r", Env: "\xff", Tool: strings.Repeat("é", 4000)})
	if _, err := m.Gather(); err != nil {
		t.Errorf("a name that is not text: %v", err)
	}
	if got := label(strings.Repeat("é", 4000)); len(got) > mostLabel+1 {
		t.Errorf("a label of %d bytes", len(got))
	}
}

// TestDevicesThatRepeat asks for devices that are listed twice, unnamed, and without readings.
func TestDevicesThatRepeat(t *testing.T) {
	m := open(t)
	if _, err := m.Gather(); err != nil {
		t.Errorf("before anybody knows devices: %v", err)
	}
	twice := gpu.Device{UUID: "GPU-1", Kind: gpu.GPU}
	m.WatchDevices(func() Devices {
		return Devices{Devices: []gpu.Device{twice, twice, {}}, Readings: []gpu.Reading{{UUID: "GPU-9"}, {UUID: "GPU-1", Throttle: []gpu.Throttle{"thermal", "thermal"}}}}
	})
	all, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if name := family.GetName(); strings.HasPrefix(name, Prefix) && name != Prefix+"gpu_info" && name != Prefix+"gpu_throttled" {
			t.Errorf("%s is told of devices that nobody has read and no pool has judged", name)
		}
	}
}

// TestAnybodyMayObserve tells and scrapes from many goroutines; the race detector looks on.
func TestAnybodyMayObserve(t *testing.T) {
	m := open(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 20 {
				everything(m, string(rune('a'+i%3)))
				m.LoopLeft("a", true)
				if _, err := m.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	families := 0
	for _, run := range []string{"a", "b", "c"} {
		families += series(t, m, run)
	}
	if families == 0 {
		t.Error("nothing was counted")
	}
}
