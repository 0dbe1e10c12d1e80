//go:build server

package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

// patience is how long the test waits for what has to happen. A busy machine takes longer than an idle one.
const patience = 2 * time.Minute

// matrix is the server, the machines and the run of the moment.
type matrix struct {
	*site
	topology topology
	hosts    []*matrixHost

	mu      sync.Mutex
	running map[lease.Role]int // fence of the activity at work, by role
	held    chan struct{}      // while it is open, what is cancelled stays at work; nil is none
	commit  chan struct{}      // lets the step in flight come to its end
	well    bool               // nothing has happened to the fleet yet
}

func newMatrix(t *testing.T) *matrix {
	s := newFleet(t)
	m := &matrix{site: s, commit: make(chan struct{})}
	s.over = make(chan struct{})
	options := worker.Options{DisableWorkflowWorker: true, MaxHeartbeatThrottleInterval: 20 * time.Millisecond, DefaultHeartbeatThrottleInterval: 20 * time.Millisecond}
	for queue, activities := range m.activities() {
		s.start(worker.New(s.client, queue, options), activities)
	}
	t.Cleanup(func() {
		m.dismiss()
		close(m.over)
	})
	return m
}

// activities are those of a machine's roles, and of the run's folder.
func (m *matrix) activities() map[string]map[string]any {
	all := map[string]map[string]any{
		LearnerQueue: {PrepareActivity: func(ctx context.Context, in PrepareInput) (PrepareResult, error) { return m.folder.Prepare(ctx, in) }},
		FolderQueue: {PublishControlActivity: func(ctx context.Context, in ControlInput) error { return m.folder.PublishControl(ctx, in) },
			RecordEventActivity: func(ctx context.Context, in RecordInput) error { return m.folder.RecordEvent(ctx, in) }},
	}
	for _, host := range []string{"alpha", "beta"} {
		all[AgentQueue(lease.Learner, host)] = map[string]any{TrainStepActivity: m.train}
		all[AgentQueue(lease.Evaluate, host)] = map[string]any{EvaluateActivity: m.evaluate}
		all[AgentQueue(lease.Rollout, host)] = map[string]any{RolloutLoopActivity: m.loop}
	}
	return all
}

// works takes note of an activity at work, unless it is one of an earlier run.
func (m *matrix) works(run string, role lease.Role, under Under) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if run == m.id {
		m.running[role] = max(m.running[role], under.Fence)
	}
}

// until heartbeats until it may go on or is cancelled.
func (m *matrix) until(ctx context.Context, goOn <-chan struct{}) error {
	for {
		activity.RecordHeartbeat(ctx)
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			m.linger()
			return ctx.Err()
		case <-m.over:
			return errors.New("the test is over")
		case <-time.After(15 * time.Millisecond):
		}
	}
}

// hold keeps what is cancelled at work, so that a lease that is asked back is not given back, until it lets go.
func (m *matrix) hold() (letGo func()) {
	held := make(chan struct{})
	set := func(to chan struct{}) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.held = to
	}
	set(held)
	return func() {
		set(nil)
		close(held)
	}
}

func (m *matrix) linger() {
	m.mu.Lock()
	held := m.held
	m.mu.Unlock()
	if held == nil {
		return
	}
	select {
	case <-held:
	case <-m.over:
	}
}

// train makes the first step at once, and each later one when it is let.
func (m *matrix) train(ctx context.Context, input TrainInput) (TrainResult, error) {
	if input.Step > 1 {
		m.works(input.Run, lease.Learner, input.Lease)
		if err := m.until(ctx, m.commit); err != nil {
			return TrainResult{}, err
		}
	}
	return m.folder.TrainStep(ctx, input)
}

// evaluate evaluates the first version at once, and no other one ever.
func (m *matrix) evaluate(ctx context.Context, input EvaluateInput) error {
	if input.Version > 0 {
		m.works(input.Run, lease.Evaluate, input.Lease)
		return m.until(ctx, nil)
	}
	return m.folder.Evaluate(ctx, input)
}

// loop finishes the groups of its share as soon as they are published.
func (m *matrix) loop(ctx context.Context, input LoopInput) (LoopResult, error) {
	tenure := m.folder.claim()
	m.works(input.Run, lease.Rollout, input.Lease)
	err := m.client.SignalWorkflow(ctx, input.Run, "", PoolSignal, PoolNews{Pool: input.Pool, State: PoolServing, Tenure: tenure, Worker: input.Lease.Agent})
	told := map[int]bool{}
	for err == nil && ctx.Err() == nil {
		activity.RecordHeartbeat(ctx, LoopProgress{Tenure: tenure})
		control, _ := m.folder.last()
		if control.Stopped {
			return LoopResult{Tenure: tenure, Stopped: true}, nil
		}
		report := GroupsReport{Pool: input.Pool, Tenure: tenure}
		for _, group := range sharesOf(control, tenure) {
			if !told[group.Group] {
				told[group.Group] = true
				report.Ready = append(report.Ready, ready(group.Group, control.Version))
			}
		}
		if len(report.Ready) > 0 {
			err = m.client.SignalWorkflow(ctx, input.Run, "", GroupsSignal, report)
		}
		select {
		case <-m.over:
			return LoopResult{}, errors.New("the test is over")
		case <-time.After(15 * time.Millisecond):
		}
	}
	m.linger()
	return LoopResult{Tenure: tenure}, errors.Join(err, ctx.Err())
}

// begin submits a run on a topology.
func (m *matrix) begin(number int, topology topology) {
	spec := small
	spec.WarmSteps, spec.TrainSteps, spec.GroupsPerStep, spec.GroupSize, spec.Staleness, spec.Pools, spec.EvaluateEvery = 0, 1000, 1, 1, 100, 1, 1
	m.mu.Lock()
	m.topology, m.folder = topology, newRunFolder(spec)
	m.id, m.input, m.running = fmt.Sprintf("run-%d", number), input(spec), map[lease.Role]int{}
	m.mu.Unlock()
	m.input.Run, m.input.Limits.HeartbeatTimeout = m.id, patience
	need := Need{Kind: topology.kind, Count: 1, MemoryBytes: topology.bytes}
	m.input.Devices = Needs{Learner: need, Rollout: need, Evaluate: need, Queue: "default", Priority: 3}
	m.fleet()
	m.submit()
	m.settled("the run begins", func(s lease.Snapshot) bool { return len(s.Leases) == len(matrixRoles) })
}

// end cancels the run.
func (m *matrix) end() {
	m.t.Helper()
	m.dismiss()
	if err := m.client.CancelWorkflow(m.t.Context(), m.id, ""); err != nil {
		m.t.Fatal(err)
	}
	if err := m.client.GetWorkflow(m.t.Context(), m.id, "").Get(m.t.Context(), nil); !temporal.IsCanceledError(err) {
		m.t.Errorf("%s ended with %v", m.id, err)
	}
	for _, holder := range []string{PoolID(m.id, 0), EvaluationID(m.id, 1)} {
		_ = m.client.TerminateWorkflow(m.t.Context(), holder, "", "the next topology")
	}
}

// muster starts the device pool anew with a fleet in which all is well, and waits until each role is at work.
func (m *matrix) muster() {
	t := m.t
	t.Helper()
	if m.well {
		return
	}
	var waiting []lease.Waiter
	if before, err := Devices(t.Context(), m.client); err == nil {
		waiting = before.Queue
	}
	m.fleet()
	// The pool of before is forgotten: one after the other, who had a lease has lost it, and who waits asks again.
	for i, role := range matrixRoles {
		holder := map[lease.Role]string{lease.Learner: m.id, lease.Rollout: PoolID(m.id, 0), lease.Evaluate: EvaluationID(m.id, 1)}[role]
		m.mu.Lock()
		fence := m.running[role]
		m.mu.Unlock()
		_ = m.client.SignalWorkflow(t.Context(), holder, "", LeaseSignal, lease.News{Kind: lease.Revoked, Fence: fence, Reason: "the next trial"})
		for _, waiter := range waiting {
			if waiter.Holder != holder {
				continue
			}
			if err := m.client.SignalWorkflow(t.Context(), DevicePoolID, "", RequestSignal, waiter.Request); err != nil {
				t.Fatal(err)
			}
		}
		m.eventually("the "+string(role)+" has a device", func(s lease.Snapshot) bool { return len(s.Leases) > i })
	}
	now := m.settled("a fleet in which all is well", func(s lease.Snapshot) bool { return len(s.Leases) == len(matrixRoles) })
	m.well = true
	m.recorded(0, fmt.Sprintf("(lease %d)", leaseOf(now, lease.Learner).Fence))
}

// settled waits until every role is at work under its lease or waits for one with a reason, and all that a test wants.
func (m *matrix) settled(what string, reached func(lease.Snapshot) bool) lease.Snapshot {
	m.t.Helper()
	return m.eventually(what, func(s lease.Snapshot) bool { return m.quiet(s) && reached(s) })
}

// eventually waits for the device pool to come to a state.
func (m *matrix) eventually(what string, reached func(lease.Snapshot) bool) lease.Snapshot {
	m.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		snapshot, err := Devices(m.t.Context(), m.client)
		if err != nil {
			m.t.Fatal(err)
		}
		if reached(snapshot) {
			return snapshot
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s, %s: still leases %+v, queue %+v, at work %v; the run %+v", m.topology.name, what, snapshot.Leases, snapshot.Queue, m.running, m.status())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// recorded waits until the run's events from one on have a line about the learner with these words, and returns
// the lines about it.
func (m *matrix) recorded(from int, words string) []string {
	m.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var lines []string
		found := false
		m.folder.mu.Lock()
		for _, event := range m.folder.events[from:] {
			if strings.HasPrefix(event, "the learner") {
				lines = append(lines, event)
				found = found || strings.Contains(event, words)
			}
		}
		m.folder.mu.Unlock()
		if found {
			return lines
		}
	}
	m.t.Fatalf("the run's events have no line about the learner with %q", words)
	return nil
}

func (m *matrix) quiet(snapshot lease.Snapshot) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, role := range matrixRoles {
		held := slices.IndexFunc(snapshot.Leases, func(l lease.Lease) bool { return l.Role == role && l.Run == m.id })
		waits := slices.IndexFunc(snapshot.Queue, func(w lease.Waiter) bool { return w.Role == role && w.Run == m.id && w.Reason != "" })
		switch {
		case held >= 0 && snapshot.Leases[held].Yield != "" && role == lease.Learner:
			select {
			case m.commit <- struct{}{}: // it has its step's end
			default:
			}
			return false
		case held >= 0 && (snapshot.Leases[held].Yield != "" || snapshot.Leases[held].Fence != m.running[role]):
			return false
		case held < 0 && waits < 0:
			return false
		}
	}
	return true
}
