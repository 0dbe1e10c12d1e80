package workflows

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// devicesStage is a test environment with the device pool on it.
type devicesStage struct {
	*testsuite.TestWorkflowEnvironment
	t *testing.T
	// told is what holders hear, "holder kind", in order.
	told []string
	news map[string]lease.News // the last, by holder
	gone map[string]bool
}

func newDevicesStage(t *testing.T) *devicesStage {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(quiet{})
	s := &devicesStage{TestWorkflowEnvironment: suite.NewTestWorkflowEnvironment(), t: t, news: map[string]lease.News{}, gone: map[string]bool{}}
	s.SetTestTimeout(30 * time.Second)
	s.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: DevicePoolID, TaskQueue: ControlQueue})
	s.RegisterWorkflowWithOptions(DevicePool, workflow.RegisterOptions{Name: DevicePoolType})
	return s
}

// holders has every holder listen.
func (s *devicesStage) holders() {
	s.OnSignalExternalWorkflow(anything, anything, "", LeaseSignal, anything).Return(func(_, holder, _, _ string, message any) error {
		return s.hear(holder, message.(lease.News))
	}).Maybe()
}

func (s *devicesStage) hear(holder string, news lease.News) error {
	if s.gone[holder] {
		return &temporal.UnknownExternalWorkflowExecutionError{}
	}
	s.told = append(s.told, holder+" "+string(news.Kind))
	s.news[holder] = news
	return nil
}

// carry runs the device pool until it continues as new, or is cancelled after a while.
func (s *devicesStage) carry(in DevicePoolInput, until time.Duration) error {
	s.t.Helper()
	s.RegisterDelayedCallback(s.CancelWorkflow, until)
	s.ExecuteWorkflow(DevicePoolType, in)
	if !s.IsWorkflowCompleted() {
		s.t.Fatal("the device pool did not end")
	}
	return s.GetWorkflowError()
}

// at does something after a while.
func (s *devicesStage) at(after time.Duration, do func()) { s.RegisterDelayedCallback(do, after) }

// reported is an agent's report of some GPUs.
func reported(agent string, number int, uuids ...string) lease.Report {
	inventory := gpu.Inventory{Driver: "580.1"}
	for i, uuid := range uuids {
		inventory.Devices = append(inventory.Devices, gpu.Device{UUID: uuid, Kind: gpu.GPU, Name: "H200", Index: i, MemoryTotalBytes: 1 << 40})
	}
	return lease.Report{Agent: agent, Session: "1", Host: agent, Machine: "machine of " + agent, Boot: "1", Number: number, Clock: time.Unix(0, 0),
		Serves: lease.Capacity{Learner: 8, Rollout: 8, Evaluate: 8}, Computes: []gpu.Kind{gpu.GPU}, Inventory: &inventory}
}

// wants is a request for a whole GPU.
func wants(holder string) lease.Request {
	return lease.Request{Holder: holder, Run: holder, Role: lease.Learner, Kind: gpu.GPU, Count: 1, MemoryBytes: 1, Queue: "default", Priority: 3}
}

// ask sends an update and hands on what becomes of it.
func (s *devicesStage) ask(name string, arg any, answer func(value any, refused error)) {
	s.UpdateWorkflow(name, "", &testsuite.TestUpdateCallback{
		OnReject:   func(err error) { answer(nil, err) },
		OnComplete: func(value any, err error) { answer(value, err) },
	}, arg)
}

// report sends a report that has to be taken.
func (s *devicesStage) report(report lease.Report) {
	s.ask(ReportUpdate, report, func(value any, err error) {
		if reply, is := value.(lease.Reply); err != nil || !is || reply.Refused != "" {
			s.t.Errorf("report %d of %s: %+v, %v", report.Number, report.Agent, value, err)
		}
	})
}

// keep has an agent report every few seconds for a while.
func (s *devicesStage) keep(until time.Duration, agent string, uuids ...string) {
	for number := range int(until / (5 * time.Second)) {
		s.at(time.Duration(number)*5*time.Second, func() { s.report(reported(agent, number+1, uuids...)) })
	}
}

func (s *devicesStage) snapshot() lease.Snapshot {
	s.t.Helper()
	var snapshot lease.Snapshot
	value, err := s.QueryWorkflow(DevicesQuery)
	if err == nil {
		err = value.Get(&snapshot)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return snapshot
}

// TestDevicePool gives a device to one holder after the other.
func TestDevicePool(t *testing.T) {
	s := newDevicesStage(t)
	s.holders()
	s.keep(3*time.Minute, "alpha", "GPU-a")
	s.at(10*time.Second, func() { s.SignalWorkflow(RequestSignal, wants("run-a")) })
	s.at(20*time.Second, func() { s.SignalWorkflow(RequestSignal, wants("run-b")) })
	s.at(30*time.Second, func() {
		snapshot := s.snapshot()
		if len(snapshot.Leases) != 1 || len(snapshot.Queue) != 1 || snapshot.Leases[0].Holder != "run-a" || snapshot.Queue[0].Reason != s.news["run-b"].Reason {
			t.Errorf("snapshot %+v", snapshot)
		}
		s.SignalWorkflow(ReleaseSignal, lease.Released{Holder: "run-a", Fence: snapshot.Fence})
	})
	var drained lease.DeviceStatus
	s.at(40*time.Second, func() {
		s.ask(DrainUpdate, DrainInput{UUID: "GPU-a", By: "eve: noisy fan"}, func(value any, err error) { drained, _ = value.(lease.DeviceStatus) })
	})
	if err := s.carry(DevicePoolInput{}, time.Minute); !temporal.IsCanceledError(err) {
		t.Fatal(err)
	}
	same(t, "told", s.told, []string{"run-a granted", "run-b waiting", "run-b granted"})
	if drained.UUID != "GPU-a" || drained.Health != lease.Draining || !strings.Contains(drained.Why, "noisy fan") {
		t.Errorf("drained: %+v", drained)
	}
}

// TestDevicePoolWakes takes the devices of an agent that falls silent, although nothing comes in.
func TestDevicePoolWakes(t *testing.T) {
	s := newDevicesStage(t)
	s.holders()
	s.keep(21*time.Second, "alpha", "GPU-a")
	s.at(10*time.Second, func() { s.SignalWorkflow(RequestSignal, wants("run-a")) })
	s.at(29*time.Second, func() { same(t, "told before", s.told, []string{"run-a granted"}) })
	if err := s.carry(DevicePoolInput{}, time.Minute); !temporal.IsCanceledError(err) {
		t.Fatal(err)
	}
	same(t, "told", s.told, []string{"run-a granted", "run-a revoked"})
	if reason := s.news["run-a"].Reason; !strings.Contains(reason, "alpha") {
		t.Errorf("reason %q", reason)
	}
}

// TestDevicePoolHolderGone gives a device to the next one when the holder's workflow is gone.
func TestDevicePoolHolderGone(t *testing.T) {
	s := newDevicesStage(t)
	s.holders()
	s.gone["run-a"] = true
	s.keep(time.Minute, "alpha", "GPU-a")
	s.at(10*time.Second, func() {
		s.SignalWorkflow(RequestSignal, wants("run-a"))
		s.SignalWorkflow(RequestSignal, wants("run-b"))
	})
	if err := s.carry(DevicePoolInput{}, time.Minute); !temporal.IsCanceledError(err) {
		t.Fatal(err)
	}
	if last := s.told[len(s.told)-1]; last != "run-b granted" {
		t.Errorf("told %v", s.told)
	}
}

// TestDevicePoolSlowHolder has a holder that takes an hour to hear each word: others do not wait, and it hears
// all of it in order.
func TestDevicePoolSlowHolder(t *testing.T) {
	s := newDevicesStage(t)
	s.OnSignalExternalWorkflow(anything, "slow", "", LeaseSignal, anything).After(time.Hour).Return(func(_, holder, _, _ string, message any) error {
		return s.hear(holder, message.(lease.News))
	})
	s.holders()
	s.keep(time.Minute, "alpha", "GPU-a", "GPU-b")
	s.at(10*time.Second, func() { s.SignalWorkflow(RequestSignal, wants("slow")) })
	s.at(20*time.Second, func() { s.SignalWorkflow(RequestSignal, wants("run-b")) })
	s.at(30*time.Second, func() { same(t, "told before", s.told, []string{"run-b granted"}) })
	if err := s.carry(DevicePoolInput{}, 5*time.Hour); !temporal.IsCanceledError(err) {
		t.Fatal(err)
	}
	var slow []string
	for _, line := range s.told {
		if strings.HasPrefix(line, "slow") {
			slow = append(slow, line)
		}
	}
	same(t, "the slow one hears", slow, []string{"slow granted", "slow revoked"})
}

// TestDevicePoolRefuses gives one sentence for what a person got wrong.
func TestDevicePoolRefuses(t *testing.T) {
	s := newDevicesStage(t)
	s.holders()
	s.keep(time.Minute, "alpha", "GPU-a")
	var got []string
	note := func(_ any, err error) { got = append(got, fmt.Sprint(err)) }
	s.at(10*time.Second, func() {
		s.ask(DrainUpdate, DrainInput{UUID: "GPU-z", By: "eve"}, note)
		s.ask(UndrainUpdate, DrainInput{UUID: "GPU-a", By: "eve"}, note)
		s.ask(QueueUpdate, lease.Queue{Name: "research", Weight: -1}, note)
	})
	s.at(20*time.Second, func() { s.ask(DrainUpdate, DrainInput{UUID: "GPU-a", By: "eve"}, note) })
	s.at(30*time.Second, func() { s.ask(DrainUpdate, DrainInput{UUID: "GPU-a", By: "eve"}, note) })
	if err := s.carry(DevicePoolInput{}, time.Minute); !temporal.IsCanceledError(err) {
		t.Fatal(err)
	}
	if len(got) != 5 {
		t.Fatalf("answers: %q", got)
	}
	for i, want := range []string{"GPU-z", "GPU-a", "weight", "<nil>", "GPU-a"} {
		if !strings.Contains(got[i], want) {
			t.Errorf("answer %d: %q, want one about %s", i, got[i], want)
		}
	}
}

// nextDevices returns what a history carries to the next one.
func nextDevices(t *testing.T, err error) DevicePoolInput {
	t.Helper()
	var again *workflow.ContinueAsNewError
	if !errors.As(err, &again) || again.WorkflowType.Name != DevicePoolType {
		t.Fatalf("got %v, want continue-as-new", err)
	}
	var in DevicePoolInput
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &in); err != nil {
		t.Fatal(err)
	}
	return in
}

// TestDevicePoolContinuesAsNew moves to a new history under a stream of reports: each is answered, or refused
// with the word that asking again helps, and the leases go along.
func TestDevicePoolContinuesAsNew(t *testing.T) {
	s := newDevicesStage(t)
	s.holders()
	s.at(time.Second, func() { s.report(reported("alpha", 1, "GPU-a")) })
	s.at(2*time.Second, func() { s.SignalWorkflow(RequestSignal, wants("run-a")) })
	answered, refused := 0, 0
	s.at(3*time.Second, func() {
		s.SetContinueAsNewSuggested(true)
		for number := range 5 {
			s.ask(ReportUpdate, reported("alpha", 2+number, "GPU-a"), func(value any, err error) {
				var application *temporal.ApplicationError
				switch {
				case err == nil:
					answered++
				case errors.As(err, &application) && application.Type() == moving:
					refused++
				default:
					t.Errorf("report: %v", err)
				}
			})
		}
	})
	in := nextDevices(t, s.carry(DevicePoolInput{Policy: quickly()}, time.Hour))
	if answered == 0 || answered+refused != 5 {
		t.Errorf("%d reports answered, %d refused of 5", answered, refused)
	}
	again := newDevicesStage(t)
	again.holders()
	again.at(time.Second, func() {
		snapshot := again.snapshot()
		if len(snapshot.Leases) != 1 || snapshot.Leases[0].Holder != "run-a" || snapshot.Policy != *quickly() {
			t.Errorf("snapshot %+v", snapshot)
		}
		again.SignalWorkflow(RequestSignal, wants("run-a"))
	})
	if err := again.carry(in, 10*time.Second); !temporal.IsCanceledError(err) {
		t.Fatal(err)
	}
	same(t, "told", again.told, []string{"run-a granted"})
}

// quickly is a policy of a test.
func quickly() *lease.Policy {
	policy := lease.DefaultPolicy()
	policy.SilentAfter = 30 * time.Second
	return &policy
}
