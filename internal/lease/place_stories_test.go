package lease

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// TestPlacementStories plays the scripts of testdata/place: fleets and requests in, places and reasons out.
// `go test -rewrite` accepts what placement decides.
//
//	fleet
//	host a gpu=4x80@n0 gpu=2x80 cpu=256 learner=1 rollout=4
//
// makes a host with six devices GPU-a0 to GPU-a5 of 80 GiB, of which four are in the NVLink domain n0, a
// processor CPU-a, and an agent a. More lines say what is amiss, and who has what; see [placeStory.line].
//
//	place
//	run-1/learner learner 4 gpu 60 domain priority=1
//
// says where each request would go by itself, and `decide` walks over all of them and those that wait already,
// and carries out what it decides; victims yield. `end HOLDER...` ends leases, and takes requests back.
func TestPlacementStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/place/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("stories: %d files, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			story := &placeStory{t: t}
			datadriven.RunTest(t, path, story.run)
		})
	}
}

type placeStory struct {
	t     *testing.T
	fleet Snapshot
}

func (s *placeStory) run(t *testing.T, d *datadriven.TestData) string {
	s.t = t
	var out strings.Builder
	switch d.Cmd {
	case "fleet":
		s.fleet = Snapshot{Now: morning}
		for line := range strings.Lines(d.Input) {
			s.line(strings.Fields(line))
		}
	case "change":
		for line := range strings.Lines(d.Input) {
			s.line(strings.Fields(line))
		}
	case "place":
		for line := range strings.Lines(d.Input) {
			d := Decision{Waiter: Waiter{Request: s.request(strings.Fields(line))}}
			d.Placement, d.Placed, d.Reason, d.Never = Place(s.fleet, d.Waiter.Request)
			fmt.Fprintln(&out, s.told(d))
		}
	case "decide":
		for line := range strings.Lines(d.Input) {
			s.fleet.Now = s.fleet.Now.Add(time.Second)
			s.fleet.Queue = append(s.fleet.Queue, Waiter{Request: s.request(strings.Fields(line)), Since: s.fleet.Now})
		}
		s.decide(&out)
	case "end":
		for _, arg := range d.CmdArgs {
			s.fleet.Leases = slices.DeleteFunc(s.fleet.Leases, func(l Lease) bool { return l.Holder == arg.Key })
			s.fleet.Queue = slices.DeleteFunc(s.fleet.Queue, func(w Waiter) bool { return w.Holder == arg.Key })
		}
		s.decide(&out)
	default:
		t.Fatalf("%s: unknown directive %q", d.Pos, d.Cmd)
	}
	return out.String()
}

// decide walks over what waits and carries it out.
func (s *placeStory) decide(out *strings.Builder) {
	for _, d := range Decide(s.fleet) {
		fmt.Fprintln(out, s.told(d))
		if d.Placed {
			s.fleet = granted(s.fleet, d)
		}
		for i, l := range s.fleet.Leases {
			if slices.Contains(d.Placement.Victims, l.Fence) {
				s.fleet.Leases[i].Yield = "for " + d.Waiter.Holder
			}
		}
	}
}

func (s *placeStory) told(d Decision) string {
	var victims []string
	for _, l := range s.fleet.Leases {
		if slices.Contains(d.Placement.Victims, l.Fence) {
			victims = append(victims, l.Holder)
		}
	}
	slices.Sort(victims)
	at := fmt.Sprintf("%s on %s", strings.Join(d.Placement.Devices, " "), d.Placement.Agent)
	switch {
	case d.Placed:
		return fmt.Sprintf("%s: %s", d.Waiter.Holder, at)
	case d.Never:
		return fmt.Sprintf("%s: never: %s", d.Waiter.Holder, d.Reason)
	case len(victims) > 0:
		return fmt.Sprintf("%s: %s after %s: %s", d.Waiter.Holder, at, strings.Join(victims, ", "), d.Reason)
	}
	return fmt.Sprintf("%s: waits: %s", d.Waiter.Holder, d.Reason)
}

// line changes the fleet:
//
//	host NAME gpu=NxGIB[@DOMAIN] cpu=GIB learner=N rollout=N evaluate=N computes=cpu,gpu note=WHY
//	agent NAME HOST             another agent on a host, with the slots of the first
//	mig UUID NxGIB              splits a device into instances MIG-...
//	rename UUID UUID
//	health UUID HEALTH WHY      also several UUIDs with commas
//	notrainers UUID WHY
//	faults UUID N
//	foreign UUID GIB
//	silent AGENT
//	queue NAME weight=N gpu=N cpu=N
//	lease HOLDER ROLE UUID,UUID GIB AGENT priority=N queue=NAME yields since=SECONDS
func (s *placeStory) line(w []string) {
	if len(w) == 0 {
		return
	}
	keys := func(from int, use func(key, value string)) {
		for _, word := range w[from:] {
			key, value, _ := strings.Cut(word, "=")
			use(key, value)
		}
	}
	switch w[0] {
	case "host":
		s.host(w[1], keys)
	case "agent":
		a := s.fleet.Agents[slices.IndexFunc(s.fleet.Agents, func(a AgentStatus) bool { return a.Host == w[2] })]
		a.Agent = w[1]
		s.fleet.Agents = append(s.fleet.Agents, a)
		for i := range s.fleet.Devices {
			if d := &s.fleet.Devices[i]; d.Host == a.Host {
				d.Agents = append(d.Agents, a.Agent)
			}
		}
	case "mig":
		s.split(w[1], w[2])
	case "rename":
		s.device(w[1]).UUID = w[2]
	case "health":
		for _, uuid := range strings.Split(w[1], ",") {
			d := s.device(uuid)
			d.Health, d.Why = Health(w[2]), strings.Join(w[3:], " ")
		}
	case "notrainers":
		d := s.device(w[1])
		d.NoTrainers, d.Why = true, strings.Join(w[2:], " ")
	case "faults":
		s.device(w[1]).Faults = make([]FaultSeen, s.number(w[2]))
	case "foreign":
		s.device(w[1]).Condition.ForeignBytes = int64(s.number(w[2])) * gib
	case "silent":
		for i := range s.fleet.Agents {
			if a := &s.fleet.Agents[i]; a.Agent == w[1] {
				a.Silent = true
				for j := range s.fleet.Devices {
					if d := &s.fleet.Devices[j]; d.Host == a.Host {
						d.Agents, d.Health, d.Why = nil, Silent, "agent "+a.Agent+" does not report"
					}
				}
			}
		}
	case "queue":
		q := QueueStatus{Queue: Queue{Name: w[1], Weight: 1, Quota: map[gpu.Kind]int{}}}
		keys(2, func(key, value string) {
			if key == "weight" {
				q.Weight = float64(s.number(value))
			} else {
				q.Quota[gpu.Kind(key)] = s.number(value)
			}
		})
		s.fleet.Queues = append(slices.DeleteFunc(s.fleet.Queues, func(o QueueStatus) bool { return o.Name == w[1] }), q)
	case "lease":
		devices := strings.Split(w[3], ",")
		r := s.request(append([]string{w[1], w[2], strconv.Itoa(len(devices)), string(s.device(devices[0]).Kind), w[4]}, w[6:]...))
		d := Decision{Waiter: Waiter{Request: r}, Placement: Placement{Agent: w[5], Host: hostOfAgent(s.fleet, w[5]), Devices: devices}}
		s.fleet = granted(s.fleet, d)
		l := &s.fleet.Leases[len(s.fleet.Leases)-1]
		for _, word := range w[6:] {
			if since, ok := strings.CutPrefix(word, "since="); ok {
				l.Granted = morning.Add(time.Duration(s.number(since)) * time.Second)
			}
		}
		if slices.Contains(w, "yields") {
			l.Yield = "asked"
		}
		s.fleet.Now = s.fleet.Now.Add(time.Second)
	default:
		s.t.Fatalf("unknown line %q", w)
	}
}

func (s *placeStory) host(name string, keys func(int, func(key, value string))) {
	a := AgentStatus{Agent: name, Host: name, Computes: []gpu.Kind{gpu.CPU, gpu.GPU}}
	n := 0
	add := func(kind gpu.Kind, memory int64, domain string) {
		uuid := fmt.Sprintf("GPU-%s%d", name, n)
		if kind == gpu.CPU {
			uuid = "CPU-" + name
		} else {
			n++
		}
		s.fleet.Devices = append(s.fleet.Devices, DeviceStatus{Device: gpu.Device{UUID: uuid, Kind: kind, MemoryTotalBytes: memory * gib,
			Domain: domain}, Host: a.Host, Agents: []string{name}, Health: Healthy})
	}
	keys(2, func(key, value string) {
		switch key {
		case "gpu":
			size, domain, _ := strings.Cut(value, "@")
			count, memory, _ := strings.Cut(size, "x")
			for range s.number(count) {
				add(gpu.GPU, int64(s.number(memory)), domain)
			}
		case "cpu":
			add(gpu.CPU, int64(s.number(value)), "")
		case "learner":
			a.Serves.Learner = s.number(value)
		case "rollout":
			a.Serves.Rollout = s.number(value)
		case "evaluate":
			a.Serves.Evaluate = s.number(value)
		case "computes":
			a.Computes = nil
			for _, kind := range strings.Split(value, ",") {
				a.Computes = append(a.Computes, gpu.Kind(kind))
			}
		case "exactly": // it computes on GPUs exactly alone
			a.Lacks = append(a.Lacks, Lack{Kind: gpu.GPU, Fast: true, Why: strings.ReplaceAll(value, "_", " ")})
		case "lacks":
			a.Lacks = append(a.Lacks, Lack{Kind: gpu.GPU, Why: strings.ReplaceAll(value, "_", " ")})
		case "hidden":
			a.Lacks = append(a.Lacks, Lack{Kind: gpu.GPU, UUID: value, Why: "hidden"})
		case "note":
			a.Reason = strings.ReplaceAll(value, "_", " ")
		default:
			s.t.Fatalf("host %s: unknown key %q", name, key)
		}
	})
	s.fleet.Agents = append(s.fleet.Agents, a)
}

// split puts MIG instances in the place of a device.
func (s *placeStory) split(uuid, sizes string) {
	i := slices.IndexFunc(s.fleet.Devices, func(d DeviceStatus) bool { return d.UUID == uuid })
	whole := *s.device(uuid)
	s.fleet.Devices = slices.Delete(s.fleet.Devices, i, i+1)
	n := 0
	for _, size := range strings.Split(sizes, ",") {
		count, memory, _ := strings.Cut(size, "x")
		for range s.number(count) {
			d := whole
			d.UUID, d.Parent, d.Domain = fmt.Sprintf("MIG-%s-%d", strings.TrimPrefix(uuid, "GPU-"), n), uuid, ""
			d.MemoryTotalBytes = int64(s.number(memory)) * gib
			s.fleet.Devices, n = append(s.fleet.Devices, d), n+1
		}
	}
}

// request reads HOLDER ROLE COUNT KIND GIB [domain] [fast] [priority=N] [queue=NAME]; the run is what stands before
// the holder's slash.
func (s *placeStory) request(w []string) Request {
	if len(w) < 5 {
		s.t.Fatalf("request %q: want HOLDER ROLE COUNT KIND GIB", w)
	}
	run, _, _ := strings.Cut(w[0], "/")
	r := Request{Holder: w[0], Run: run, Role: Role(w[1]), Count: s.number(w[2]), Kind: gpu.Kind(w[3]), MemoryBytes: int64(s.number(w[4])) * gib,
		Priority: 3, Queue: "default"}
	for _, word := range w[5:] {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "domain":
			r.OneDomain = true
		case "priority":
			r.Priority = s.number(value)
		case "queue":
			r.Queue = value
		case "fast":
			r.Fast = true
		case "yields", "since":
		default:
			s.t.Fatalf("request %q: unknown word %q", w, word)
		}
	}
	return r
}

func (s *placeStory) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatalf("%q is no number", text)
	}
	return n
}

func (s *placeStory) device(uuid string) *DeviceStatus {
	i := slices.IndexFunc(s.fleet.Devices, func(d DeviceStatus) bool { return d.UUID == uuid })
	if i < 0 {
		s.t.Fatalf("no device %s", uuid)
	}
	return &s.fleet.Devices[i]
}

func TestShortNames(t *testing.T) {
	for name, c := range map[string]struct {
		names []string
		want  []string
	}{
		"eight at least":         {[]string{"GPU-1f2e3d4c-aa", "GPU-77aa3d4c-bb"}, []string{"GPU-1f2e", "GPU-77aa"}},
		"as far as they differ":  {[]string{"GPU-1f2e3d4c", "GPU-1f2e3d99"}, []string{"GPU-1f2e3d4", "GPU-1f2e3d9"}},
		"not at a dash":          {[]string{"MIG-abc-1234", "MIG-xyz-1234"}, []string{"MIG-abc-1", "MIG-xyz-1"}},
		"short as they are":      {[]string{"CPU-a", "CPU-b"}, []string{"CPU-a", "CPU-b"}},
		"one begins the other":   {[]string{"GPU-1f2e3", "GPU-1f2e3d"}, []string{"GPU-1f2e3", "GPU-1f2e3d"}},
		"the same twice":         {[]string{"GPU-1f2e3d4c", "GPU-1f2e3d4c"}, []string{"GPU-1f2e", "GPU-1f2e"}},
		"not inside of a letter": {[]string{"GPU-abcé-1", "CPU-x"}, []string{"GPU-abcé", "CPU-x"}},
		"none":                   {[]string{""}, []string{""}},
	} {
		short := shorten(c.names)
		for i, uuid := range c.names {
			if short[uuid] != c.want[i] {
				t.Errorf("%s: %q becomes %q, want %q", name, uuid, short[uuid], c.want[i])
			}
		}
	}
}

func TestSizesAreToldApart(t *testing.T) {
	for _, c := range []struct {
		x, y        int64
		first, last string
	}{
		{80 * gib, gib / 2, "80.0 GiB", "0.5 GiB"},
		{80 * gib, 80 * gib, "80.0 GiB", "80.0 GiB"},
		{80*gib + 1, 80 * gib, "85899345921 bytes", "85899345920 bytes"},
		{3 << 20, 1 << 20, "3.0 MiB", "1.0 MiB"},
		{2048, 0, "2.0 KiB", "0.0 KiB"},
		{12, 7, "12 bytes", "7 bytes"},
	} {
		if first, last := sizes(c.x, c.y); first != c.first || last != c.last {
			t.Errorf("sizes(%d, %d) = %s, %s, want %s, %s", c.x, c.y, first, last, c.first, c.last)
		}
	}
}
