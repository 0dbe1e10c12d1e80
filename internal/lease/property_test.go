package lease

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// TestPromises plays random worlds against the pool: agents come, go, sleep, lie about clocks, repeat reports
// and send them late, take over each other's names and devices; devices fail, recover and vanish; holders
// ask, renew, give back and disappear; people drain; the pool sleeps, continues as new and loses its history.
// Whatever happens, the promises that world checks hold, and in the end everybody gets a place who can.
func TestPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		if rapid.IntRange(0, 3).Draw(t, "begins") > 0 { // else with nobody known
			w.allTell(t)
			w.scramble(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"":         func(t *rapid.T) { w.look(t) },
			"report":   w.report,
			"beat":     w.beat,
			"late":     w.late,
			"restart":  w.restart,
			"rival":    w.rival,
			"leave":    w.leave,
			"fail":     w.fail,
			"crash":    w.crash,
			"worsen":   w.worsen,
			"heal":     w.heal,
			"vanish":   w.vanish,
			"request":  w.request,
			"scramble": w.scramble,
			"renew":    w.renew,
			"release":  w.release,
			"gone":     w.gone,
			"drain":    w.drain,
			"undrain":  w.undrain,
			"queue":    w.queue,
			"tick":     w.tick,
			"wake":     w.wake,
			"continue": func(t *rapid.T) { w.pool = Restore(w.policy, roundTrip(t, w.pool.State())) },
			"lose":     w.lose,
			"take up":  w.takeUp,
		})
		w.recover(t)
	})
}

func (w *world) some(t *rapid.T) *actor { return rapid.SampledFrom(w.agents).Draw(t, "agent") }

func (w *world) device(t *rapid.T) string {
	var uuids []string
	for _, a := range w.agents {
		for _, d := range a.devices {
			uuids = append(uuids, d.UUID)
		}
	}
	return rapid.SampledFrom(append(uuids, "", "GPU-nobody")).Draw(t, "device")
}

// tell sends the next report of an agent.
func (w *world) tell(t *rapid.T, a *actor) {
	r := w.compose(a)
	r.Clock = w.now.Add(time.Duration(rapid.IntRange(-4000, 4000).Draw(t, "clock")) * time.Second)
	for _, name := range sortedKeys(w.holders) {
		if h := w.holders[name]; h.lease != nil && h.lease.Agent == a.Agent && rapid.Bool().Draw(t, "works") {
			r.Held = append(r.Held, h.lease.Fence)
			if w.pool.refuses(r) == "" {
				w.heard = max(w.heard, h.lease.Fence)
			}
		}
	}
	slices.Sort(r.Held)
	w.send(t, a, r)
}

// compose is the next report of an agent, without what draws have to decide.
func (w *world) compose(a *actor) Report {
	a.Number++
	r := a.Report
	r.Clock = w.now
	if a.all {
		r.Inventory = &gpu.Inventory{Devices: slices.Clone(a.devices)}
		r.Conditions = map[string]gpu.Condition{}
		for uuid, condition := range a.conditions {
			r.Conditions[uuid] = condition
		}
	}
	a.Events, a.Conditions = nil, nil
	return r
}

func (w *world) send(t *rapid.T, a *actor, r Report) {
	a.sent = append(a.sent, r)
	w.event(t, Reported{r})
	reply := w.pool.Reply(r.Agent)
	if reply.Refused == "" {
		a.all = reply.Forgot
	}
	if reply.Every <= 0 || reply.SilentAfter < 3*reply.Every {
		t.Fatalf("reply %+v", reply)
	}
}

func (w *world) report(t *rapid.T) { w.tell(t, w.some(t)) }

// beat is what a sound fleet does: everybody reports.
func (w *world) beat(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.IntRange(0, 10).Draw(t, "seconds")) * time.Second)
	for _, a := range w.agents {
		w.tell(t, a)
	}
}

// late is a report that comes a second time, or after later ones.
func (w *world) late(t *rapid.T) {
	a := w.some(t)
	if len(a.sent) > 0 {
		w.event(t, Reported{rapid.SampledFrom(a.sent).Draw(t, "report")})
	}
}

// restart begins a new life of an agent's process, or boots its machine.
func (w *world) restart(t *rapid.T) {
	a := w.some(t)
	a.Session, a.Number, a.all = a.Session+"'", 0, true
	if rapid.Bool().Draw(t, "boot") {
		a.Boot += "'"
		a.conditions = map[string]gpu.Condition{}
	}
	w.tell(t, a)
}

// rival is an agent of another machine with the same name, and perhaps the same devices.
func (w *world) rival(t *rapid.T) {
	a := w.some(t)
	r := a.Report
	r.Session, r.Machine, r.Host, r.Number = "rival", "m-rival", "rival", a.Number+1
	r.Inventory = &gpu.Inventory{Devices: slices.Clone(a.devices)}
	if rapid.Bool().Draw(t, "other name") {
		r.Agent = "rival"
	}
	w.event(t, Reported{r})
}

func (w *world) leave(t *rapid.T) {
	a := w.some(t)
	a.Number++
	r := a.Report
	r.Leaving = true
	a.Session, a.Number, a.all = a.Session+"'", 0, true
	w.event(t, Reported{r})
}

func (w *world) fail(t *rapid.T) {
	a := w.some(t)
	xid := rapid.SampledFrom([]int{8, 13, 31, 46, 48, 63, 64, 74, 79, 94, 95, 119, 154, 999}).Draw(t, "xid")
	kind := rapid.SampledFrom([]gpu.EventKind{gpu.XidEvent, gpu.XidEvent, gpu.DoubleBitECC, gpu.Reloaded, gpu.RecoveryEvent}).Draw(t, "kind")
	a.Events = append(a.Events, gpu.Event{UUID: w.device(t), At: w.now, Xid: xid, Kind: kind})
	w.tell(t, a)
}

// crash ends a program on all devices of a machine, of which each tells.
func (w *world) crash(t *rapid.T) {
	a := w.some(t)
	for _, d := range a.devices {
		a.Events = append(a.Events, gpu.Event{UUID: d.UUID, At: w.now, Xid: 31, Kind: gpu.XidEvent})
	}
	w.tell(t, a)
}

func (w *world) worsen(t *rapid.T) {
	a := w.some(t)
	if len(a.devices) == 0 {
		return
	}
	uuid := rapid.SampledFrom(a.devices).Draw(t, "device").UUID
	c := rapid.SampledFrom([]gpu.Condition{{Throttle: []gpu.Throttle{gpu.ThrottleThermal}}, {Uncorrected: 1}, {Uncorrected: 2}, {RemapPending: true},
		{RemapFailed: true}, {Recovery: gpu.RecoverReset}, {Recovery: gpu.RecoverReboot}, {Recovery: gpu.RecoverDrain},
		{Recovery: gpu.RecoverDrainAndReset}, {Gone: "lost"}, {ForeignBytes: 60 << 30}, {}}).Draw(t, "condition")
	a.conditions[uuid] = c
	a.Conditions = map[string]gpu.Condition{uuid: c}
	w.tell(t, a)
}

func (w *world) heal(t *rapid.T) {
	a := w.some(t)
	a.conditions, a.Conditions = map[string]gpu.Condition{}, map[string]gpu.Condition{}
	for _, d := range a.devices {
		a.conditions[d.UUID], a.Conditions[d.UUID] = gpu.Condition{}, gpu.Condition{}
	}
	a.Events = append(a.Events, gpu.Event{Kind: gpu.Reloaded, At: w.now})
	w.tell(t, a)
}

// vanish takes a device out of an agent's inventory, or puts one there, perhaps another machine's.
func (w *world) vanish(t *rapid.T) {
	a, from := w.some(t), w.some(t)
	if len(a.devices) > 0 && rapid.Bool().Draw(t, "out") {
		a.devices = slices.Delete(slices.Clone(a.devices), 0, 1)
	} else if len(from.devices) > 0 {
		d := from.devices[0]
		if !slices.ContainsFunc(a.devices, func(other gpu.Device) bool { return other.UUID == d.UUID }) {
			a.devices = append(slices.Clone(a.devices), d)
		}
	}
	a.all = true
	w.tell(t, a)
}

func (w *world) request(t *rapid.T) {
	name := rapid.SampledFrom(worldHolders).Draw(t, "holder")
	h := w.holders[name]
	if h == nil {
		h = &holder{}
		w.holders[name] = h
	}
	if h.request.Holder == "" || !rapid.Bool().Draw(t, "same again") {
		h.request = Request{Holder: name, Run: name[:2], Role: rapid.SampledFrom([]Role{Learner, Rollout, Evaluate}).Draw(t, "role"),
			Kind: rapid.SampledFrom([]gpu.Kind{gpu.GPU, gpu.GPU, gpu.GPU, gpu.CPU}).Draw(t, "kind"), Count: rapid.SampledFrom([]int{1, 1, 1, 1, 1, 2, 2, 3, 0, 9}).Draw(t, "count"),
			OneDomain: rapid.IntRange(0, 3).Draw(t, "domain") == 0, MemoryBytes: int64(rapid.SampledFrom([]int{8, 8, 30, 30, 100, 500}).Draw(t, "memory")) << 30,
			Queue: rapid.SampledFrom([]string{"default", "team"}).Draw(t, "queue"), Priority: rapid.IntRange(1, 5).Draw(t, "priority")}
	}
	h.request.Above = rapid.SampledFrom([]int{0, 0, w.pool.state.Fence, w.pool.state.Fence + 3}).Draw(t, "above")
	h.asked = true
	if l := w.pool.state.held(name); l == nil || !sameNeed(l.Request, h.request) {
		h.lease = nil
	}
	w.event(t, Requested{h.request})
}

// scramble lets several ask, of which the devices are not enough for all.
func (w *world) scramble(t *rapid.T) {
	for range rapid.IntRange(2, 5).Draw(t, "requests") {
		w.request(t)
	}
}

// renew renews what a holder was granted last, even if it has lost it since.
func (w *world) renew(t *rapid.T) {
	name := rapid.SampledFrom(worldHolders).Draw(t, "holder")
	h := w.holders[name]
	if h == nil || h.lease == nil {
		return
	}
	w.heard = max(w.heard, h.lease.Fence)
	h.asked = true
	w.event(t, Renewed{*h.lease})
}

func (w *world) release(t *rapid.T) {
	name := rapid.SampledFrom(worldHolders).Draw(t, "holder")
	h := w.holders[name]
	if h == nil {
		w.event(t, Released{Holder: name})
		return
	}
	fence := 0
	if h.lease != nil && rapid.Bool().Draw(t, "fence") {
		fence = h.lease.Fence - rapid.IntRange(0, 1).Draw(t, "older")
	}
	w.ends(t, name, Released{Holder: name, Fence: fence})
}

func (w *world) gone(t *rapid.T) {
	name := rapid.SampledFrom(worldHolders).Draw(t, "holder")
	w.ends(t, name, HolderGone{Holder: name})
	if w.has(name) {
		t.Fatalf("%s is gone, and the pool keeps %+v", name, w.pool.State())
	}
}

// ends feeds an event after which the holder may have nothing any more, without being told.
func (w *world) ends(t *rapid.T, name string, event Event) {
	if h := w.holders[name]; h != nil {
		copied := Restore(w.policy, w.pool.State())
		copied.Step(w.now, event)
		was := w.pool
		w.pool = copied
		h.asked = w.has(name)
		claimed := slices.ContainsFunc(copied.state.Claims, func(c Claim) bool { return c.Lease.Holder == name })
		if copied.state.held(name) == nil && !claimed {
			h.lease = nil
		}
		w.pool = was
	}
	w.event(t, event)
}

func (w *world) drain(t *rapid.T)   { w.event(t, DrainAsked{UUID: w.device(t), By: "a person"}) }
func (w *world) undrain(t *rapid.T) { w.event(t, UndrainAsked{UUID: w.device(t), By: "a person"}) }

func (w *world) queue(t *rapid.T) {
	q := Queue{Name: "team", Weight: float64(rapid.IntRange(0, 3).Draw(t, "weight"))}
	if rapid.Bool().Draw(t, "bounded") {
		q.Quota = map[gpu.Kind]int{gpu.GPU: rapid.IntRange(0, 3).Draw(t, "quota")}
	}
	w.event(t, QueueSet{q})
}

func (w *world) tick(t *rapid.T) {
	w.now = w.now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(t, "seconds")) * time.Second)
	w.event(t, Tick{})
}

// wake wakes the pool when it asked to be, or a little later.
func (w *world) wake(t *rapid.T) {
	if wake := w.pool.Wake(w.now); !wake.IsZero() {
		w.now = wake.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "late")) * time.Second)
		w.event(t, Tick{})
	}
}

// lose forgets the pool's history. Whoever waits has to ask again, as holders do that hear nothing.
func (w *world) lose(t *rapid.T) {
	w.pool = New(w.policy)
	w.fences, w.told, w.heard = map[string]int{}, map[string]News{}, 0
	w.toldAt, w.begun = map[string]time.Time{}, map[string]time.Time{}
	for _, h := range w.holders {
		h.asked = false
	}
	for _, a := range w.agents {
		a.sent = nil
	}
}

// takeUp loses the pool's history while everybody goes on: agents report, somebody asks, holders renew.
func (w *world) takeUp(t *rapid.T) {
	w.lose(t)
	for range 2 {
		for _, a := range w.agents {
			w.send(t, a, w.compose(a))
		}
	}
	w.request(t)
	for _, name := range sortedKeys(w.holders) {
		if h := w.holders[name]; h.lease != nil {
			w.heard = max(w.heard, h.lease.Fence)
			h.asked = true
			w.event(t, Renewed{*h.lease})
		}
	}
}

// recover makes everything sound, and expects that everybody who can gets a place in their turn.
func (w *world) recover(t *rapid.T) {
	w.event(t, QueueSet{Queue{Name: "team", Weight: 1}})
	for _, a := range w.agents {
		a.devices, a.conditions = a.original, map[string]gpu.Condition{}
		for _, d := range a.devices {
			a.conditions[d.UUID] = gpu.Condition{}
		}
		a.Session, a.Number, a.all = a.Session+"'", 0, true
	}
	for range 70 { // until the pool is no longer young
		w.allTell(t)
		for _, d := range w.pool.Snapshot(w.now).Devices {
			if len(d.Agents) > 0 && d.Health != Healthy {
				w.event(t, UndrainAsked{UUID: d.UUID})
			}
		}
	}
	for range len(worldHolders) + 1 {
		w.allTell(t)
		for _, l := range w.pool.Snapshot(w.now).Leases {
			w.ends(t, l.Holder, Released{Holder: l.Holder, Fence: l.Fence})
		}
	}
	for _, waiter := range w.pool.Snapshot(w.now).Queue {
		if !waiter.Never {
			t.Fatalf("%+v waits for ever in %+v", waiter, w.pool.Snapshot(w.now))
		}
	}
	w.calm(t)
}

func (w *world) allTell(t *rapid.T) {
	w.now = w.now.Add(5 * time.Second)
	for _, a := range w.agents {
		w.send(t, a, w.compose(a))
	}
}

// calm lets everybody fall silent: the pool wakes a bounded number of times and then never again.
func (w *world) calm(t *rapid.T) {
	for range 200 {
		wake := w.pool.Wake(w.now)
		if wake.IsZero() {
			if s := w.pool.State(); len(s.Leases)+len(s.Claims)+len(s.Agents) > 0 {
				t.Fatalf("nobody is heard, and the pool keeps %+v", s)
			}
			return
		}
		w.now = wake
		w.event(t, Tick{})
	}
	t.Fatalf("the pool does not come to rest: %+v", w.pool.State())
}
