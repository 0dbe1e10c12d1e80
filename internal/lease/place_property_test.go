package lease

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

const gib = 1 << 30

var morning = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// anyFleet draws a small fleet in any state: leases need not be such as placement would have given.
func anyFleet(t *rapid.T) Snapshot {
	fleet := Snapshot{Now: morning}
	for h := range rapid.IntRange(1, 3).Draw(t, "hosts") {
		anyHost(t, &fleet, fmt.Sprintf("h%d", h))
	}
	for i := range rapid.IntRange(0, 7).Draw(t, "leases") {
		if l, ok := anyLease(t, fleet, i+1); ok {
			fleet.Leases = append(fleet.Leases, l)
		}
	}
	for _, name := range []string{"q0", "q1"} {
		q := Queue{Name: name, Weight: float64(rapid.IntRange(1, 2).Draw(t, "weight"))}
		if rapid.Bool().Draw(t, "bounded") {
			q.Quota = map[gpu.Kind]int{gpu.GPU: rapid.IntRange(0, 5).Draw(t, "quota")}
		}
		fleet.Queues = append(fleet.Queues, QueueStatus{Queue: q})
	}
	return fleet
}

func anyHost(t *rapid.T, fleet *Snapshot, host string) {
	var agents []string
	for i := range rapid.IntRange(1, 2).Draw(t, "agents") {
		a := AgentStatus{Agent: fmt.Sprintf("%s-%d", host, i), Host: host, Computes: []gpu.Kind{gpu.CPU, gpu.GPU},
			Serves: Capacity{Learner: rapid.IntRange(0, 2).Draw(t, "learners"), Rollout: rapid.IntRange(0, 3).Draw(t, "rollouts")},
			Silent: rapid.IntRange(0, 9).Draw(t, "silent") == 0}
		if rapid.IntRange(0, 9).Draw(t, "computes") == 0 {
			a.Computes = []gpu.Kind{gpu.CPU}
		}
		switch rapid.IntRange(0, 9).Draw(t, "lacks") {
		case 0:
			a.Lacks = []Lack{{Kind: gpu.GPU, Fast: true, Why: "no cuBLASLt"}}
		case 1:
			a.Lacks = []Lack{{Kind: gpu.GPU, UUID: fmt.Sprintf("gpu-%s-0", host), Why: "hidden"}}
		}
		fleet.Agents, agents = append(fleet.Agents, a), append(agents, a.Agent)
	}
	device := func(kind gpu.Kind, i int) {
		d := DeviceStatus{Device: gpu.Device{UUID: fmt.Sprintf("%s-%s-%d", kind, host, i), Kind: kind, Index: i}, Host: host,
			Agents: agents, Health: Healthy}
		d.MemoryTotalBytes = rapid.SampledFrom([]int64{20, 40, 80}).Draw(t, "memory") * gib
		if kind == gpu.GPU {
			d.Domain = rapid.SampledFrom([]string{"", "n0", "n0", "n0", "n1"}).Draw(t, "domain")
		}
		switch rapid.IntRange(0, 11).Draw(t, "state") {
		case 0:
			d.Health = rapid.SampledFrom([]Health{Draining, Quarantined, ResetWanted, Failed}).Draw(t, "health")
		case 1, 2:
			d.Health = Degraded
		case 3:
			d.NoTrainers = true
		case 4:
			d.Condition.ForeignBytes = 30 * gib
		case 5:
			d.Health, d.Agents = Silent, nil
		case 6:
			d.Agents = agents[:1]
		case 7:
			d.Faults = make([]FaultSeen, 2)
		}
		fleet.Devices = append(fleet.Devices, d)
	}
	device(gpu.CPU, 0)
	for i := range rapid.IntRange(0, 5).Draw(t, "gpus") {
		device(gpu.GPU, i)
	}
}

func anyRequest(t *rapid.T) Request {
	r := Request{Run: rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "run"), Role: rapid.SampledFrom([]Role{Learner, Rollout}).Draw(t, "role"),
		Kind: rapid.SampledFrom([]gpu.Kind{gpu.GPU, gpu.GPU, gpu.GPU, gpu.CPU}).Draw(t, "kind"), Count: 1,
		MemoryBytes: rapid.SampledFrom([]int64{0, 10, 20, 30, 60, 100}).Draw(t, "need") * gib,
		Fast:        rapid.Bool().Draw(t, "fast"),
		Queue:       rapid.SampledFrom([]string{"q0", "q1", "q2"}).Draw(t, "queue"), Priority: rapid.IntRange(1, 5).Draw(t, "priority")}
	if r.Kind == gpu.GPU {
		r.Count, r.OneDomain = rapid.IntRange(1, 4).Draw(t, "count"), rapid.Bool().Draw(t, "one domain")
	}
	return r
}

func anyLease(t *rapid.T, fleet Snapshot, fence int) (Lease, bool) {
	a := rapid.SampledFrom(fleet.Agents).Draw(t, "agent")
	l := Lease{Request: anyRequest(t), Fence: fence, Agent: a.Agent, Host: a.Host,
		Granted: morning.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "granted")) * time.Minute)}
	l.Holder = fmt.Sprintf("%s/%s-%d", l.Run, l.Role, fence)
	if rapid.IntRange(0, 5).Draw(t, "yields") == 0 {
		l.Yield = "for another"
	}
	for _, d := range fleet.Devices {
		if d.Host == a.Host && d.Kind == l.Kind && len(l.Devices) < l.Count && rapid.Bool().Draw(t, "on") {
			l.Devices = append(l.Devices, d.UUID)
		}
	}
	l.Count = len(l.Devices)
	return l, l.Count > 0
}

// shuffled is the same fleet with every list in another order.
func shuffled(fleet Snapshot, seed uint64) Snapshot {
	random := rand.New(rand.NewPCG(seed, 1))
	mix := func(n int, swap func(i, j int)) { random.Shuffle(n, swap) }
	fleet.Agents, fleet.Devices, fleet.Leases = slices.Clone(fleet.Agents), slices.Clone(fleet.Devices), slices.Clone(fleet.Leases)
	fleet.Queue, fleet.Queues = slices.Clone(fleet.Queue), slices.Clone(fleet.Queues)
	mix(len(fleet.Agents), func(i, j int) { fleet.Agents[i], fleet.Agents[j] = fleet.Agents[j], fleet.Agents[i] })
	mix(len(fleet.Devices), func(i, j int) { fleet.Devices[i], fleet.Devices[j] = fleet.Devices[j], fleet.Devices[i] })
	mix(len(fleet.Leases), func(i, j int) { fleet.Leases[i], fleet.Leases[j] = fleet.Leases[j], fleet.Leases[i] })
	mix(len(fleet.Queue), func(i, j int) { fleet.Queue[i], fleet.Queue[j] = fleet.Queue[j], fleet.Queue[i] })
	mix(len(fleet.Queues), func(i, j int) { fleet.Queues[i], fleet.Queues[j] = fleet.Queues[j], fleet.Queues[i] })
	for i := range fleet.Leases {
		fleet.Leases[i].Devices = slices.Clone(fleet.Leases[i].Devices)
		slices.Reverse(fleet.Leases[i].Devices)
	}
	for i := range fleet.Devices {
		fleet.Devices[i].Agents = slices.Clone(fleet.Devices[i].Agents)
		slices.Reverse(fleet.Devices[i].Agents)
	}
	return fleet
}

// TestPlaceAgainstTryingEverything holds the place, the victims and the verdict that a request can never be
// served to what trying every set of devices and every set of victims finds.
func TestPlaceAgainstTryingEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet, r := anyFleet(t), anyRequest(t)
		got, ok, reason, never := Place(fleet, r)
		want, free := bestPlace(fleet, r)
		if ok != free {
			t.Fatalf("placed %v (%+v, %q), trying everything %v (%+v)", ok, got, reason, free, want)
		}
		if ok {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("place (-want +got):\n%s\nwant %v\n got %v", diff, goodness(fleet, r, want), goodness(fleet, r, got))
			}
			if reason != "" || never {
				t.Fatalf("placed, and yet %q, never %v", reason, never)
			}
			return
		}
		served := slices.ContainsFunc(fleet.Agents, func(a AgentStatus) bool {
			return r.Role == Learner && a.Serves.Learner > 0 || r.Role == Rollout && a.Serves.Rollout > 0
		})
		if want := served && len(everyPlace(perfect(fleet), r)) == 0; never != want {
			t.Fatalf("never %v, want %v: %q", never, want, reason)
		}
		if reason == "" || strings.ContainsAny(reason, "\n\r\t") || strings.Contains(reason, "  ") {
			t.Fatalf("reason %q", reason)
		}
		victims := bestVictims(fleet, r)
		if diff := cmp.Diff(victims, got.Victims); diff != "" {
			t.Fatalf("victims (-want +got):\n%s", diff)
		}
		if victims != nil {
			want, _ := bestPlace(afterwards(fleet, victims), r)
			want.Victims = victims
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("place after victims (-want +got):\n%s", diff)
			}
		}
	})
}

// TestVictimsAreNeeded states what trying everything above implies, by itself: no victim can be spared, no
// learner goes when others are enough, and nobody goes for an equal.
func TestVictimsAreNeeded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet, r := anyFleet(t), anyRequest(t)
		got, _, _, _ := Place(fleet, r)
		if len(got.Victims) == 0 {
			return
		}
		if len(everyPlace(fleet, r)) > 0 {
			t.Fatalf("victims %v although a place is free", got.Victims)
		}
		var elastic []int
		for _, l := range fleet.Leases {
			if l.Yield != "" || l.Role != Learner && l.Priority > r.Priority {
				elastic = append(elastic, l.Fence)
			}
		}
		enough := len(everyPlace(afterwards(fleet, elastic), r)) > 0
		for i, fence := range got.Victims {
			v := fleet.Leases[slices.IndexFunc(fleet.Leases, func(l Lease) bool { return l.Fence == fence })]
			if v.Yield == "" && (v.Priority <= r.Priority || enough && v.Role == Learner) {
				t.Fatalf("victim %+v of a request of priority %d; others enough: %v", v, r.Priority, enough)
			}
			if spared := slices.Delete(slices.Clone(got.Victims), i, i+1); len(everyPlace(afterwards(fleet, spared), r)) > 0 {
				t.Fatalf("victim %d of %v is not needed", fence, got.Victims)
			}
		}
	})
}

// TestPlaceKeepsDomainsWhole counts the domains that are wholly free after each place that is as healthy and
// touches as few domains: none leaves more than the one that was chosen.
func TestPlaceKeepsDomainsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet, r := anyFleet(t), anyRequest(t)
		got, ok, _, _ := Place(fleet, r)
		if !ok {
			return
		}
		chosen := goodness(fleet, r, got)
		for _, other := range everyPlace(fleet, r) {
			if g := goodness(fleet, r, other); slices.Equal(g[:2], chosen[:2]) && wholeAfter(fleet, other) > wholeAfter(fleet, got) {
				t.Fatalf("%v leaves %d domains whole, %v would leave %d", got, wholeAfter(fleet, got), other, wholeAfter(fleet, other))
			}
		}
	})
}

// wholeAfter counts the domains of two devices or more that could be given to one learner after a placement.
func wholeAfter(fleet Snapshot, p Placement) int {
	size, broken := map[string]int{}, map[string]bool{}
	for _, d := range fleet.Devices {
		if d.Domain == "" {
			continue
		}
		at := d.Host + "/" + d.Domain
		size[at]++
		if !fit(d) || d.NoTrainers || len(on(fleet, d.UUID)) > 0 || slices.Contains(p.Devices, d.UUID) {
			broken[at] = true
		}
	}
	n := 0
	for at := range size {
		if size[at] > 1 && !broken[at] {
			n++
		}
	}
	return n
}

func TestPlaceIgnoresTheOrderOfLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet, r := anyFleet(t), anyRequest(t)
		other := shuffled(fleet, rapid.Uint64().Draw(t, "seed"))
		type answer struct {
			Placement Placement
			OK, Never bool
			Reason    string
		}
		var x, y answer
		x.Placement, x.OK, x.Reason, x.Never = Place(fleet, r)
		y.Placement, y.OK, y.Reason, y.Never = Place(other, r)
		if diff := cmp.Diff(x, y); diff != "" {
			t.Fatalf("another order, another answer:\n%s", diff)
		}
	})
}
