package cpu

import (
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Device is the machine's processor and its memory. Operations that are large enough share the cores
// that nothing else computes on; inside Each they stay on the task's own. They never fail, so Sync has
// nothing to report.
type Device struct {
	maxBytes int64
	account  account

	spreads   spreads
	attention free[attentionScratch]
	rows      free[rowScratch]
	head      free[headScratch]
	sampling  free[samplingScratch]
}

var (
	_ device.Device  = (*Device)(nil)
	_ device.Rounder = (*Device)(nil)
)

// Option changes what New makes.
type Option func(*Device)

// MaxBytes limits the memory of all allocations together; an allocation beyond it is an error. 0, the
// default, is no limit.
func MaxBytes(n int64) Option { return func(d *Device) { d.maxBytes = n } }

// New returns the processor as a device. Several devices share the cores but count their memory apart.
func New(options ...Option) *Device {
	d := new(Device)
	for _, o := range options {
		o(d)
	}
	return d
}

// Name is "cpu".
func (d *Device) Name() string { return name }

const name = "cpu"

// Supports reports whether operations compute on elements of the type: float32. The narrower types are
// for storage.
func (d *Device) Supports(t device.DType) bool { return t == device.F32 }

// Sync has nothing to wait for: operations have ended when they return.
func (d *Device) Sync() error { return nil }

// passRows is enough rows to keep matrix products efficient, and few enough for the activations of a
// layer to stay near the core.
const passRows = 384

// PassRows is the number of packed rows at which a core computes best.
func (d *Device) PassRows() int { return passRows }

// Cores is what SetThreads set, or GOMAXPROCS.
func (d *Device) Cores() int { return Threads() }

// Each runs the tasks, several at once where cores are free. Operations inside a task run on the task's
// own core, unless it is the only task.
func (d *Device) Each(tasks int, run func(task int)) {
	if j := takeJob(tasks); j != nil && j.run(eachTask(run)) {
		return
	}
	for task := range tasks {
		run(task)
	}
}

// eachTask is a job whose parts are the tasks of Each.
type eachTask func(task int)

func (run eachTask) part(part, _ int) { run(part) }

// free is a list of scratch that is not in use, so that operations allocate nothing once they have
// run. Its zero value is empty.
type free[T any] struct {
	mu   sync.Mutex
	list []*T // guarded by mu
}

func (f *free[T]) take() *T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.list) == 0 {
		return new(T)
	}
	last := f.list[len(f.list)-1]
	f.list = f.list[:len(f.list)-1]
	return last
}

func (f *free[T]) give(used *T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, used)
}

// grown returns a slice of n elements, reusing s when it is large enough; contents are unspecified.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}
