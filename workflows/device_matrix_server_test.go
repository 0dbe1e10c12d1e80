//go:build server && matrix

package workflows

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/gpufake"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

var rewriteMatrix = flag.Bool("rewrite-matrix", false, "write testdata/device_matrix.txt anew")

// topology is a fleet and what each role of a run needs of it.
type topology struct {
	name  string
	fleet string
	kind  gpu.Kind
	bytes int64 // of each role
}

const gib = 1 << 30

// topologies are those of the matrix. Where the roles of a run do not fit on one device they are on several. Roles
// that lose their devices at the same moment never compete for one, so that the table is the same every time.
var topologies = []topology{
	{"one GPU", `hosts: [{name: alpha, devices: [{model: H200, uuid: GPU-alpha-0}]}]`, gpu.GPU, 30 * gib},
	{"two GPUs on a host", `hosts: [{name: alpha, devices: [{model: H200, uuid: GPU-alpha-0}, {model: H200, uuid: GPU-alpha-1}]}]`, gpu.GPU, 40 * gib},
	{"two hosts", `hosts:
  - {name: alpha, devices: [{model: H200, uuid: GPU-alpha-0}]}
  - {name: beta, devices: [{model: H200, uuid: GPU-beta-0}]}`, gpu.GPU, 40 * gib},
	{"an NVLink domain of 4", `hosts:
  - name: alpha
    devices: [{model: H200, uuid: GPU-alpha-0, domain: nvlink}, {model: H200, uuid: GPU-alpha-1, domain: nvlink}, {model: H200, uuid: GPU-alpha-2, domain: nvlink}, {model: H200, uuid: GPU-alpha-3, domain: nvlink}]`, gpu.GPU, 100 * gib},
	{"MIG", `hosts: [{name: alpha, devices: [{model: A100, uuid: GPU-alpha-0, mig: [2g.20gb, 2g.20gb, 2g.20gb]}, {model: A100, uuid: GPU-alpha-1, mig: [2g.20gb, 2g.20gb, 2g.20gb]}]}]`, gpu.GPU, 15 * gib},
	{"a processor only", `hosts: [{name: alpha, processor: 256GiB}]`, gpu.CPU, 30 * gib},
}

// matrixRoles are the roles in the order of the table.
var matrixRoles = []lease.Role{lease.Learner, lease.Rollout, lease.Evaluate}

// strikes are what happens to a device, as package gpufake puts it: every XID of the table, the driver's recovery
// actions, and what is read in a condition. Short runs take the first of each action and scope.
func strikes(kind gpu.Kind) []string {
	if kind == gpu.CPU {
		return []string{"throttle thermal", "gone"}
	}
	var out []string
	seen := map[string]bool{}
	for _, fault := range gpu.Faults {
		key := fmt.Sprint(fault.Action, fault.Scope)
		if fault.Xid == 0 || fault.Xid == 154 || testing.Short() && seen[key] {
			continue
		}
		seen[key] = true
		out = append(out, fmt.Sprintf("xid %d", fault.Xid))
	}
	if testing.Short() {
		return append(out, "gone")
	}
	return append(out, "xid 154 reset", "xid 154 reboot", "xid 154 drain", "xid 154 drain_and_reset", "xid 999", "ecc", "remap pending", "remap failed", "throttle thermal", "gone")
}

// TestServerDeviceMatrix strikes the device of every role with every fault on every topology, through a real server
// and real workflows, and compares what becomes of the roles, and what people read, with testdata/device_matrix.txt.
func TestServerDeviceMatrix(t *testing.T) {
	m := newMatrix(t)
	var table strings.Builder
	for number, topology := range topologies {
		m.begin(number, topology)
		for _, strike := range strikes(topology.kind) {
			struck := map[string]bool{}
			for _, role := range matrixRoles {
				table.WriteString(m.strike(role, strike, struck))
			}
		}
		m.end()
	}
	compareMatrix(t, table.String())
}

// matrix is the server, the machines and the run of the moment.
type matrix struct {
	*site
	topology topology
	hosts    []*matrixHost
	stop     context.CancelFunc

	mu      sync.Mutex
	running map[lease.Role]int // fence of the activity at work, by role
	commit  chan struct{}      // lets the step in flight come to its end
	well    bool               // nothing has happened to the fleet yet
}

// matrixHost is one machine of the fleet.
type matrixHost struct {
	name   string
	source *gpufake.Source
	watch  context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	events []gpu.Event
	number int
}

func newMatrix(t *testing.T) *matrix {
	s := newFleet(t)
	m := &matrix{site: s, commit: make(chan struct{})}
	s.over = make(chan struct{})
	options := worker.Options{DisableWorkflowWorker: true, MaxHeartbeatThrottleInterval: 20 * time.Millisecond, DefaultHeartbeatThrottleInterval: 20 * time.Millisecond}
	for queue, activities := range m.activities() {
		s.start(worker.New(s.client, queue, options), activities)
	}
	t.Cleanup(m.dismiss)
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
			return ctx.Err()
		case <-m.over:
			return errors.New("the test is over")
		case <-time.After(15 * time.Millisecond):
		}
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
	m.input.Run, m.input.Limits.HeartbeatTimeout = m.id, 2*time.Second
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

// fleet starts the device pool anew, with machines on which all is well.
func (m *matrix) fleet() {
	t := m.t
	t.Helper()
	m.dismiss()
	var none *serviceerror.NotFound
	if err := m.client.TerminateWorkflow(t.Context(), DevicePoolID, "", "the next trial"); err != nil && !errors.As(err, &none) {
		t.Fatal(err)
	}
	policy := lease.DefaultPolicy()
	policy.SilentAfter = time.Hour
	startDevices(t, m.client, DevicePoolInput{Policy: &policy})
	fleet, err := gpufake.Parse(m.topology.name, []byte(m.topology.fleet))
	if err != nil {
		t.Fatal(err)
	}
	for _, described := range fleet.Hosts {
		host := &matrixHost{name: described.Name, source: gpufake.Open(described)}
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		host.watch = stop
		host.done.Go(func() {
			_ = host.source.Watch(ctx, func(event gpu.Event) {
				host.mu.Lock()
				defer host.mu.Unlock()
				host.events = append(host.events, event)
			})
		})
		m.hosts = append(m.hosts, host)
		m.report(host)
	}
}

// dismiss ends the machines.
func (m *matrix) dismiss() {
	for _, host := range m.hosts {
		host.watch()
		host.done.Wait()
	}
	m.hosts, m.well = nil, false
}

// report tells the device pool all about a machine.
func (m *matrix) report(host *matrixHost) {
	t := m.t
	t.Helper()
	inventory, err := host.source.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	readings, err := host.source.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conditions := map[string]gpu.Condition{}
	for _, reading := range readings {
		conditions[reading.UUID] = reading.Condition()
	}
	host.mu.Lock()
	events := host.events
	host.events = nil
	host.mu.Unlock()
	host.number++
	reply, err := ReportDevices(t.Context(), m.client, lease.Report{Agent: host.name, Session: fmt.Sprintf("%p", host), Host: host.name, Machine: host.name, Boot: "1",
		Number: host.number, Clock: time.Now(), Serves: lease.Capacity{Learner: 1, Rollout: 1, Evaluate: 1}, Computes: []gpu.Kind{gpu.CPU, gpu.GPU},
		Inventory: &inventory, Conditions: conditions, Events: events})
	if err != nil || reply.Refused != "" {
		t.Fatalf("%s: %+v, %v", host.name, reply, err)
	}
}

// settled waits until every role is at work under its lease or waits for one with a reason, and all that a test wants.
func (m *matrix) settled(what string, reached func(lease.Snapshot) bool) lease.Snapshot {
	m.t.Helper()
	return m.eventually(what, func(s lease.Snapshot) bool { return m.quiet(s) && reached(s) })
}

// eventually waits for the device pool to come to a state.
func (m *matrix) eventually(what string, reached func(lease.Snapshot) bool) lease.Snapshot {
	m.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
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
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
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

// strike lets something happen to the device of a role, unless it has happened to it, and says what came of it.
func (m *matrix) strike(role lease.Role, line string, done map[string]bool) string {
	t := m.t
	t.Helper()
	m.muster()
	before, err := Devices(t.Context(), m.client)
	if err != nil {
		t.Fatal(err)
	}
	struck := leaseOf(before, role)
	if done[struck.Devices[0]] {
		return ""
	}
	done[struck.Devices[0]], m.well = true, false
	at := slices.IndexFunc(m.hosts, func(h *matrixHost) bool { return h.name == struck.Agent })
	host, device := m.hosts[at], nameOf(t, m.hosts[at], struck.Devices[0])
	m.folder.mu.Lock()
	recorded := len(m.folder.events)
	m.folder.mu.Unlock()
	if err := host.source.Inject(device + " " + line); err != nil {
		t.Fatal(err)
	}
	host.hear(t, strings.HasPrefix(line, "xid"))
	m.report(host)
	struckAt, err := Devices(t.Context(), m.client)
	if err != nil {
		t.Fatal(err)
	}
	after := m.settled(device+" "+line, func(lease.Snapshot) bool { return true })
	var out strings.Builder
	fmt.Fprintf(&out, "%s: %s on %s, %s\n", m.topology.name, line, struck.Devices[0], users(before, struck.Devices[0]))
	for _, d := range after.Devices {
		if d.Health != lease.Healthy || d.NoTrainers {
			fmt.Fprintf(&out, "  %s is %s: %s\n", d.UUID, d.Health, d.Why)
		}
	}
	for _, role := range matrixRoles {
		fmt.Fprintf(&out, "  %-8s %s\n", role, became(before, struckAt, after, role))
	}
	words := "has lost"
	if now := leaseOf(after, lease.Learner).Fence; now != 0 {
		words = fmt.Sprintf("(lease %d)", now)
	} else if leaseOf(struckAt, lease.Learner).Yield != "" {
		words = "back after"
	}
	if leaseOf(after, lease.Learner).Fence != leaseOf(before, lease.Learner).Fence {
		for _, line := range m.recorded(recorded, words) {
			fmt.Fprintf(&out, "  > %s\n", line)
		}
	}
	return tidy(out.String())
}

// hear waits for the event that the driver tells.
func (h *matrixHost) hear(t *testing.T, tells bool) {
	t.Helper()
	for began := time.Now(); tells && time.Since(began) < 5*time.Second; time.Sleep(time.Millisecond) {
		h.mu.Lock()
		heard := len(h.events) > 0
		h.mu.Unlock()
		if heard {
			return
		}
	}
	if tells {
		t.Fatal("the driver tells of no event")
	}
}

// nameOf is what package gpufake calls a device.
func nameOf(t *testing.T, host *matrixHost, uuid string) string {
	t.Helper()
	inventory, err := host.source.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parents, instances := -1, 0
	last := ""
	for _, device := range inventory.Devices {
		switch {
		case device.Kind == gpu.CPU:
			if device.UUID == uuid {
				return "cpu"
			}
			continue
		case device.Parent == "" || device.Parent != last:
			parents, instances, last = parents+1, 0, device.Parent
		default:
			instances++
		}
		if device.UUID == uuid && device.Parent != "" {
			return fmt.Sprintf("gpu %d.%d", parents, instances)
		} else if device.UUID == uuid {
			return fmt.Sprintf("gpu %d", parents)
		}
	}
	t.Fatalf("%s is not on %s", uuid, host.name)
	return ""
}

// users names the roles on a device.
func users(snapshot lease.Snapshot, uuid string) string {
	var roles []string
	for _, role := range matrixRoles {
		if slices.Contains(leaseOf(snapshot, role).Devices, uuid) {
			roles = append(roles, string(role))
		}
	}
	return strings.Join(roles, "+")
}

func leaseOf(snapshot lease.Snapshot, role lease.Role) lease.Lease {
	for _, l := range snapshot.Leases {
		if l.Role == role {
			return l
		}
	}
	return lease.Lease{}
}

// became says what became of a role.
func became(before, at, after lease.Snapshot, role lease.Role) string {
	was, then, is := leaseOf(before, role), leaseOf(at, role), leaseOf(after, role)
	how := ""
	switch {
	case is.Fence == was.Fence:
		return "keeps " + is.Devices[0]
	case then.Yield != "":
		how = "gives " + was.Devices[0] + " back in order"
	default:
		how = "loses " + was.Devices[0]
	}
	if is.Fence == 0 {
		for _, w := range after.Queue {
			if w.Role == role {
				return how + " and waits: " + w.Reason
			}
		}
	}
	if is.Devices[0] == was.Devices[0] {
		return "begins again on " + is.Devices[0]
	}
	return fmt.Sprintf("%s and goes to %s on %s", how, is.Devices[0], is.Host)
}

var (
	clockTime = regexp.MustCompile(`\d\d:\d\d(:\d\d)?( UTC)?`)
	fenceText = regexp.MustCompile(`\(lease \d+\)|in step \d+|lease \d+`)
)

// tidy takes out what differs from one day to the next.
func tidy(text string) string {
	text = clockTime.ReplaceAllString(text, "TIME")
	return fenceText.ReplaceAllStringFunc(text, func(s string) string { return regexp.MustCompile(`\d+`).ReplaceAllString(s, "N") })
}

// compareMatrix compares a table with the one that is kept. A short run has some of its rows.
func compareMatrix(t *testing.T, got string) {
	t.Helper()
	const path = "testdata/device_matrix.txt"
	if *rewriteMatrix {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := rows(string(kept))
	for head, row := range rows(got) {
		if want[head] != row {
			t.Errorf("got:\n%s%s\nwant:\n%s", head, row, want[head])
		}
	}
}

// rows takes a table apart, by the first lines of its rows.
func rows(table string) map[string]string {
	out, head := map[string]string{}, ""
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, " ") {
			head = line
		} else {
			out[head] += line
		}
	}
	return out
}
