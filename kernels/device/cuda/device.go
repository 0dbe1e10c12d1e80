package cuda

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/ptx"
)

// Options say which GPU is opened, and how.
type Options struct {
	// UUID is NVML's name of a GPU or of an instance of one; "" is the first that can compute.
	UUID string
	// Exact asks for the mode in which a row's bits depend on its own inputs alone.
	Exact bool
	// Separate takes each allocation from the driver by itself, so that a tool that looks for accesses outside of allocations
	// sees each. It is slow.
	Separate bool

	// staging is the size of a half of the staging memory; 0 is stagingBytes.
	staging int
	// poison fills memory that is handed out, so that nothing relies on what it held.
	poison bool
}

// Device is a GPU as one of its users has it: see Share. Its methods may be called by several goroutines; their work is
// queued in the order of the calls. A call that waits for the GPU leaves the device to others meanwhile, and waits for no more than
// was queued before it.
type Device struct {
	*core
	lack  error // guarded by mu; what was lacking for this user's work, or cannot be recorded: see fail
	heard int   // guarded by mu; how many mistakes this user has been told
}

// core is what the users of a GPU share.
type core struct {
	name    string
	found   Found
	exact   bool
	driver  *driver.Driver
	handle  driver.Device
	context driver.Context
	// stream is where work is queued, copies what brings much to the host: see bring.
	stream, copies driver.Stream
	// status is where kernels complain: see complaints.
	status pointer
	// multiprocessors is how many blocks the GPU computes at once, at least.
	multiprocessors int
	// waitEvent waits for an event, without mu.
	waitEvent func(driver.Event) error

	mu         sync.Mutex
	failure    *device.Failure            // guarded by mu; see fail
	mistake    *Mistake                   // guarded by mu; the last one
	mistakes   int                        // guarded by mu; how many so far
	functions  map[string]driver.Function // guarded by mu; those that are loaded
	later      map[string]ptx.File        // guarded by mu; by kernel, what is loaded when it is needed
	modules    []driver.Module            // guarded by mu
	argument   [argumentBytes / 8]uint64  // guarded by mu; the struct of the launch under way
	memory     memory                     // guarded by mu
	staging    staging                    // guarded by mu
	placing    placing                    // guarded by mu
	brought    staging                    // guarded by mu; see bring
	landings   []*landing                 // guarded by mu; all there are
	complained int                        // guarded by mu; how many complaints of kernels there were
	fast       *fast                      // guarded by mu; nil in the exact mode
	recording  *Graph                     // guarded by mu; nil when nothing is recorded
	bringing   bool                       // guarded by mu; brought is in use
	away       int                        // guarded by mu; how many calls let others have the device
	changed    sync.Cond                  // of mu; a recording has ended, brought is free, or a call goes on with a device that is being closed
	graphs     map[*Graph]struct{}        // guarded by mu; those not freed
	closed     bool                       // guarded by mu
}

var _ device.Device = (*Device)(nil)

// Open opens a GPU. It compiles the kernels for it, which takes the driver some seconds when it does not have them
// from before. The error is an [*Absent] where the machine lacks what is needed.
func Open(l Libraries, o Options) (*Device, error) {
	library, found, err := probe(l)
	if err != nil {
		return nil, err
	}
	f, err := choose(found, o.UUID)
	if err != nil {
		return nil, err
	}
	d := &Device{core: &core{name: fmt.Sprintf("cuda:%d", f.Ordinal), found: f, exact: o.Exact, driver: library, functions: map[string]driver.Function{}, later: map[string]ptx.File{},
		staging: staging{bytes: cmp.Or(o.staging, stagingBytes)}, graphs: map[*Graph]struct{}{}}}
	d.changed.L, d.waitEvent = &d.mu, library.WaitEvent
	d.brought.bytes = d.staging.bytes
	d.memory = newMemory(d.core, o)
	if !o.Exact {
		d.name += " fast"
	}
	if err := d.open(l); err != nil {
		return nil, errors.Join(d.unopened(err), d.Close())
	}
	return d, nil
}

func (d *Device) open(l Libraries) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if d.handle, err = d.driver.Device(d.found.Ordinal); err != nil {
		return err
	}
	if d.multiprocessors, err = d.driver.Attribute(d.handle, driver.Multiprocessors); err != nil {
		return err
	}
	if d.context, err = d.driver.Retain(d.handle); err != nil {
		return err
	}
	if err := d.driver.SetCurrent(d.context); err != nil {
		return err
	}
	if d.stream, err = d.driver.NewStream(); err != nil {
		return err
	}
	if d.copies, err = d.driver.NewStream(); err != nil {
		return err
	}
	if d.status, err = d.driver.Alloc(statusBytes); err != nil {
		return err
	}
	if err := d.driver.Fill(d.status, 0, statusBytes, d.stream); err != nil {
		return err
	}
	if err := d.loadAll(); err != nil {
		return err
	}
	if err := cmp.Or(d.staging.open(d.driver), d.brought.open(d.driver)); err != nil || d.exact {
		return err
	}
	return d.openFast(l.CuBLASLt)
}

// unopened says what an error of opening the device means.
func (d *Device) unopened(err error) error {
	var absent *Absent
	switch code := driver.CodeOf(err); {
	case errors.As(err, &absent):
		return err
	case code == driver.OutOfMemory:
		return &Absent{Reason: fmt.Sprintf("%s has not even the memory to be opened (%v)", d.name, err), Fix: "end what else computes on it: nvidia-smi shows it"}
	case code == driver.DeviceUnavailable:
		return &Absent{Reason: fmt.Sprintf("%s is taken by another process (%v)", d.name, err), Fix: "end that, or let several compute on it: nvidia-smi -c DEFAULT"}
	case code != 0:
		d.failure = nil
		d.fail("Open", err)
		return d.failure
	}
	return err
}

// Share returns the same GPU for another user. Users share its memory, its stream and its end, and each hears what was lacking for
// its own work: of two that compute at the same time, one would else hear of the other's lack, and the other of none. What
// one allocates all may use.
func (d *Device) Share() device.Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Device{core: d.core, heard: d.mistakes}
}

// Same reports whether other is the same GPU for another user.
func (d *Device) Same(other device.Device) bool {
	o, ok := other.(*Device)
	return ok && o.core == d.core
}

// Close gives everything back, allocations that were not freed too, when calls under way that wait for the device have ended. The
// device must not be used again, but for Close, which does nothing then.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.context == 0 {
		return nil
	}
	for d.closed = true; d.away > 0; {
		d.changed.Wait()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all []error
	keep := func(err error) {
		if err != nil && d.failure == nil { // a broken context refuses everything
			all = append(all, err)
		}
	}
	keep(d.driver.SetCurrent(d.context))
	keep(d.idle())
	if d.fast != nil {
		keep(d.fast.close())
	}
	for g := range d.graphs {
		keep(d.driver.FreeExecutable(g.executable))
	}
	keep(d.memory.close())
	if d.status != 0 {
		keep(d.driver.Free(d.status))
	}
	keep(cmp.Or(d.staging.close(d.driver), d.brought.close(d.driver)))
	for _, l := range d.landings {
		keep(l.close(d.driver))
	}
	for _, m := range d.modules {
		keep(d.driver.Unload(m))
	}
	for _, s := range []driver.Stream{d.stream, d.copies} {
		if s != 0 {
			keep(d.driver.FreeStream(s))
		}
	}
	keep(d.driver.SetCurrent(0)) // or this thread would keep a context that may be gone
	keep(d.driver.Release(d.handle))
	return errors.Join(all...)
}

// Name is "cuda:0" in exact mode and "cuda:0 fast" in the other.
func (d *Device) Name() string { return d.name }

// Found is which GPU it is.
func (d *Device) Found() Found { return d.found }

// Supports reports whether operations compute on elements of the type: float32 and BF16.
func (d *Device) Supports(t device.DType) bool { return t == device.F32 || t == device.BF16 }

// PassRows is as many as there are: a GPU wants all rows at once.
func (d *Device) PassRows() int { return math.MaxInt32 }

// Cores is 1: tasks come one after the other.
func (d *Device) Cores() int { return 1 }

// Each runs the tasks one after the other.
func (d *Device) Each(tasks int, run func(task int)) {
	for task := range tasks {
		run(task)
	}
}

// enter begins a call: it takes the device and makes its context that of the thread. It reports false, and there is
// nothing to leave, while an error is kept. A call that returns an error is for ask.
func (d *Device) enter(operation string) bool {
	d.take(operation)
	if d.kept() != nil {
		d.mu.Unlock()
		return false
	}
	return d.current(operation)
}

// enterToFree is enter for calls that give memory back, which an error that ends nothing does not keep them from.
func (d *Device) enterToFree(operation string) bool {
	d.take(operation)
	if d.failure != nil {
		d.mu.Unlock()
		return false
	}
	return d.current(operation)
}

// current makes the context that of the thread. It leaves, and reports false, where that fails.
func (d *Device) current(operation string) bool {
	runtime.LockOSThread()
	if err := d.driver.SetCurrent(d.context); err != nil {
		d.fail(operation, err)
		d.leave()
		return false
	}
	return true
}

// take takes the device, which must not be closed, when no other user is recording.
func (d *Device) take(operation string) {
	d.mu.Lock()
	d.quiet()
	if d.closed {
		d.mu.Unlock()
		panic("cuda: " + operation + ": the device is closed")
	}
}

// quiet waits while another user records. The caller holds mu.
func (d *Device) quiet() {
	for d.recording != nil && d.recording.device != d {
		d.changed.Wait()
	}
}

// goAway lets others have the device in the middle of a call, and comeBack takes it again, when no other user is recording. Close waits
// for the call. The caller holds mu, by enter.
func (d *Device) goAway() {
	d.away++
	d.mu.Unlock()
}

// comeBack is described at goAway.
func (d *Device) comeBack() {
	d.mu.Lock()
	d.back()
}

// await lets others have the device until something has changed. The caller holds mu, by enter.
func (d *Device) await() {
	d.away++
	d.changed.Wait()
	d.back()
}

// back ends what goAway and await begin. The caller holds mu.
func (d *Device) back() {
	d.quiet()
	if d.away--; d.closed {
		d.changed.Broadcast()
	}
}

// idle waits for all of the device's streams, and for nobody else's in the process. The caller holds mu.
func (c *core) idle() error {
	var first error
	for _, s := range []driver.Stream{c.stream, c.copies} {
		if s != 0 {
			first = cmp.Or(first, c.driver.Wait(s))
		}
	}
	return first
}

// ask is a call that returns an error: it does work as between enter and leave, unless an error is kept, and tells the error kept
// then, of which nobody else hears in between.
func (d *Device) ask(operation string, work func()) error {
	d.take(operation)
	defer d.mu.Unlock()
	if d.kept() == nil {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if d.fail(operation, d.driver.SetCurrent(d.context)); d.kept() == nil {
			work()
		}
	}
	return d.tell()
}

// leave ends a call.
func (d *Device) leave() {
	runtime.UnlockOSThread()
	d.mu.Unlock()
}

// Sync waits until everything queued is done and returns the error kept: the device's failure, or what was lacking or wrong
// since the last time.
func (d *Device) Sync() error {
	return d.ask("Sync", func() { d.wait("Sync") })
}
