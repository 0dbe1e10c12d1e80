package lease

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// anyWaiting draws a fleet with a waiting list.
func anyWaiting(t *rapid.T) Snapshot {
	fleet := anyFleet(t)
	for i := range rapid.IntRange(1, 5).Draw(t, "waiting") {
		w := Waiter{Request: anyRequest(t), Since: morning.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "since")) * time.Minute)}
		w.Priority = rapid.IntRange(1, 3).Draw(t, "waits with priority")
		w.Holder = fmt.Sprintf("%s/waits-%d", w.Run, i)
		fleet.Queue = append(fleet.Queue, w)
	}
	return fleet
}

// granted is the fleet with a decision carried out.
func granted(fleet Snapshot, d Decision) Snapshot {
	fence := 1
	for _, l := range fleet.Leases {
		fence = max(fence, l.Fence+1)
	}
	fleet.Leases = append(slices.Clone(fleet.Leases), Lease{Request: d.Waiter.Request, Fence: fence, Agent: d.Placement.Agent,
		Host: d.Placement.Host, Devices: d.Placement.Devices, Granted: fleet.Now})
	fleet.Queue = slices.DeleteFunc(slices.Clone(fleet.Queue), func(w Waiter) bool { return w.Holder == d.Waiter.Holder })
	return fleet
}

// TestDecide carries out what a walk decides, one request after the other: each place was free when it was
// given, each turn was that of the request that was due, and no request went without a place that nobody was
// keeping for another.
func TestDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet := anyWaiting(t)
		decisions := Decide(fleet)
		if len(decisions) != len(fleet.Queue) {
			t.Fatalf("%d decisions for %d requests", len(decisions), len(fleet.Queue))
		}
		waits := slices.Clone(fleet.Queue)
		keeping, above := false, math.MinInt // a place was kept from everybody; the first priority that waits
		for _, d := range decisions {
			if due := turn(fleet, waits); due.Holder != d.Waiter.Holder {
				t.Fatalf("%s was looked at, but it was the turn of %s", d.Waiter.Holder, due.Holder)
			}
			waits = slices.DeleteFunc(waits, func(w Waiter) bool { return w.Holder == d.Waiter.Holder })
			places := everyPlace(fleet, d.Waiter.Request)
			switch {
			case d.Placed:
				if len(d.Placement.Victims) > 0 || d.Reason != "" || d.Never || !slices.ContainsFunc(places, func(p Placement) bool { return cmp.Equal(p, d.Placement) }) {
					t.Fatalf("%+v is not free: %v", d, places)
				}
				fleet = granted(fleet, d)
			case !keeping && (above == math.MinInt || above == d.Waiter.Priority) && len(places) > 0:
				t.Fatalf("%s waits (%s) although %v is free and nobody keeps it", d.Waiter.Holder, d.Reason, places[0])
			case d.Reason == "":
				t.Fatalf("%s waits for no reason", d.Waiter.Holder)
			}
			if !d.Placed && above == math.MinInt {
				above = d.Waiter.Priority
			}
			keeping = keeping || len(d.Placement.Victims) > 0
			for _, fence := range d.Placement.Victims {
				v := fleet.Leases[slices.IndexFunc(fleet.Leases, func(l Lease) bool { return l.Fence == fence })]
				if v.Yield == "" && v.Priority <= d.Waiter.Priority && !marked(decisions, fence, d) {
					t.Fatalf("%s of priority %d asks %+v to yield", d.Waiter.Holder, d.Waiter.Priority, v)
				}
			}
		}
		withinQuotas(t, fleet)
	})
}

// marked says that a lease has to yield for an earlier request of the same walk.
func marked(decisions []Decision, fence int, before Decision) bool {
	for _, d := range decisions {
		if d.Waiter.Holder == before.Waiter.Holder {
			return false
		}
		if slices.Contains(d.Placement.Victims, fence) {
			return true
		}
	}
	return false
}

// turn is whose turn it is by the rule, from what the leases of the fleet say.
func turn(fleet Snapshot, waits []Waiter) Waiter {
	share := func(w Waiter) float64 {
		devices, weight := map[string]bool{}, 1.0
		for _, l := range fleet.Leases {
			for _, uuid := range l.Devices {
				if l.Queue == w.Queue && l.Kind == w.Kind {
					devices[uuid] = true
				}
			}
		}
		for _, q := range fleet.Queues {
			if q.Name == w.Queue {
				weight = q.Weight
			}
		}
		return float64(len(devices)) / weight
	}
	best := waits[0]
	for _, w := range waits[1:] {
		switch {
		case w.Priority != best.Priority:
			if w.Priority < best.Priority {
				best = w
			}
		case share(w) != share(best):
			if share(w) < share(best) {
				best = w
			}
		case !w.Since.Equal(best.Since):
			if w.Since.Before(best.Since) {
				best = w
			}
		case w.Holder < best.Holder:
			best = w
		}
	}
	return best
}

// withinQuotas checks that no queue to which a request was added holds more than its quota.
func withinQuotas(t *rapid.T, fleet Snapshot) {
	held := Holdings(fleet.Leases)
	for _, q := range fleet.Queues {
		for _, kind := range []gpu.Kind{gpu.CPU, gpu.GPU} {
			quota, bounded := q.Quota[kind]
			if given := slices.ContainsFunc(fleet.Leases, func(l Lease) bool {
				return l.Queue == q.Name && l.Kind == kind && strings.Contains(l.Holder, "/waits-")
			}); bounded && given && held[q.Name][kind] > quota {
				t.Fatalf("queue %s was given %s devices and holds %d of %d", q.Name, kind, held[q.Name][kind], quota)
			}
		}
	}
}

// inTurn sorts the waiting list of a snapshot as [Decide] walks over it when every request gets what it asks for
// in its turn. A walk in which some get nothing may give more turns to their queues, which hold less then.
func inTurn(fleet Snapshot) []Waiter {
	b := newBoard(fleet)
	out, waiting := make([]Waiter, 0, len(fleet.Queue)), slices.Clone(fleet.Queue)
	for len(waiting) > 0 {
		var w Waiter
		w, waiting = b.next(waiting)
		b.queue(w.Queue).held[kindIndex(w.Kind)] += max(w.Count, 0)
		out = append(out, w)
	}
	return out
}

// TestOrder compares the order with the walk on a fleet that has a device of its own for everybody.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet := anyWaiting(t)
		fleet.Agents, fleet.Devices, fleet.Leases = oneHost(20).Agents, oneHost(20).Devices, nil
		for i := range fleet.Queue {
			w := &fleet.Queue[i]
			w.Role, w.Kind, w.OneDomain, w.MemoryBytes, w.Run = Rollout, gpu.GPU, false, 0, w.Holder
		}
		for i := range fleet.Queues {
			fleet.Queues[i].Quota = nil
		}
		var walked []Waiter
		for _, d := range Decide(fleet) {
			if !d.Placed {
				t.Fatalf("%s: %s", d.Waiter.Holder, d.Reason)
			}
			walked = append(walked, d.Waiter)
		}
		for _, list := range []Snapshot{fleet, shuffled(fleet, rapid.Uint64().Draw(t, "seed"))} {
			if diff := cmp.Diff(walked, inTurn(list)); diff != "" {
				t.Fatalf("the walk (-) and the order (+):\n%s", diff)
			}
		}
	})
}

func TestDecideIgnoresTheOrderOfLists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet := anyWaiting(t)
		if diff := cmp.Diff(Decide(fleet), Decide(shuffled(fleet, rapid.Uint64().Draw(t, "seed")))); diff != "" {
			t.Fatalf("another order, another decision:\n%s", diff)
		}
	})
}

// TestDecideLeavesItsInput holds that a walk changes nothing of the snapshot.
func TestDecideLeavesItsInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet := anyWaiting(t)
		before := shuffled(fleet, 1)
		Decide(fleet)
		if diff := cmp.Diff(before, shuffled(fleet, 1)); diff != "" {
			t.Fatalf("the walk has changed the snapshot:\n%s", diff)
		}
	})
}

// TestVictimsMakeWay lets the leases that were asked to yield end: whoever asked for them first gets a place
// then, and nobody is asked in between.
func TestVictimsMakeWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fleet := anyWaiting(t)
		decisions := Decide(fleet)
		for _, d := range decisions {
			if d.Placed {
				fleet = granted(fleet, d)
			}
		}
		i := slices.IndexFunc(decisions, func(d Decision) bool { return len(d.Placement.Victims) > 0 })
		if i < 0 {
			return
		}
		first := decisions[i]
		for j := range fleet.Leases {
			if slices.Contains(first.Placement.Victims, fleet.Leases[j].Fence) {
				fleet.Leases[j].Yield = "for " + first.Waiter.Holder
			}
		}
		fleet.Queue = []Waiter{first.Waiter}
		again := Decide(fleet)[0]
		for _, fence := range again.Placement.Victims {
			if j := slices.IndexFunc(fleet.Leases, func(l Lease) bool { return l.Fence == fence }); fleet.Leases[j].Yield == "" {
				t.Fatalf("asked %v, and then %d too", first.Placement.Victims, fence)
			}
		}
		done := Decide(afterwards(fleet, first.Placement.Victims))[0]
		if !done.Placed {
			t.Fatalf("%v have gone and %s still waits: %s", first.Placement.Victims, done.Waiter.Holder, done.Reason)
		}
	})
}

// TestFairShares lets queues that always want more compete while leases end one by one: with equal weights no
// queue is ever two devices ahead, and with a weight of two a queue has twice as many.
func TestFairShares(t *testing.T) {
	for _, c := range []struct {
		weights []float64
		devices int
	}{{[]float64{1, 1}, 8}, {[]float64{1, 1}, 7}, {[]float64{1, 1, 1}, 8}, {[]float64{2, 1}, 9}, {[]float64{3, 2, 1}, 12}, {[]float64{0, -1, math.NaN(), math.Inf(1)}, 8}} {
		fleet, random := oneHost(c.devices), rand.New(rand.NewPCG(7, 7))
		for i, weight := range c.weights {
			fleet.Queues = append(fleet.Queues, QueueStatus{Queue: Queue{Name: fmt.Sprintf("q%d", i), Weight: weight}})
		}
		for round := range 200 {
			fleet.Queue = nil
			for i := range len(c.weights) * c.devices {
				q := i % len(c.weights)
				fleet.Queue = append(fleet.Queue, Waiter{Since: morning.Add(time.Duration(random.IntN(60)) * time.Second), Request: Request{
					Holder: fmt.Sprintf("r%d-%d", round, i), Run: fmt.Sprintf("r%d-%d", round, i), Role: Rollout, Kind: gpu.GPU, Count: 1,
					Queue: fmt.Sprintf("q%d", q), Priority: 3}})
			}
			for _, d := range Decide(fleet) {
				if d.Placed {
					fleet = granted(fleet, d)
				}
			}
			held := Holdings(fleet.Leases)
			for i, x := range c.weights {
				for j, y := range c.weights {
					first, second := held[fmt.Sprintf("q%d", i)][gpu.GPU], held[fmt.Sprintf("q%d", j)][gpu.GPU]
					if !(x > 0 && y > 0) || math.IsInf(x+y, 1) {
						x, y = 1, 1 // no such weight
					}
					// The queue that is ahead was not when it got its last device.
					if round > 0 && float64(first-1)/x > float64(second)/y+1e-9 {
						t.Fatalf("weights %v, round %d: %v", c.weights, round, held)
					}
				}
			}
			end := random.IntN(len(fleet.Leases))
			fleet.Leases = slices.Delete(fleet.Leases, end, end+1)
		}
	}
}

// oneHost is a host with so many devices without NVLink.
func oneHost(devices int) Snapshot {
	fleet := Snapshot{Now: morning, Agents: []AgentStatus{{Agent: "a", Host: "a", Serves: Capacity{Learner: 1, Rollout: 100}, Computes: []gpu.Kind{gpu.GPU}}}}
	for i := range devices {
		fleet.Devices = append(fleet.Devices, DeviceStatus{Device: gpu.Device{UUID: fmt.Sprintf("GPU-%d", i), Kind: gpu.GPU, Index: i,
			MemoryTotalBytes: 80 * gib}, Host: "a", Agents: []string{"a"}, Health: Healthy})
	}
	return fleet
}

func TestHoldingsCountsDevicesOnce(t *testing.T) {
	lease := func(queue string, devices ...string) Lease {
		return Lease{Request: Request{Queue: queue, Kind: gpu.GPU}, Devices: devices}
	}
	got := Holdings([]Lease{lease("a", "1", "2"), lease("a", "2", "3"), lease("b", "3"), lease("c")})
	if diff := cmp.Diff(map[string]map[gpu.Kind]int{"a": {gpu.GPU: 3}, "b": {gpu.GPU: 1}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
