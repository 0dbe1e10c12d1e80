package lease

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// manyHosts is a pool with so many hosts of eight GPUs, all registered at once, and their next reports.
func manyHosts(hosts int) (*Pool, time.Time, []Report) {
	p, now := New(DefaultPolicy()), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var reports []Report
	for i := range hosts {
		host := fmt.Sprintf("host-%03d", i)
		inventory := fleetOf(host, 8, 8, 1<<40)
		for j := range inventory.Devices {
			d := &inventory.Devices[j]
			d.Name, d.PCI = "NVIDIA H200 SXM 141GB", fmt.Sprintf("00000000:%02X:00.0", j)
			d.UUID = fmt.Sprintf("%s-%08x-1111-2222-3333-%012x", d.Kind, i, j)
		}
		r := Report{Agent: host, Session: fmt.Sprintf("5e551000-0000-4000-8000-%012x", i), Host: host, Machine: fmt.Sprintf("%032x", i),
			Boot: fmt.Sprintf("b0070000-0000-4000-8000-%012x", i), Number: 1, Clock: now, Serves: Capacity{Learner: 1, Rollout: 8, Evaluate: 1},
			Computes: []gpu.Kind{gpu.CPU, gpu.GPU}, Inventory: &inventory}
		p.Step(now, Reported{r})
		r.Inventory, r.Number = nil, 2
		reports = append(reports, r)
	}
	return p, now, reports
}

// TestHundredHostsAtOnce registers a hundred hosts in the same moment, gives each of their GPUs to a role and
// lets one device of each host have had a fault. The reports that follow come no faster than the pool can
// take, and what it carries over continue-as-new stays small.
func TestHundredHostsAtOnce(t *testing.T) {
	const hosts = 100
	p, now, reports := manyHosts(hosts)
	granted, devices := 0, 0
	for i := 0; devices < 8*hosts; i++ {
		request := Request{Holder: fmt.Sprintf("run-%03d/pool/%d", i/4, i%4), Run: fmt.Sprintf("run-%03d", i/4), Role: Rollout, Kind: gpu.GPU, Count: 1,
			MemoryBytes: 80 << 30, Queue: "default", Priority: 3}
		if i < hosts/2 { // half of the hosts train, the others play
			request.Role, request.Count = Learner, 8
		}
		devices += request.Count
		for _, command := range p.Step(now, Requested{request}) {
			if tell, is := command.(Tell); is && tell.News.Kind == Granted {
				granted += len(tell.News.Lease.Devices)
			}
		}
	}
	if granted != 8*hosts {
		t.Errorf("%d devices granted, want %d", granted, 8*hosts)
	}
	for _, r := range reports {
		r.Events = []gpu.Event{{UUID: fmt.Sprintf("gpu-%08x-1111-2222-3333-%012x", r.Number, 0), At: now, Xid: 31, Kind: gpu.XidEvent}}
		p.Step(now, Reported{r})
		reply := p.Reply(r.Agent)
		if perSecond := float64(hosts) / reply.Every.Seconds(); perSecond > reportsPerSecond || reply.SilentAfter < 3*reply.Every {
			t.Fatalf("%d agents that report every %s are %.1f reports a second; silent after %s", hosts, reply.Every, perSecond, reply.SilentAfter)
		}
	}
	state, err := json.Marshal(p.State())
	if err != nil {
		t.Fatal(err)
	}
	view, err := json.Marshal(p.Snapshot(now))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d hosts, %d devices, %d leases: %d bytes of state, %d of snapshot", hosts, len(p.state.Devices), len(p.state.Leases), len(state), len(view))
	if len(state) > 1<<20 || len(view) > 1<<20 {
		t.Errorf("the state takes %d bytes and the snapshot %d, want 1 MiB at most", len(state), len(view))
	}
}

// TestNobodyWaits changes how a device is while nobody waits: nothing is placed, so that a large fleet costs no
// more than a small one.
func TestNobodyWaits(t *testing.T) {
	costs := func(hosts int) float64 {
		p, now, reports := manyHosts(hosts)
		r, uuid := reports[0], p.state.Devices[0].UUID
		return testing.AllocsPerRun(20, func() {
			r.Number++
			r.Conditions = map[string]gpu.Condition{uuid: {ForeignBytes: int64(r.Number)}}
			p.Step(now, Reported{r})
			if !p.changed {
				t.Fatal("the condition is the same")
			}
		})
	}
	if one, hundred := costs(1), costs(100); hundred > one+10 {
		t.Errorf("a changed condition takes %g allocations among 100 hosts and %g on the only one", hundred, one)
	}
}

// BenchmarkReport is what a report costs that says nothing new, with a hundred hosts of eight GPUs.
func BenchmarkReport(b *testing.B) {
	p, now, reports := manyHosts(100)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := &reports[i%len(reports)]
		r.Number++
		if i%len(reports) == 0 {
			now = now.Add(10 * time.Second)
		}
		p.Step(now, Reported{*r})
		p.Reply(r.Agent)
	}
}

// BenchmarkRequest is what a request and its release cost on the same fleet, half of which is leased, while
// forty others wait.
func BenchmarkRequest(b *testing.B) {
	p, now, _ := manyHosts(100)
	for i := range 440 {
		count := 1
		if i >= 400 {
			count = 9 // more than a host has
		}
		p.Step(now, Requested{Request{Holder: fmt.Sprint("holder-", i), Run: fmt.Sprint("run-", i), Role: Rollout, Kind: gpu.GPU, Count: count, Queue: "default", Priority: 3}})
	}
	request := Request{Holder: "it", Run: "run", Role: Rollout, Kind: gpu.GPU, Count: 1, Queue: "default", Priority: 3}
	b.ReportAllocs()
	for b.Loop() {
		p.Step(now, Requested{request})
		p.Step(now, Released{Holder: "it"})
	}
}

// BenchmarkSnapshot is what a look at the same fleet costs.
func BenchmarkSnapshot(b *testing.B) {
	p, now, _ := manyHosts(100)
	b.ReportAllocs()
	for b.Loop() {
		p.Snapshot(now)
	}
}
