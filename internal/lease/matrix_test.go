package lease

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// TestFaultMatrix puts every fault of the health policy, and every word of the driver's recovery action, on
// the first device of every role on every topology, and writes down who loses the lease, where the role goes
// and what the operator reads. The holders do what holders do: one whose lease is revoked asks again, and one
// that is asked to yield gives its lease back and asks again.
func TestFaultMatrix(t *testing.T) {
	datadriven.RunTest(t, "testdata/matrix/faults.txt", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		for _, trouble := range troubles() {
			fmt.Fprintf(&out, "%s\n", trouble.name)
			for _, topology := range topologies {
				fmt.Fprintf(&out, "  %s\n", topology.name)
				reads := ""
				for _, role := range roles {
					if role.gpus > topology.gpus || role.beside && topology.gpus > 1 { // they share only what there is one of
						continue
					}
					m := newMatrix(t, topology, role)
					m.report(t, trouble)
					m.check(t, trouble, topology, role)
					fmt.Fprintf(&out, "    %-10s %s\n", role.name, m.outcome(t))
					reads = m.reads()
				}
				fmt.Fprintf(&out, "    reads      %s\n", reads)
			}
		}
		return out.String()
	})
}

// trouble is one line of the matrix: an event, a condition, or both.
type trouble struct {
	name      string
	fault     gpu.Fault
	xid       int
	kind      gpu.EventKind
	condition *gpu.Condition
}

func troubles() []trouble {
	var list []trouble
	conditions := map[string]gpu.Condition{gpu.UncorrectedECC: {Uncorrected: 1}, gpu.RemapPending: {RemapPending: true},
		gpu.RemapFailed: {RemapFailed: true}, gpu.Gone: {Gone: "GPU is lost"}}
	for _, fault := range gpu.Faults {
		name := fmt.Sprintf("%s: %s, of the %s", fault.Name, fault.Action, fault.Scope)
		condition, is := conditions[fault.Name]
		switch {
		case fault.Xid != 0:
			list = append(list, trouble{name: fmt.Sprintf("XID %d %s", fault.Xid, name), fault: fault, xid: fault.Xid, kind: gpu.XidEvent})
		case fault.Name == gpu.Failure:
			list = append(list, trouble{name: "event " + name, fault: fault, kind: gpu.ComputeFailed})
		case is:
			list = append(list, trouble{name: "condition " + name, fault: fault, condition: &condition})
		}
	}
	for _, recovery := range []gpu.Recovery{gpu.RecoverReset, gpu.RecoverReboot, gpu.RecoverDrain, gpu.RecoverDrainAndReset, "exorcise"} {
		fault, _ := gpu.OfRecovery(recovery)
		condition := gpu.Condition{Recovery: recovery}
		list = append(list, trouble{name: fmt.Sprintf("XID 154 with %s: %s, of the %s", recovery, fault.Action, fault.Scope), fault: fault, xid: 154, kind: gpu.XidEvent, condition: &condition},
			trouble{name: fmt.Sprintf("condition %s: %s, of the %s", recovery, fault.Action, fault.Scope), fault: fault, condition: &condition})
	}
	heat := gpu.Condition{Throttle: []gpu.Throttle{gpu.ThrottleThermal}}
	return append(list, trouble{name: "double-bit ECC event", fault: gpu.OfXid(48, ""), kind: gpu.DoubleBitECC}, trouble{name: "XID 999, which nobody knows", fault: gpu.OfXid(999, ""), xid: 999, kind: gpu.XidEvent},
		trouble{name: "condition throttle", fault: gpu.Fault{Action: gpu.Ignore}, condition: &heat})
}

type topology struct {
	name                string
	hosts, gpus, domain int
}

var topologies = []topology{
	{"one GPU", 1, 1, 0}, {"two GPUs without NVLink", 1, 2, 0},
	{"four GPUs in two NVLink domains", 1, 4, 2}, {"two hosts of two GPUs in an NVLink domain", 2, 2, 2},
}

type matrixRole struct {
	name string
	role Role
	gpus int
	// beside is true when a rollout of the same run is on the device as well.
	beside bool
}

var roles = []matrixRole{{"learner", Learner, 1, false}, {"rollout", Rollout, 1, false}, {"evaluate", Evaluate, 1, false},
	{"learner×2", Learner, 2, false}, {"rollout×2", Rollout, 2, false}, {"shared", Learner, 1, true}}

// matrix is one field of the matrix.
type matrix struct {
	pool    *Pool
	now     time.Time
	reports map[string]Report
	// first is the first device, on which the fault is.
	first    string
	requests map[string]Request
	leases   map[string]Lease
	told     map[string][]string
}

func newMatrix(t *testing.T, top topology, role matrixRole) *matrix {
	t.Helper()
	m := &matrix{pool: New(DefaultPolicy()), now: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), reports: map[string]Report{}, first: "GPU-h1-0",
		requests: map[string]Request{}, leases: map[string]Lease{}, told: map[string][]string{}}
	for i := range top.hosts {
		host := fmt.Sprintf("h%d", i+1)
		inventory := fleetOf(host, top.gpus, top.domain, 0)
		r := Report{Agent: host, Session: "s", Host: host, Machine: host, Boot: "b1", Number: 1, Clock: m.now,
			Serves: Capacity{Learner: 4, Rollout: 4, Evaluate: 4}, Computes: []gpu.Kind{gpu.GPU}, Inventory: &inventory}
		m.step(t, Reported{r})
		r.Inventory = nil
		m.reports[host] = r
	}
	request := Request{Holder: "it", Run: "run", Role: role.role, Kind: gpu.GPU, Count: role.gpus, MemoryBytes: 8 << 30, Queue: "default", Priority: 3}
	m.ask(t, request)
	if role.beside {
		request.Holder, request.Role = "pool", Rollout
		m.ask(t, request)
	}
	m.told = map[string][]string{}
	for holder, l := range m.leases {
		if !slices.Contains(l.Devices, m.first) {
			t.Fatalf("%s is on %v, not on %s", holder, l.Devices, m.first)
		}
	}
	return m
}

func (m *matrix) ask(t *testing.T, r Request) {
	m.requests[r.Holder] = r
	m.step(t, Requested{r})
}

func (m *matrix) report(t *testing.T, trouble trouble) {
	m.now = m.now.Add(5 * time.Second)
	r := m.reports["h1"]
	r.Number++
	if trouble.kind != "" {
		r.Events = []gpu.Event{{UUID: m.first, At: m.now, Xid: trouble.xid, Kind: trouble.kind}}
	}
	if trouble.condition != nil {
		r.Conditions = map[string]gpu.Condition{m.first: *trouble.condition}
	}
	m.step(t, Reported{r})
}

// step feeds an event, and what the holders do about what they are told.
func (m *matrix) step(t *testing.T, event Event) {
	t.Helper()
	for _, command := range m.pool.Step(m.now, event) {
		tell, is := command.(Tell)
		if !is {
			continue
		}
		holder, news := tell.Holder, tell.News
		m.told[holder] = append(m.told[holder], string(news.Kind))
		switch news.Kind {
		case Granted:
			m.leases[holder] = *news.Lease
		case Yield:
			delete(m.leases, holder)
			m.step(t, Released{Holder: holder, Fence: news.Fence})
			m.step(t, Requested{m.requests[holder]})
		case Revoked:
			delete(m.leases, holder)
			m.step(t, Requested{m.requests[holder]})
		}
	}
}

// check compares the first role's news with what its action means.
func (m *matrix) check(t *testing.T, trouble trouble, top topology, role matrixRole) {
	t.Helper()
	want := map[gpu.Action]NewsKind{gpu.Restart: Granted, gpu.Quarantine: Revoked, gpu.Drain: Yield, gpu.Reset: Revoked, gpu.Reboot: Revoked, gpu.Replace: Yield}[trouble.fault.Action]
	if trouble.fault.Scope == gpu.OfDomain && role.role != Learner && role.gpus == 1 {
		want = ""
	}
	got := ""
	if len(m.told["it"]) > 0 {
		got = m.told["it"][0]
	}
	if got != string(want) {
		t.Errorf("%s, %s, %s: the holder is told %q first, want %q", trouble.name, top.name, role.name, got, want)
	}
	for _, l := range m.leases {
		for _, d := range m.pool.Snapshot(m.now).Devices {
			if slices.Contains(l.Devices, d.UUID) && d.Health.rank() > Degraded.rank() {
				t.Errorf("%s, %s, %s: lease %d is on %s, which is %s", trouble.name, top.name, role.name, l.Fence, d.UUID, d.Health)
			}
		}
	}
}

// outcome says what became of the roles.
func (m *matrix) outcome(t *testing.T) string {
	t.Helper()
	var lines []string
	view := m.pool.Snapshot(m.now)
	for _, holder := range sortedKeys(m.requests) {
		how, where := "keeps its lease", ""
		switch told := m.told[holder]; {
		case slices.Contains(told, string(Yield)):
			how = "finishes its step"
		case slices.Contains(told, string(Revoked)):
			how = "loses its lease at once"
		case slices.Contains(told, string(Granted)):
			how = "begins again"
		}
		if l, has := m.leases[holder]; has {
			where = "is on " + strings.Join(l.Devices, " ")
		}
		for _, w := range view.Queue {
			if w.Holder == holder {
				where = "waits: " + w.Reason
			}
		}
		if where == "" {
			t.Errorf("%s is forgotten: told %v", holder, m.told[holder])
		}
		lines = append(lines, fmt.Sprintf("%s, %s", how, where))
	}
	return strings.Join(lines, " | beside it: ")
}

// reads is what the operator reads of devices that are not healthy.
func (m *matrix) reads() string {
	var lines []string
	for _, d := range m.pool.Snapshot(m.now).Devices {
		if d.Health == Healthy {
			continue
		}
		trainers := ""
		if d.NoTrainers {
			trainers = ", no trainers"
		}
		lines = append(lines, fmt.Sprintf("%s %s%s: %s", d.UUID, d.Health, trainers, d.Why))
	}
	if lines == nil {
		return "nothing"
	}
	return strings.Join(lines, " | ")
}
