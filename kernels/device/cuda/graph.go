package cuda

import (
	"cmp"
	"fmt"
	"runtime"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/arena"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// Graph is work that was recorded, to be queued again by one call, which takes the host less time than the calls did.
//
// A replay does what was recorded, on the buffers, sizes and factors of then: it reads what is in them now. Buffers must not have been freed.
type Graph struct {
	device     *Device
	executable driver.Executable
	// scratch is the memory that each replay works in.
	scratch []*scratch
	// refused is the first thing that could not be recorded.
	refused error
}

var _ device.Recorder = (*Device)(nil)

// Record writes down what work queues, in place of doing it. Other users of the GPU wait until it returns; this one uses
// it for nothing else meanwhile. Whatever moves numbers between host and device cannot be recorded, since a replay would
// not see the host's numbers of then, nor anything that waits: such calls do nothing, and the error of Record names the first.
//
// What operations need for a moment is kept: replays work in it, those of several recordings in the same, one after the other.
func (d *Device) Record(work func()) (device.Recording, error) {
	g := &Graph{device: d}
	var wrong error
	if err := cmp.Or(d.ask("Record", func() { wrong = d.begin(g) }), wrong); err != nil {
		return nil, err
	}
	finished := false
	defer func() {
		if !finished { // work panics
			_ = d.end(g)
		}
	}()
	work()
	finished = true
	if err := d.end(g); err != nil {
		return nil, err
	}
	return g, nil
}

// begin begins a recording. The caller holds mu, by ask.
func (d *Device) begin(g *Graph) error {
	if d.recording != nil {
		panic("cuda: Record inside Record")
	}
	if err := d.driver.BeginCapture(d.stream); err != nil {
		return d.unrecordable(d.short(err))
	}
	d.recording = g
	d.memory.arena.Hold(true)
	return nil
}

// unrecordable says of an error what it ended. The device is well, or what is queued next will tell.
func (d *Device) unrecordable(err error) error {
	return fmt.Errorf("%s: the work cannot be recorded: %w", d.name, err)
}

// end ends a recording. What was lacking or wrong in it is its error; the device's failure is returned as it is.
func (d *Device) end(g *Graph) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.changed.Broadcast()
	wrong := d.tell()
	d.recording = nil
	defer d.memory.arena.Hold(false)
	if d.failure == nil {
		wrong = d.finish(g, cmp.Or(g.refused, wrong, d.unreturned(g)))
	}
	if d.failure == nil && wrong == nil {
		d.graphs[g] = struct{}{}
		return nil
	}
	d.unkeep(g)
	if err := d.tell(); err != nil {
		return err
	}
	return d.unrecordable(wrong)
}

// finish makes a recording ready to run, unless something was wrong with it, which it returns. The caller holds mu.
func (d *Device) finish(g *Graph, wrong error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if d.fail("Record", d.driver.SetCurrent(d.context)); d.failure != nil {
		return d.failure
	}
	graph, err := d.driver.EndCapture(d.stream)
	if wrong = cmp.Or(wrong, d.short(err)); wrong == nil {
		g.executable, err = d.driver.Instantiate(graph)
		wrong = d.short(err)
	}
	if graph != 0 {
		d.fail("Record", d.driver.FreeGraph(graph))
	}
	return wrong
}

// short is an error of the driver's, as what is lacking where it says that memory is. The caller holds mu, by enter.
func (d *Device) short(err error) error {
	if driver.CodeOf(err) == driver.OutOfMemory {
		return d.lacking(device.ForWorkspace, arena.BlockBytes)
	}
	return err
}

// unrecorded reports whether a recording is going on, in which the operation cannot be. The caller holds mu.
func (d *Device) unrecorded(operation string) bool {
	return d.refuses(operation, "only what the device does by itself can be recorded")
}

// refuses is unrecorded, for a reason. The caller holds mu.
func (d *Device) refuses(operation, reason string) bool {
	if d.recording == nil {
		return false
	}
	err := &Mistake{Device: d.name, Noticed: operation, Reason: reason}
	if d.recording.refused == nil {
		d.recording.refused = err
	}
	if d.lack == nil {
		d.lack = err
	}
	return true
}

// Replay queues what was recorded.
func (g *Graph) Replay() {
	d := g.device
	if !d.enter("Replay") {
		return
	}
	defer d.leave()
	if g.executable == 0 {
		panic("cuda: Replay: the graph has been freed")
	}
	if d.unrecorded("Replay") {
		return
	}
	d.fail("Replay", d.driver.LaunchGraph(g.executable, d.stream))
}

// Free gives the graph back, and the memory that its work gave back. nil is ignored.
func (g *Graph) Free() {
	if g == nil {
		return
	}
	d := g.device
	if !d.enterToFree("Free") {
		return
	}
	defer d.leave()
	if g.executable == 0 {
		panic("cuda: Free: the graph has been freed before")
	}
	d.wait("Free") // a replay may be under way
	d.fail("Free", d.driver.FreeExecutable(g.executable))
	g.executable = 0
	delete(d.graphs, g)
	d.unkeep(g)
}
