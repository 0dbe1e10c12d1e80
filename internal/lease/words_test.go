package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// teller is an agent of a story, with what it has and what it told last.
type teller struct {
	Report
	inventory  gpu.Inventory
	conditions map[string]gpu.Condition
	dead       bool
	last       time.Time
	every      time.Duration
	// unclaimed and silent are what it was told last, to write down when that changes.
	unclaimed []int
	silent    time.Duration
}

// report is the next one, with everything when the pool asked for it.
func (a *teller) report(now time.Time) Event {
	a.Number++
	a.last = now
	r := a.Report
	r.Clock = now
	a.Events, a.Inventory, a.Conditions = nil, nil, nil
	return Reported{r}
}

func (a *teller) answer(reply Reply, out *strings.Builder) {
	if reply.Refused != "" {
		fmt.Fprintf(out, "  refused: %s\n", reply.Refused)
		a.dead = true
		return
	}
	if a.silent != 0 && a.silent != reply.SilentAfter {
		fmt.Fprintf(out, "  reports every %s, may be silent for %s\n", reply.Every, reply.SilentAfter)
	}
	a.every, a.silent = reply.Every, reply.SilentAfter
	if reply.Forgot {
		fmt.Fprintf(out, "  asked for everything again\n")
		a.all()
	}
	if !slices.Equal(reply.Unclaimed, a.unclaimed) {
		fmt.Fprintf(out, "  goes on under %v without the pool\n", reply.Unclaimed)
	}
	a.unclaimed = reply.Unclaimed
}

// all makes the next report tell everything.
func (a *teller) all() {
	inventory := a.inventory
	a.Inventory, a.Conditions = &inventory, map[string]gpu.Condition{}
	for uuid, condition := range a.conditions {
		a.Conditions[uuid] = condition
	}
}

// words reads one line of a story.
type words struct {
	t    *testing.T
	line string
	rest []string
}

func (w words) verb() string {
	if len(w.rest) == 0 {
		return ""
	}
	return w.rest[0]
}

// each calls use with every key and value after the first n words; a word without "=" has the value "".
func (w words) each(n int, use func(key, value string)) {
	for _, word := range w.rest[n:] {
		key, value, _ := strings.Cut(word, "=")
		use(key, value)
	}
}

func number(t *testing.T, text string) int64 {
	t.Helper()
	scale := int64(1)
	if digits, is := strings.CutSuffix(text, "G"); is {
		text, scale = digits, 1<<30
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return n * scale
}

func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// event reads one line:
//
//	agent NAME gpus=2 [domain=4] [mig=2] [cpu=64G] [uuids=] [host=] [machine=] [serves=learner:1,rollout:2] [computes=cpu]
//	report NAME [xid=79@UUID] [reloaded] [recovery@UUID] [throttle=thermal@UUID] [gone=why@UUID] [pending@UUID] [clean@UUID] …
//	request HOLDER [role=learner] [gpu=1|cpu=1] [memory=8G] [priority=3] [queue=default] [run=] [above=] [domain]
//	renew HOLDER, release HOLDER [fence=], gone HOLDER, drain UUID by…, undrain UUID by…, queue NAME weight= gpu= cpu=, tick
func (w words) event(s *story) Event {
	w.t.Helper()
	if len(w.rest) < 2 && w.verb() != "tick" {
		w.t.Fatalf("%q names nobody", w.line)
	}
	switch w.verb() {
	case "agent", "report":
		return w.report(s)
	case "request":
		return w.request()
	case "renew":
		return Renewed{s.holders[w.rest[1]]}
	case "release":
		e := Released{Holder: w.rest[1]}
		w.each(2, func(_, value string) { e.Fence = int(number(w.t, value)) })
		return e
	case "gone":
		return HolderGone{Holder: w.rest[1]}
	case "drain":
		return DrainAsked{UUID: w.rest[1], By: strings.Join(w.rest[2:], " ")}
	case "undrain":
		return UndrainAsked{UUID: w.rest[1], By: strings.Join(w.rest[2:], " ")}
	case "queue":
		return w.queue()
	case "tick":
		return Tick{}
	}
	w.t.Fatalf("unknown event %q", w.line)
	return nil
}

func (w words) queue() Event {
	q := Queue{Name: w.rest[1], Weight: 1}
	w.each(2, func(key, value string) {
		if key == "weight" {
			q.Weight = float64(number(w.t, value))
			return
		}
		if q.Quota == nil {
			q.Quota = map[gpu.Kind]int{}
		}
		q.Quota[gpu.Kind(key)] = int(number(w.t, value))
	})
	return QueueSet{q}
}

func (w words) request() Event {
	holder := w.rest[1]
	r := Request{Holder: holder, Run: holder, Role: Learner, Kind: gpu.GPU, Count: 1, MemoryBytes: 8 << 30, Queue: "default", Priority: 3}
	if run, _, is := strings.Cut(holder, "/"); is {
		r.Run = run
	}
	w.each(2, func(key, value string) {
		switch key {
		case "role":
			r.Role = Role(value)
		case "gpu", "cpu":
			r.Kind, r.Count = gpu.Kind(key), int(number(w.t, value))
		case "memory":
			r.MemoryBytes = number(w.t, value)
		case "priority":
			r.Priority = int(number(w.t, value))
		case "queue":
			r.Queue = value
		case "run":
			r.Run = value
		case "above":
			r.Above = int(number(w.t, value))
		case "domain":
			r.OneDomain = true
		default:
			w.t.Fatalf("%q: unknown word %q", w.line, key)
		}
	})
	return Requested{r}
}

func (w words) report(s *story) Event {
	name := w.rest[1]
	a := s.agents[name]
	if a == nil || w.verb() == "agent" {
		told := 0
		if a != nil {
			told = a.Number
		}
		a = &teller{conditions: map[string]gpu.Condition{}, every: s.policy.ReportEvery,
			Report: Report{Agent: name, Session: name + "-1", Number: told, Host: name, Machine: "m-" + name, Boot: "b1",
				Serves: Capacity{Learner: 8, Rollout: 8, Evaluate: 8}, Computes: []gpu.Kind{gpu.CPU, gpu.GPU}}}
		s.agents[name] = a
	}
	clock := s.now
	gpus, domain, mig, cpu, uuids := 0, 0, 0, int64(0), ""
	w.each(2, func(key, value string) {
		switch key {
		case "gpus":
			gpus = int(number(w.t, value))
		case "domain":
			domain = int(number(w.t, value))
		case "mig":
			mig = int(number(w.t, value))
		case "cpu":
			cpu = number(w.t, value)
		case "uuids": // else they are named after the host
			uuids = value
		case "clock":
			clock = s.now.Add(duration(w.t, value))
		default:
			word, uuid, _ := strings.Cut(strings.TrimSuffix(key+"="+value, "="), "@")
			key, value, _ := strings.Cut(word, "=")
			w.saysOf(a, key, value, uuid, s.now)
		}
	})
	if w.verb() == "agent" {
		a.inventory = splitInto(mig, fleetOf(cmp.Or(uuids, a.Host), gpus, domain, cpu))
		a.all()
	}
	e := a.report(s.now).(Reported)
	e.Report.Clock = clock
	e.Report.Leaving = w.has("leaving")
	a.dead = e.Report.Leaving
	return e
}

// splitInto puts so many MIG instances in the place of each GPU; with 0 the GPUs stay whole.
func splitInto(parts int, whole gpu.Inventory) gpu.Inventory {
	if parts == 0 {
		return whole
	}
	split := gpu.Inventory{Driver: whole.Driver}
	for _, d := range whole.Devices {
		if d.Kind != gpu.GPU {
			split.Devices = append(split.Devices, d)
			continue
		}
		for i := range parts {
			part := d
			part.UUID, part.Parent, part.Domain = fmt.Sprintf("MIG-%s-%d", strings.TrimPrefix(d.UUID, "GPU-"), i), d.UUID, ""
			part.MemoryTotalBytes /= int64(parts)
			split.Devices = append(split.Devices, part)
		}
	}
	return split
}

// fleetOf is the inventory of a machine; domain is how many devices an NVLink domain has.
func fleetOf(host string, gpus, domain int, cpu int64) gpu.Inventory {
	inventory := gpu.Inventory{Driver: "570", Devices: []gpu.Device{}}
	for i := range gpus {
		d := gpu.Device{UUID: fmt.Sprintf("GPU-%s-%d", host, i), Kind: gpu.GPU, Name: "H200", Index: i, MemoryTotalBytes: 141 << 30, PCI: fmt.Sprintf("0000:%02x", i)}
		if domain > 0 {
			d.Domain = fmt.Sprintf("nvlink-%d", i/domain)
		}
		inventory.Devices = append(inventory.Devices, d)
	}
	if gpus == 0 {
		inventory.Driver, inventory.Reason = "", gpu.NoDriver
	}
	if cpu > 0 {
		inventory.Devices = append(inventory.Devices, gpu.Device{UUID: "CPU-" + host, Kind: gpu.CPU, Name: "processor", MemoryTotalBytes: cpu})
	}
	return inventory
}

// saysOf puts one word of a report into it.
func (w words) saysOf(a *teller, key, value, uuid string, now time.Time) {
	w.t.Helper()
	condition := a.conditions[uuid]
	switch key {
	case "host":
		a.Host = value
	case "machine":
		a.Machine = value
	case "session":
		a.Session, a.Number = value, 0
		a.all()
	case "number":
		a.Number = int(number(w.t, value)) - 1
	case "boot":
		a.Boot = value
	case "computes":
		a.Computes = []gpu.Kind{gpu.Kind(value)}
	case "serves":
		a.Serves = Capacity{}
		for _, part := range strings.Split(value, ",") {
			role, slots, _ := strings.Cut(part, ":")
			*map[string]*int{"learner": &a.Serves.Learner, "rollout": &a.Serves.Rollout, "evaluate": &a.Serves.Evaluate}[role] = int(number(w.t, slots))
		}
	case "held":
		a.Held = nil
		for _, part := range strings.Split(value, ",") {
			a.Held = append(a.Held, int(number(w.t, part)))
		}
	case "without": // a device vanishes from the inventory
		var left []gpu.Device
		for _, d := range a.inventory.Devices {
			if d.UUID != value {
				left = append(left, d)
			}
		}
		a.inventory.Devices = left
		a.all()
	case "all":
		a.all()
	case "bare":
		a.Inventory, a.Conditions = nil, nil
	case "leaving":
	case "xid":
		a.Events = append(a.Events, gpu.Event{UUID: uuid, At: now, Xid: int(number(w.t, value)), Kind: gpu.XidEvent})
	case "ecc":
		a.Events = append(a.Events, gpu.Event{UUID: uuid, At: now, Kind: gpu.DoubleBitECC})
	case "reloaded":
		a.Events = append(a.Events, gpu.Event{UUID: uuid, At: now, Kind: gpu.Reloaded})
	default:
		w.condition(&condition, key, value)
		a.conditions[uuid] = condition
		if a.Conditions == nil {
			a.Conditions = map[string]gpu.Condition{}
		}
		a.Conditions[uuid] = condition
	}
}

func (w words) condition(c *gpu.Condition, key, value string) {
	switch key {
	case "clean":
		*c = gpu.Condition{}
	case "throttle":
		c.Throttle = []gpu.Throttle{gpu.Throttle(value)}
	case "cool":
		c.Throttle = nil
	case "uncorrected":
		c.Uncorrected = number(w.t, value)
	case "pending":
		c.RemapPending = true
	case "failed":
		c.RemapFailed = true
	case "recovery":
		c.Recovery = gpu.Recovery(value)
	case "gone":
		*c = gpu.Condition{Gone: value}
	case "foreign":
		c.ForeignBytes = number(w.t, value)
	default:
		w.t.Fatalf("%q: unknown word %q", w.line, key)
	}
}
