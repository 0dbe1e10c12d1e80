// Package bench measures how fast this machine multiplies matrices, trains the policy network, samples
// from it and evaluates losses, on random weights and tokens. It prints nothing and knows no command line; cmd/turnwise does.
//
// Each measurement checks its settings, warms up, then times. A setting that makes no sense is a
// [SettingError], found before anything is computed.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// Spread sums up repeated measurements of one thing.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"` // of an even number, the mean of the middle two
	Max    float64 `json:"max"`
}

// spread of samples, of which there is at least one.
func spread(samples []float64) Spread {
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	return Spread{Min: sorted[0], Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Max: sorted[n-1]}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// SettingError is a setting out of its range.
type SettingError struct {
	// Setting is the name of the flag without dashes, for example "kv-heads".
	Setting string
	Value   any
	// Want says what the value may be, for example "must be between 1 and 256".
	Want string
}

func (e SettingError) Error() string { return fmt.Sprintf("--%s %v: %s", e.Setting, e.Value, e.Want) }

// UsageError marks the error as a mistake in the command line.
func (e SettingError) UsageError() {}

// between reports a number outside [low, high].
func between[T cmp.Ordered](setting string, value, low, high T) error {
	if value < low || value > high {
		return SettingError{setting, value, fmt.Sprintf("must be between %v and %v", low, high)}
	}
	return nil
}

// Machine is what computes.
type Machine struct {
	// Device is "cpu", the only device that measurements run on.
	Device string
	// Threads is the most cores that one computation uses at a time.
	Threads int
}

// maxThreads is far above the cores of any machine.
const maxThreads = 1024

func (m Machine) check() error {
	if m.Device != "cpu" {
		return SettingError{"device", m.Device, "the devices of this build are: cpu"}
	}
	return between("threads", m.Threads, 1, maxThreads)
}

// use limits the threads until the returned function is called.
func (m Machine) use() (restore func()) {
	cpu.SetThreads(m.Threads)
	return func() { cpu.SetThreads(0) }
}

// Conditions say what a result was measured with, so that it can be told from others.
type Conditions struct {
	Device  string `json:"device"`
	ISA     string `json:"isa"` // the instruction set: avx512, avx2 or portable
	Threads int    `json:"threads"`
}

func (m Machine) conditions() Conditions {
	return Conditions{Device: m.Device, ISA: cpu.ISA(), Threads: m.Threads}
}

// firstError is the first of several checks that failed.
func firstError(checks ...error) error { return cmp.Or(checks...) }

// stopped reports why the context ended, between measurements.
func stopped(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
