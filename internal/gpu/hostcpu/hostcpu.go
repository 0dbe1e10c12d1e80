// Package hostcpu is the door to a machine's processor: all its cores and its memory, together one device. It
// is read from the files of the Linux kernel; other systems tell what it is and little of how it is. A
// processor has no driver that could be reloaded and tells of no events.
package hostcpu

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Source tells what the processor of this machine is and how it is.
type Source struct {
	// root is the folder that the kernel's files lie in: "/" but for tests.
	root string
	host string

	mu     sync.Mutex
	last   sample
	joules float64
}

var _ gpu.Source = (*Source)(nil)

// sample is what shares and powers are computed from.
type sample struct {
	at         time.Time
	busy, all  uint64            // ticks of all cores
	microjoule map[string]uint64 // by package
}

// New opens the processor of this machine. Utilization and power of the first reading are means since then.
func New() *Source {
	host, _ := os.Hostname() // without a name the machine's id alone tells it apart
	return open("/", host)
}

func open(root, host string) *Source {
	s := &Source{root: root, host: host}
	s.last = s.sample()
	return s
}

// Inventory is the processor. Its memory is the machine's, or what the control group of this process may use,
// when that is less.
func (s *Source) Inventory(context.Context) (gpu.Inventory, error) {
	memory, err := s.memory()
	if err != nil {
		return gpu.Inventory{}, fmt.Errorf("processor %s: %w", s.uuid(), err)
	}
	return gpu.Inventory{Devices: []gpu.Device{{UUID: s.uuid(), Kind: gpu.CPU, Name: s.name(), MemoryTotalBytes: memory.total}}}, nil
}

// Read says how the processor is. Processes are not listed: with the machine's memory every program would be one, and
// [gpu.Condition.ForeignBytes] stays 0 therefore. What other programs use comes and goes by the second, the
// kernel's files among it; a placement goes by the total and by what was promised, as it does for the memory that a
// learner will need later.
func (s *Source) Read(context.Context) ([]gpu.Reading, error) {
	reading := gpu.Reading{UUID: s.uuid(), TemperatureCelsius: s.temperature(), ClockHertz: s.clock()}
	if memory, err := s.memory(); err == nil && memory.available >= 0 {
		used := max(0, memory.total-memory.available)
		reading.MemoryUsedBytes = &used
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.sample()
	reading.Utilization = share(s.last, now)
	if joules, watts, ok := energy(s.last, now); ok {
		s.joules += joules
		total := s.joules
		reading.PowerWatts, reading.EnergyJoules = watts, &total
	}
	s.last = now
	return []gpu.Reading{reading}, nil
}

// Watch waits: nothing happens to a processor that its machine would live to tell.
func (s *Source) Watch(ctx context.Context, _ func(gpu.Event)) error {
	<-ctx.Done()
	return ctx.Err()
}

// uuid is made from the machine's id and the host's name, so that it outlives reboots and tells copies of one
// disk image apart. The id itself is for this machine's eyes only and cannot be computed from it.
func (s *Source) uuid() string {
	id := s.line("etc/machine-id")
	if id == "" {
		id = s.line("var/lib/dbus/machine-id")
	}
	sum := sha256.Sum256([]byte("turnwise processor\n" + id + "\n" + s.host))
	return fmt.Sprintf("CPU-%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// share is the part of the cores' time that was spent working; nil when no time has passed.
func share(from, to sample) *float64 {
	if to.all <= from.all || to.busy < from.busy || from.all == 0 {
		return nil
	}
	share := min(1, float64(to.busy-from.busy)/float64(to.all-from.all))
	return &share
}

// energy is what the processor used between two samples, and the power; ok is false when it does not tell. A counter
// that went round is left out of the interval.
func energy(from, to sample) (joules float64, watts *float64, ok bool) {
	for name, count := range to.microjoule {
		before, known := from.microjoule[name]
		if !known || count < before {
			continue
		}
		ok = true
		joules += float64(count-before) / 1e6
	}
	if seconds := to.at.Sub(from.at).Seconds(); ok && seconds > 0 {
		mean := joules / seconds
		watts = &mean
	}
	return joules, watts, ok
}

// line is the first line of a file, "" when there is none.
func (s *Source) line(name string) string {
	text, _, _ := strings.Cut(s.text(name), "\n")
	return strings.TrimSpace(text)
}

// text is a file below the root; "" when it cannot be read, which is normal in containers and on other systems.
func (s *Source) text(name string) string {
	data, err := os.ReadFile(s.path(name))
	if err != nil {
		return ""
	}
	return string(data)
}
