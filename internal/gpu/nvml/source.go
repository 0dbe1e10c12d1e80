// Package nvml is the door to NVIDIA's management library: it says in our words which GPUs a machine has, how
// they are and what happens to them.
//
// A machine without the driver, a system other than Linux and a build without cgo are all a source without
// devices. The library is opened while somebody asks or watches, and closed when nobody does; a source that
// watches keeps the devices open, as any monitor does, so end it before a device is reset or the driver unloaded.
// An upgraded driver needs a new process, because the old library stays in this one.
//
// A sick device can keep a call for ever, and nothing takes a thread back from the driver. Therefore each call
// has a goroutine of its own that its caller leaves behind when its context ends, and whoever asks the same
// again meanwhile waits for the call under way: one goroutine and one thread stay behind for each device and
// question, however often it is asked, and end when the driver answers.
package nvml

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// New is the NVIDIA devices of this machine. One source serves a whole process.
func New() gpu.Source { return newSource(vendor()) }

// driver is a vendor's library in our words. Calls block for as long as the vendor does; they may be made at the
// same time, each between an open without reason or error and its close. An error that concerns a device is
// what is wrong with it in half a sentence.
type driver interface {
	// open returns why there is nothing to ask, "" when there is.
	open() (reason string, err error)
	close()
	version() (string, error)
	// count is the number of boards; a board's index is below it.
	count() (int, error)
	board(index int) (board, error)
	// wires says what a board is connected to; empty when it does not tell.
	wires(index int) wires
	// linked reports whether two boards say that they reach each other over NVLink.
	linked(a, b int) bool
	read(index int) (report, error)
	listen() (ear, error)
}

// board is a physical device as an inventory lists it.
type board struct {
	device gpu.Device
	// split says that its instances are listed in its place; there may be none.
	split     bool
	instances []gpu.Device
}

// listed is what an inventory shows of the board.
func (b board) listed() []gpu.Device {
	if b.split {
		return b.instances
	}
	return []gpu.Device{b.device}
}

// report is how a board is.
type report struct {
	uuid string // of the board
	// readings are of what is listed of it: the board, or its instances.
	readings []gpu.Reading
}

// patience is how long a device may take to answer before it counts as one that does not. Reading everything
// of a busy device takes some ten milliseconds.
const patience = 5 * time.Second

// silent is the Gone of a device that lets its caller wait.
const silent = "it does not answer: look at the kernel's log with `dmesg`"

// unlisted is the Gone of a device that was there.
const unlisted = "the driver no longer lists it"

type source struct {
	driver   driver
	openings flights[opening]
	boards   flights[board]
	wirings  flights[[]wired]
	reports  flights[report]

	mu    sync.Mutex
	known map[string][]string // guarded by mu: UUIDs of what was last listed of each board, by the board's
}

func newSource(d driver) *source { return &source{driver: d, known: map[string][]string{}} }

// opening is what the driver says before it is asked about a device.
type opening struct {
	reason, version string
	count           int
}

// look asks the driver how many devices there are.
func (s *source) look() (opening, error) {
	reason, err := s.driver.open()
	if err != nil || reason != "" {
		return opening{reason: reason}, err
	}
	defer s.driver.close()
	var o opening
	if o.version, err = s.driver.version(); err != nil {
		return o, fmt.Errorf("driver version: %w", err)
	}
	if o.count, err = s.driver.count(); err != nil {
		return o, fmt.Errorf("count devices: %w", err)
	}
	if o.count == 0 {
		o.reason = "the NVIDIA driver sees no device"
	}
	return o, nil
}

// during makes a question one that holds the driver open.
func during[T any](s *source, ask func() (T, error)) func() (T, error) {
	return func() (T, error) {
		reason, err := s.driver.open()
		if err == nil && reason != "" {
			err = errors.New(reason)
		}
		if err != nil {
			var nothing T
			return nothing, err
		}
		defer s.driver.close()
		return ask()
	}
}

func (s *source) remember(board string, listed []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[board] = listed
}

// gone are readings of what was known of boards other than those met.
func (s *source) gone(met map[string]bool, why string) []gpu.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []gpu.Reading
	for _, board := range slices.Sorted(maps.Keys(s.known)) {
		if met[board] {
			continue
		}
		for _, uuid := range s.known[board] {
			out = append(out, gpu.Reading{UUID: uuid, Gone: why})
		}
	}
	return out
}

// unanswered says what a context that ended during a call means.
func unanswered(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the driver does not answer (%w): a device may be sick; look at the kernel's log with `dmesg`", err)
	}
	return err
}
