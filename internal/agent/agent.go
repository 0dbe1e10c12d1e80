// Package agent is the device agent of one process: it sees the devices of its machine, reports them to the
// device pool, and lets work go on only while the pool has not taken its lease back. [Agent.Run] reports until
// it is told to stop; [Agent.Use] guards one piece of work.
//
// An agent that cannot reach the pool stops all work under its leases by itself, and no later than the pool
// gives their devices to others. It gives no leases, judges no health, and knows no run.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

// Reporter takes a report to the device pool and brings its reply. A report that is brought again gets the
// answer of the first time.
type Reporter func(ctx context.Context, report lease.Report) (lease.Reply, error)

// Config says what an agent is and what it serves.
type Config struct {
	Identity Identity
	// Serves is what the process has slots for, Computes the kinds of device that Open opens.
	Serves   lease.Capacity
	Computes []gpu.Kind
	// Lacks says what of the machine this process does not compute on.
	Lacks []lease.Lack
	// Open opens the devices that are leased from this agent.
	Open Opener
	// Sources are the doors to the devices of this machine.
	Sources []gpu.Source
	// Own are the ids of all our processes on this machine, whose memory is not foreign; nil is this one alone.
	Own    func() []int
	Report Reporter
	// Boot says which life of its machine this is, when that changes while the process lives, as it does for a
	// machine that is only rehearsed; nil is Identity.Boot.
	Boot func() string
	// Readings is the folder in which the agent keeps how its devices are; "" keeps nothing.
	Readings string
	// Ended is told of each lease that this agent had and has no more; nil is not told. It must not wait.
	Ended func(fence int)
	Log   *slog.Logger
}

const (
	// readEvery is how often devices are read, hung how long one read may take before its devices count as gone.
	readEvery = 2 * time.Second
	hung      = 30 * time.Second
	// listEvery is how often the list of devices is looked at again without a reason.
	listEvery = time.Minute
	// firstLook is how long the first report waits for a source that does not answer.
	firstLook = 10 * time.Second
	// reportGap is the least time between two reports that nobody waits for.
	reportGap = 250 * time.Millisecond
	// reportPatience bounds one attempt at a report, firstPause and longestPause the waits between attempts.
	reportPatience           = 10 * time.Second
	firstPause, longestPause = 250 * time.Millisecond, 5 * time.Second
	// leavePatience is how long the last report may take.
	leavePatience = 2 * time.Second
	// mostEvents is how many events are kept until they are reported. The oldest are given up first.
	mostEvents = 1024
	// eventsAtOnce is how many go into one report, some tens of kilobytes.
	eventsAtOnce = 256
)

// Agent is the device agent of one process. Its methods may be called from any goroutine.
type Agent struct {
	config  Config
	log     *slog.Logger
	sources []*source
	// urgent and news ask for a report, at once or after a while; both are of capacity 1.
	urgent, news chan struct{}
	idle         chan struct{} // asks for devices to be closed that nobody needs any more; of capacity 1
	over         chan struct{} // closed when the agent has stopped serving
	failing      chan struct{} // closed when a device has failed this process
	computers    computers

	mu sync.Mutex // guards what follows
	// number counts the reports composed; judged is the last one whose reply said which leases there are.
	number, judged int
	replied        chan struct{} // closed and made anew with each reply
	sent           time.Time     // when the last report that was taken was sent first; zero before there was one
	silentAfter    time.Duration
	cut            bool                    // the pool has not answered for silentAfter
	leases         map[int]lease.Lease     // of the last reply, by fence
	health         map[string]lease.Health // of the last reply, of devices that are not healthy
	doubted        map[int]bool            // leases whose device had a fault since, until the pool says that they stand
	uses           map[*use]struct{}
	events         []gpu.Event // that no report that was taken has told of
	told           told
	skewed         bool  // clocks differ, and that was said
	why            error // why the agent does not serve any more
	failure        *FailedError
}

// told is what the device pool knows by reports that it has taken.
type told struct {
	inventory  *gpu.Inventory // nil when it knows none
	conditions map[string]gpu.Condition
}

// New returns an agent, which serves once it runs.
func New(config Config) *Agent {
	a := &Agent{config: config, log: config.Log.With("agent", config.Identity.Name), urgent: make(chan struct{}, 1), news: make(chan struct{}, 1), idle: make(chan struct{}, 1),
		over: make(chan struct{}), failing: make(chan struct{}), replied: make(chan struct{}), leases: map[int]lease.Lease{}, doubted: map[int]bool{}, uses: map[*use]struct{}{}}
	for _, door := range config.Sources {
		a.sources = append(a.sources, newSource(door))
	}
	return a
}

// RefusedError says why the device pool does not take this agent's reports, and what to do.
type RefusedError struct{ Agent, Reason string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the device pool refuses agent %s: %s", e.Agent, e.Reason)
}

// errStopped is why work ends whose agent stops.
var errStopped = errors.New("its device agent stops")

// Run watches devices and reports until ctx ends, and then says goodbye. It returns a [*RefusedError] when the
// device pool refuses the agent, and a [*FailedError] when a device has failed this process. Whatever is at work
// under a lease at its end is cancelled.
func (a *Agent) Run(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	var parts sync.WaitGroup
	for _, s := range a.sources {
		parts.Go(func() { a.observe(watching, s) })
		parts.Go(func() { a.watch(watching, s) })
	}
	parts.Go(func() { a.fence(watching) })
	parts.Go(func() { a.keepReadings(watching) })
	parts.Go(func() { a.tidy(watching) })
	reporting, quit := context.WithCancel(watching)
	parts.Go(func() {
		select {
		case <-a.failing:
		case <-watching.Done():
		}
		quit()
	})
	err := a.report(reporting)
	stop()
	parts.Wait()
	defer a.closeIdle()
	var refused *RefusedError
	if errors.As(err, &refused) {
		a.end(refused)
		return refused
	}
	failed := a.failed()
	if failed == nil {
		a.end(errStopped)
		a.leave(context.WithoutCancel(ctx))
		return nil
	}
	a.end(failed)
	a.confess(context.WithoutCancel(ctx))
	a.leave(context.WithoutCancel(ctx))
	return failed
}

// end cancels all work, and lets none begin.
func (a *Agent) end(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.why = why
	close(a.over)
	for u := range a.uses {
		u.cancel(why)
	}
}

// ask has a report sent: soon, or at once when somebody waits for its reply.
func ask(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Status is what an agent knows, for views.
type Status struct {
	Inventory gpu.Inventory
	// Readings are the last ones, in the order of the inventory.
	Readings []gpu.Reading
	// Leases are those of the device pool's last reply, by fence; none while the agent is cut off.
	Leases []lease.Lease
	// Health is how fit the pool says that the devices are, by UUID; those that are not named are healthy.
	Health map[string]lease.Health
	// Held are the fencing tokens that work goes on under now.
	Held []int
	// Heard is when the last report that the pool has taken was sent; zero before there was one. CutOff is true
	// when that is too long ago for any lease to hold.
	Heard  time.Time
	CutOff bool
}

// Status returns what the agent knows now.
func (a *Agent) Status() Status {
	out := Status{Inventory: a.inventory()}
	for _, s := range a.sources {
		out.Readings = append(out.Readings, s.readings()...)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	out.Heard, out.CutOff, out.Held, out.Health = a.sent, a.cut, a.held(), maps.Clone(a.health)
	if !a.cut {
		for _, fence := range slices.Sorted(maps.Keys(a.leases)) {
			out.Leases = append(out.Leases, a.leases[fence])
		}
	}
	return out
}

// held are the fencing tokens that work goes on under, sorted. The caller holds mu.
func (a *Agent) held() []int {
	var fences []int
	for u := range a.uses {
		fences = append(fences, u.fence)
	}
	slices.Sort(fences)
	return slices.Compact(fences)
}
