package gpufake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Source is one host of a fleet at work. Its methods may be called at the same time.
type Source struct {
	host Host

	mu      sync.Mutex
	opened  time.Time
	devices []*device
	// agenda is what is still to happen, the next first.
	agenda []planned
	// log holds every event, and told how many of them a watcher was given.
	log   []gpu.Event
	told  int
	boots int
	pids  int
	// loaded is when the driver was loaded.
	loaded time.Time
	// news is closed and replaced whenever the agenda or the log has grown.
	news chan struct{}

	follow follower
}

var _ gpu.Source = (*Source)(nil)

// planned is an act with its time.
type planned struct {
	at time.Time
	act
}

// device is the state of one device.
type device struct {
	deviceModel
	throttle  []gpu.Throttle
	ecc       gpu.ECC
	remap     gpu.Remap
	recovery  gpu.Recovery
	linksDown int
	processes []gpu.Process
	gone      string
	// offBus devices come back only with a boot, and missing ones are not even found.
	offBus, missing bool
}

// Open starts a host: its timeline counts from here.
func Open(h Host) *Source {
	now := time.Now()
	s := &Source{host: h, opened: now, loaded: now, news: make(chan struct{})}
	for _, d := range h.devices {
		s.devices = append(s.devices, &device{deviceModel: d})
	}
	for _, a := range h.timeline {
		s.plan(now, a)
	}
	return s
}

// Boot names the time since the host was booted, and changes when a line says `host reboot`.
func (s *Source) Boot() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(time.Now())
	return fmt.Sprintf("%s-boot-%d", s.host.Name, s.boots)
}

// Inject lets something happen, at once or, when the line begins with a time, that much later:
//
//	gpu N xid K             the driver tells of an error. 48, 94 and 95 count a memory error too, 63 leaves a
//	                        remap pending, 64 one that failed, and after 79 the device does not answer
//	gpu N xid 154 WHAT      the driver wants WHAT done
//	gpu N recovery WHAT     the same without an XID: none, reset, reboot, drain, drain_and_reset
//	gpu N ecc [COUNT]       memory errors that ECC cannot correct
//	gpu N remap pending     or failed
//	gpu N throttle REASONS  clocks are held down: power_cap, thermal, hardware, hardware_heat, power_brake; none ends it
//	gpu N links-down COUNT  NVLink lanes fail
//	gpu N gone              the device does not answer; a reset brings it back
//	gpu N process MEMORY    somebody's program takes memory; `by NAME` says whose
//	gpu N reset             errors, what is pending and throttling are over; what fell off the bus stays away
//	gpu N clear             the slot holds a sound device again, whatever it had
//	driver reload           a reset of all GPUs; what fell off the bus is not found any more
//	host reboot             a reset of everything, with all devices back
//
// N counts GPUs from 0, N.M is a MIG instance, and `cpu` in place of `gpu N` is the processor, which throttles,
// is gone and is cleared. throttle, links-down, gone and process may end with `for 20s`.
func (s *Source) Inject(line string) error {
	a, err := parseAct(line)
	if err != nil {
		return err
	}
	if err := a.check(s.host); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan(time.Now(), a)
	s.advance(time.Now())
	close(s.news)
	s.news = make(chan struct{})
	return nil
}

// plan puts an act on the agenda, after those of the same time.
func (s *Source) plan(from time.Time, a act) {
	p := planned{from.Add(a.after), a}
	i := slices.IndexFunc(s.agenda, func(other planned) bool { return other.at.After(p.at) })
	if i < 0 {
		i = len(s.agenda)
	}
	s.agenda = slices.Insert(s.agenda, i, p)
}

// advance lets everything happen that is due. The caller holds the lock.
func (s *Source) advance(now time.Time) {
	for len(s.agenda) > 0 && !s.agenda[0].at.After(now) {
		p := s.agenda[0]
		s.agenda = s.agenda[1:]
		if p.verb == "process" && !p.undo {
			s.pids++
			p.pid = 4000 + s.pids
		}
		s.happen(p)
		if p.lasts > 0 && !p.undo {
			end := p.act
			end.undo, end.after = true, p.lasts
			s.plan(p.at, end)
		}
	}
}

// Inventory are the host's devices. One that does not answer is still there; one that fell off the bus before the
// driver was loaded is not.
func (s *Source) Inventory(ctx context.Context) (gpu.Inventory, error) {
	if err := ctx.Err(); err != nil {
		return gpu.Inventory{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(time.Now())
	out := gpu.Inventory{Driver: s.host.Driver}
	gpus := 0
	for _, d := range s.devices {
		if d.missing {
			continue
		}
		if d.Kind == gpu.GPU {
			gpus++
		}
		out.Devices = append(out.Devices, d.Device)
	}
	switch {
	case out.Driver == "":
		out.Reason = gpu.NoDriver
	case gpus == 0:
		out.Reason = "the NVIDIA driver sees no device"
	}
	return out, nil
}

// Read says how the devices are.
func (s *Source) Read(ctx context.Context) ([]gpu.Reading, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.advance(now)
	var out []gpu.Reading
	for _, d := range s.devices {
		if !d.missing {
			out = append(out, d.read(now.Sub(s.loaded)))
		}
	}
	return out, nil
}

// Watch tells each event when its time has come. Events of times at which nobody watched are told to the next who does.
func (s *Source) Watch(ctx context.Context, tell func(gpu.Event)) error {
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.followed()
		events, wait, news := s.untold()
		for _, event := range events {
			tell(event)
		}
		if err := pause(ctx, wait, news); err != nil {
			return err
		}
	}
}

// untold takes the events that no watcher was given, and says how long it is until there may be more, which is 0
// when that is unknown.
func (s *Source) untold() (events []gpu.Event, wait time.Duration, news <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.advance(now)
	events = slices.Clone(s.log[s.told:])
	s.told = len(s.log)
	if len(s.agenda) > 0 {
		wait = s.agenda[0].at.Sub(now)
	}
	if s.follow.path != "" && (wait == 0 || wait > followEvery) {
		wait = followEvery
	}
	return events, wait, s.news
}

// pause waits for news, or for a while when it is not 0.
func pause(ctx context.Context, wait time.Duration, news <-chan struct{}) error {
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-news:
	case <-due:
	}
	return nil
}

// errNoHost is the answer to a line for another host.
var errNoHost = errors.New("another host")

// injectFollowed is [Source.Inject] for a line that may begin with `on HOST`.
func (s *Source) injectFollowed(line string) error {
	if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "on "); ok {
		name, rest, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if name != s.host.Name {
			return errNoHost
		}
		line = rest
	}
	return s.Inject(line)
}
