package lease

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// FuzzEvents feeds a pool that has something to lose a report, a request and a lease that say anything.
// Nothing makes it panic, forget what it decided on the way through JSON, give one GPU to two runs, or more
// memory than there is.
func FuzzEvents(f *testing.F) {
	f.Add("h1", "t", "m", "GPU-h1-0", "lost", 2, 5, 79, 1, 0, int64(8<<30), int64(141<<30), 3, int64(0))
	f.Add("h2", "s", "n", "GPU-h1-0", "", 1, -1, 154, 2, 1<<50, int64(-1), int64(1), 9, int64(-1<<62))
	f.Add("h1", "s", "m", "", "reboot", 9, 1<<41, 0, 1<<60, -7, int64(1<<62), int64(1<<62), 1, int64(1<<62))
	f.Fuzz(func(t *testing.T, agent, session, machine, uuid, text string, number, fence, xid, count, above int, memory, total int64, priority int, at int64) {
		for _, s := range []*string{&agent, &session, &machine, &uuid, &text} {
			*s = strings.ToValidUTF8(*s, "?")
		}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		inventory := fleetOf("h1", 2, 2, 64<<30)
		sound := Report{Agent: "h1", Session: "s", Machine: "m", Host: "h1", Number: 1, Serves: Capacity{Learner: 2, Rollout: 2}, Computes: []gpu.Kind{gpu.GPU}, Inventory: &inventory}
		other := inventory
		other.Devices = append([]gpu.Device{{UUID: uuid, Kind: gpu.GPU, MemoryTotalBytes: total, Domain: text}}, inventory.Devices[0])
		odd := Report{Agent: agent, Session: session, Machine: machine, Host: text, Number: number, Serves: sound.Serves, Computes: sound.Computes, Held: []int{fence},
			Clock: time.Unix(at&(1<<36-1), 0).UTC(), Inventory: &other, Conditions: map[string]gpu.Condition{uuid: {Gone: text, Uncorrected: memory, ForeignBytes: total, Recovery: gpu.Recovery(session)}},
			Events: []gpu.Event{{UUID: uuid, At: time.Unix(at&(1<<36-1), 0).UTC(), Xid: xid, Kind: gpu.XidEvent, Text: text}, {UUID: text, Kind: gpu.Reloaded}}}
		request := Request{Holder: agent, Run: machine, Role: Learner, Kind: gpu.GPU, Count: count, MemoryBytes: memory, Queue: "q", Priority: priority, Above: above}
		lease := Lease{Request: request, Fence: fence, Agent: "h1", Host: "h1", Devices: []string{uuid}}
		lease.Holder = session
		p := New(DefaultPolicy())
		for _, event := range []Event{Reported{sound}, Requested{request}, Reported{odd}, Renewed{lease}, Requested{lease.Request}, DrainAsked{UUID: uuid, By: text},
			Reported{odd}, QueueSet{Queue{Name: text, Quota: map[gpu.Kind]int{gpu.GPU: count}, Weight: float64(memory)}}, UndrainAsked{UUID: uuid}, Tick{}} {
			now = now.Add(4 * time.Second)
			copied := Restore(DefaultPolicy(), roundTrip(t, p.State()))
			if got, want := copied.Step(now, event), p.Step(now, event); !reflect.DeepEqual(got, want) {
				t.Fatalf("%#v: from JSON %v, want %v", event, got, want)
			}
			p.Reply(agent)
			lookAtLeases(t, p, now)
		}
	})
}

func lookAtLeases(t *testing.T, p *Pool, now time.Time) {
	t.Helper()
	for _, d := range p.Snapshot(now).Devices {
		runs := map[string]bool{}
		for _, fence := range d.Leases {
			runs[p.state.lease(fence).Run] = true
		}
		if d.Kind == gpu.GPU && len(runs) > 1 || len(d.Leases) > 0 && d.LeasedBytes > max(d.MemoryTotalBytes, 0) {
			t.Fatalf("%+v is leased to %v", d, runs)
		}
	}
}
