package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/lease"
)

func TestMain(m *testing.M) {
	if dir, kind, is := strings.Cut(os.Getenv(placeHolder), "="); is {
		holdPlace(dir, kind)
		return
	}
	goleak.VerifyTestMain(m)
}

// board is a source whose devices a test moves.
type board struct {
	mu      sync.Mutex
	devices []gpu.Device
	sick    map[string]gpu.Reading // devices that read as something special
	listing error
	reading error
	hangs   chan struct{} // reads wait for it while it is not nil
	tell    func(gpu.Event)
	looks   int
}

func newBoard(uuids ...string) *board {
	b := &board{sick: map[string]gpu.Reading{}}
	for i, uuid := range uuids {
		b.devices = append(b.devices, gpu.Device{UUID: uuid, Kind: gpu.GPU, Index: i, MemoryTotalBytes: 1 << 30})
	}
	return b
}

func (b *board) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *board) Inventory(context.Context) (gpu.Inventory, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return gpu.Inventory{Driver: "1.2", Devices: slices.Clone(b.devices)}, b.listing
}

func (b *board) Read(ctx context.Context) ([]gpu.Reading, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks++
	if hangs := b.hangs; hangs != nil {
		b.mu.Unlock()
		select {
		case <-hangs:
		case <-ctx.Done():
		}
		b.mu.Lock()
	}
	var out []gpu.Reading
	for _, device := range b.devices {
		reading, special := b.sick[device.UUID]
		if !special {
			reading = gpu.Reading{}
		}
		reading.UUID = device.UUID
		out = append(out, reading)
	}
	return out, b.reading
}

func (b *board) Watch(ctx context.Context, tell func(gpu.Event)) error {
	b.set(func() { b.tell = tell })
	<-ctx.Done()
	return ctx.Err()
}

// event makes something happen to a device.
func (b *board) event(e gpu.Event) {
	b.mu.Lock()
	tell := b.tell
	b.mu.Unlock()
	tell(e)
}

// office is a device pool whose replies a test writes.
type office struct {
	mu      sync.Mutex
	away    error // reports fail with it
	reply   lease.Reply
	reports []lease.Report
	tries   int
	// slow is how long a report takes.
	slow time.Duration
}

var errAway = errors.New("nobody answers")

func (o *office) report(ctx context.Context, report lease.Report) (lease.Reply, error) {
	o.mu.Lock()
	slow := o.slow
	o.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return lease.Reply{}, ctx.Err()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tries++
	if o.away != nil {
		return lease.Reply{}, o.away
	}
	o.reports = append(o.reports, report)
	reply := o.reply
	reply.Leases = slices.Clone(reply.Leases)
	return reply, ctx.Err()
}

func (o *office) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

// grant gives leases, and no others, to whoever reports.
func (o *office) grant(leases ...lease.Lease) { o.set(func() { o.reply.Leases = leases }) }

func (o *office) last() lease.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reports[len(o.reports)-1]
}

// all are the reports that were taken, and tried how many were brought.
func (o *office) all() (taken []lease.Report, tried int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.reports), o.tries
}

func (o *office) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.reports)
}

// wait waits until so many reports were taken.
func (o *office) wait(count int) {
	for o.count() < count {
		time.Sleep(time.Millisecond)
	}
	synctest.Wait()
}

// lent is a lease of one device.
func lent(fence int, holder, uuid string) lease.Lease {
	return lease.Lease{Request: lease.Request{Holder: holder}, Fence: fence, Agent: "here", Devices: []string{uuid}}
}

// scene is an agent with a board and an office.
type scene struct {
	*Agent
	t      *testing.T
	board  *board
	office *office
	ended  []int // leases, as the agent told
	stop   context.CancelFunc
	result chan error
}

// play runs a scene in a bubble of its own.
func play(t *testing.T, board *board, act func(s *scene), changes ...func(*Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, board: board, office: &office{reply: lease.Reply{Every: 5 * time.Second, SilentAfter: 15 * time.Second}}, result: make(chan error, 1)}
		config := Config{Identity: Identity{Name: "here", Session: "s1", Host: "host", Machine: "m", Boot: "b"}, Serves: lease.Capacity{Learner: 1},
			Computes: []gpu.Kind{gpu.GPU}, Sources: []gpu.Source{board}, Report: s.office.report, Log: slog.New(slog.DiscardHandler)}
		config.Ended = func(fence int) { s.office.set(func() { s.ended = append(s.ended, fence) }) }
		for _, change := range changes {
			change(&config)
		}
		s.Agent = New(config)
		ctx, cancel := context.WithCancel(context.Background())
		s.stop = cancel
		go func() { s.result <- s.Run(ctx) }()
		synctest.Wait()
		act(s)
		cancel()
		select {
		case err := <-s.result:
			if err != nil {
				t.Errorf("the agent ended with %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("the agent does not end")
		}
	})
}

// at begins work that must be allowed.
func (s *scene) at(fence int, uuids ...string) (context.Context, func()) {
	s.t.Helper()
	ctx, _, release, err := s.Use(s.t.Context(), fence, uuids)
	if err != nil {
		s.t.Fatal(err)
	}
	return ctx, release
}

// refused begins work that must not be allowed.
func (s *scene) refused(fence int, uuids ...string) *LostError {
	s.t.Helper()
	_, _, _, err := s.Use(s.t.Context(), fence, uuids)
	var lost *LostError
	if !errors.As(err, &lost) || lost.Fence != fence || lost.Agent != "here" {
		s.t.Fatalf("work under lease %d: %v, want it refused", fence, err)
	}
	return lost
}

// over waits for what is under way and says why a context has ended; nil when it has not.
func over(ctx context.Context) error {
	synctest.Wait()
	return context.Cause(ctx)
}
