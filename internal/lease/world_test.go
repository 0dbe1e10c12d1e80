package lease

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// world is everything outside the pool: machines with agents that come, go and lie, and holders.
type world struct {
	policy  Policy
	pool    *Pool
	now     time.Time
	agents  []*actor
	holders map[string]*holder
	// fences is the largest fence granted on each device in this history of the pool, heard the largest
	// that the pool was told of or gave.
	fences map[string]int
	heard  int
	told   map[string]News // the last news of each holder
	// toldAt is when each holder was told last why it waits, begun when a fault made its work begin again.
	toldAt, begun map[string]time.Time
}

// actor is an agent of a machine.
type actor struct {
	Report
	devices, original []gpu.Device
	conditions        map[string]gpu.Condition
	all               bool // the next report tells everything
	sent              []Report
}

// holder asks for leases.
type holder struct {
	request Request
	// asked is true while it has a request or a lease; lease is what it was granted last.
	asked bool
	lease *Lease
}

var worldHolders = []string{"r1", "r1/pool/0", "r1/evaluation/1", "r2", "r2/pool/0", "r3", "r3/pool/0", "r4"}

func newWorld(t *rapid.T) *world {
	policy := DefaultPolicy()
	policy.Restarts = rapid.IntRange(0, 3).Draw(t, "restarts")
	if rapid.Bool().Draw(t, "short") { // so that deadlines come while agents are heard
		policy.TTL, policy.YieldWithin, policy.Quiet, policy.QuietMost, policy.Calm = 30*time.Second, 20*time.Second, 40*time.Second, 2*time.Minute, 30*time.Second
	}
	w := &world{policy: policy, pool: New(policy), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), holders: map[string]*holder{}, fences: map[string]int{}, told: map[string]News{},
		toldAt: map[string]time.Time{}, begun: map[string]time.Time{}}
	for i := range rapid.IntRange(1, 2).Draw(t, "machines") {
		host := fmt.Sprintf("h%d", i)
		devices := fleetOf(host, rapid.SampledFrom([]int{1, 2, 3, 0}).Draw(t, "gpus"), rapid.SampledFrom([]int{0, 2}).Draw(t, "domain"), 64<<30).Devices
		for j := range rapid.IntRange(1, 2).Draw(t, "agents") {
			w.agents = append(w.agents, &actor{devices: devices, original: devices, conditions: map[string]gpu.Condition{}, all: true,
				Report: Report{Agent: fmt.Sprintf("%s-%d", host, j), Session: "1", Host: host, Machine: "m-" + host, Boot: "b1",
					Serves: Capacity{Learner: 1, Rollout: 2, Evaluate: 1}, Computes: []gpu.Kind{gpu.CPU, gpu.GPU}}})
		}
	}
	return w
}

// event feeds an event to the pool, and to a copy of it that comes out of JSON: both must agree. A second
// look at the same moment finds nothing to do.
func (w *world) event(t *rapid.T, event Event) {
	state := w.pool.State()
	back := roundTrip(t, state)
	if !reflect.DeepEqual(back, state) {
		t.Fatalf("from JSON comes\n%+v\nfor\n%+v", back, state)
	}
	copied := Restore(w.policy, back)
	commands := w.pool.Step(w.now, event)
	if again := copied.Step(w.now, event); !reflect.DeepEqual(commands, again) {
		t.Fatalf("%#v:\n     pool: %v\nfrom JSON: %v", event, commands, again)
	}
	if r, is := event.(Reported); is && !reflect.DeepEqual(w.pool.Reply(r.Report.Agent), copied.Reply(r.Report.Agent)) {
		t.Fatalf("the reply differs: %+v and %+v", w.pool.Reply(r.Report.Agent), copied.Reply(r.Report.Agent))
	}
	for _, command := range commands {
		if tell, is := command.(Tell); is {
			w.patience(t, event, tell)
			w.hear(t, tell)
		}
		if text := describe(command); strings.Contains(text, "\n") {
			t.Fatalf("more than a line: %q", text)
		}
	}
	w.look(t)
	w.fresh(t)
	before := w.pool.State()
	if more := w.pool.Step(w.now, Tick{}); len(more) > 0 {
		t.Fatalf("after %#v a tick at once brings %v", event, more)
	}
	if after := w.pool.State(); !reflect.DeepEqual(before, after) {
		t.Fatalf("after %#v a tick at once changes\n%+v\nto\n%+v", event, before, after)
	}
	if wake := w.pool.Wake(w.now); !wake.IsZero() && !wake.After(w.now) {
		t.Fatalf("wants to be woken at %s, at %s", wake, w.now)
	}
}

// patience checks that a holder that waits is not told why again and again.
func (w *world) patience(t *rapid.T, event Event, tell Tell) {
	if tell.News.Kind != Waiting {
		return
	}
	before := w.told[tell.Holder]
	soon := before.Kind == Waiting && before.Never == tell.News.Never && w.now.Sub(w.toldAt[tell.Holder]) < tellAgain
	if asks, is := event.(Requested); is && asks.Request.Holder == tell.Holder {
		return
	}
	if soon || reflect.DeepEqual(before, tell.News) {
		t.Fatalf("after %#v %s is told %+v, and was told %+v at %s", event, tell.Holder, tell.News, before, w.toldAt[tell.Holder])
	}
}

// fresh checks that, when something has changed, no holder goes by a reason that it was told a while ago.
func (w *world) fresh(t *rapid.T) {
	for _, waiting := range w.pool.State().Waiting {
		if w.pool.changed && w.told[waiting.Holder].Reason != waiting.Reason && w.now.Sub(w.toldAt[waiting.Holder]) >= tellAgain {
			t.Fatalf("%+v was told %+v at %s", waiting, w.told[waiting.Holder], w.toldAt[waiting.Holder])
		}
	}
}

// hear checks what a holder is told, and lets it know.
func (w *world) hear(t *rapid.T, tell Tell) {
	n, h := tell.News, w.holders[tell.Holder]
	switch n.Kind {
	case Granted:
		w.granted(t, tell.Holder, *n.Lease)
		w.restarted(t, tell.Holder, n.Reason)
	case Waiting:
		w.toldAt[tell.Holder] = w.now
		if n.Reason == "" || h == nil || !h.asked {
			t.Fatalf("%s is told %+v", tell.Holder, n)
		}
	case Yield:
		if n.Reason == "" || n.Fence == 0 {
			t.Fatalf("%s is told %+v", tell.Holder, n)
		}
	case Revoked:
		if n.Reason == "" || n.Fence == 0 || h == nil {
			t.Fatalf("%s is told %+v", tell.Holder, n)
		}
		if h.lease != nil && n.Fence == h.lease.Fence {
			h.lease, h.asked = nil, w.has(tell.Holder)
		}
	}
	w.told[tell.Holder] = n
}

// has says whether the pool has anything of a holder.
func (w *world) has(name string) bool {
	s := &w.pool.state
	return s.held(name) != nil || s.waiting(name) >= 0 || slices.ContainsFunc(s.Claims, func(c Claim) bool { return c.Lease.Holder == name })
}

func (w *world) granted(t *rapid.T, name string, l Lease) {
	h := w.holders[name]
	if h == nil || !h.asked || l.Holder != name || len(l.Devices) != l.Count || l.Fence <= h.request.Above && h.lease == nil {
		t.Fatalf("%s is granted %+v, it is %+v", name, l, h)
	}
	again := h.lease != nil && h.lease.Fence == l.Fence
	if !again && l.Fence <= w.heard {
		t.Fatalf("%s is granted fence %d after %d", name, l.Fence, w.heard)
	}
	for _, uuid := range l.Devices {
		if !again && l.Fence <= w.fences[uuid] {
			t.Fatalf("%s is granted fence %d on %s after %d", name, l.Fence, uuid, w.fences[uuid])
		}
		w.fences[uuid] = max(w.fences[uuid], l.Fence)
	}
	w.heard = max(w.heard, l.Fence)
	h.lease = &l
}

// restarted checks that one crash begins the work of a lease again once, however many of its devices tell of it.
func (w *world) restarted(t *rapid.T, name, reason string) {
	begun, again := w.begun[name]
	switch {
	case reason == "":
		delete(w.begun, name)
	case again && w.now.Sub(begun) < crash:
		t.Fatalf("%s begins again after it began again at %s: %s", name, begun, reason)
	default:
		w.begun[name] = w.now
	}
}

// look checks what holds at any time.
func (w *world) look(t *rapid.T) {
	view := w.pool.Snapshot(w.now)
	agents := map[string]AgentStatus{}
	for _, a := range view.Agents {
		agents[a.Agent] = a
	}
	leases := map[int]Lease{}
	serving := map[string]int{}
	for i, l := range view.Leases {
		a, known := agents[l.Agent]
		if !known || a.Silent || a.Host != l.Host || i > 0 && view.Leases[i-1].Fence >= l.Fence || l.Fence > view.Fence || len(l.Devices) != l.Count {
			t.Fatalf("lease %+v of agent %+v among %+v", l, a, view.Leases)
		}
		if !l.Expires.After(w.now) || l.Yield != "" && !l.Deadline.After(w.now) {
			t.Fatalf("lease %+v should have ended at %s", l, w.now)
		}
		leases[l.Fence] = l
		key := l.Agent + string(l.Role)
		if serving[key]++; serving[key] > w.pool.state.agent(l.Agent).slots(l.Role) {
			t.Fatalf("agent %s serves %d of %s", l.Agent, serving[key], l.Role)
		}
	}
	for _, d := range view.Devices {
		w.lookAt(t, d, leases)
	}
	w.lookAtQueue(t, view)
}

// lookAt checks a device: what is on it belongs to one run, fits, and is where it may be.
func (w *world) lookAt(t *rapid.T, d DeviceStatus, leases map[int]Lease) {
	var claimed int64
	runs := map[string]bool{}
	for _, fence := range d.Leases {
		l, there := leases[fence]
		if !there || !slices.Contains(l.Devices, d.UUID) || !slices.Contains(d.Agents, l.Agent) || l.Kind != d.Kind {
			t.Fatalf("lease %d is on %+v: %+v", fence, d, l)
		}
		if d.Health.rank() > Draining.rank() || d.NoTrainers && trains(l.Request) {
			t.Fatalf("lease %+v is on %+v", l, d)
		}
		runs[l.Run] = true
		claimed += l.MemoryBytes
	}
	if d.Kind == gpu.GPU && len(runs) > 1 || claimed != d.LeasedBytes || claimed > d.MemoryTotalBytes {
		t.Fatalf("%+v is leased to %v", d, runs)
	}
	if (d.Health == Healthy) != (d.Why == "") || d.Health == "" || strings.Contains(d.Why, "\n") || (d.Health == Silent) != (len(d.Agents) == 0) {
		t.Fatalf("%s is %s by %v: %q", d.UUID, d.Health, d.Agents, d.Why)
	}
}

// lookAtQueue checks that nobody is forgotten, and that everybody who waits knows why.
func (w *world) lookAtQueue(t *rapid.T, view Snapshot) {
	for _, waiter := range view.Queue {
		news := w.told[waiter.Holder]
		if waiter.Reason == "" || strings.Contains(waiter.Reason, "\n") || news.Kind != Waiting || news.Never != waiter.Never {
			t.Fatalf("%+v waits and was told %+v", waiter, news)
		}
	}
	for name, h := range w.holders {
		if l := w.pool.state.held(name); l != nil && (h.lease == nil || h.lease.Fence != l.Fence) {
			t.Fatalf("%s does not know of its lease %+v, it knows %+v", name, l, h.lease)
		}
		if h.asked != w.has(name) {
			t.Fatalf("%s: asked %v, and the pool has %+v", name, h.asked, view)
		}
	}
	for _, q := range view.Queues {
		for kind, n := range q.Holds {
			if n <= 0 || kind == "" {
				t.Fatalf("queue %+v", q)
			}
		}
	}
}
