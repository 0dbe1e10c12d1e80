package cuda

import (
	"cmp"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// Graph is work that was recorded, to be queued again by one call, which takes the host less time than the calls did.
//
// A replay does what was recorded, on the buffers, sizes and factors of then: it reads what is in them now. Buffers must not have been freed.
type Graph struct {
	device     *Device
	executable driver.Executable
	// kept is memory that was given back during the recording, which each replay uses.
	kept []pointer
	// refused is the first thing that could not be recorded.
	refused error
}

// Record writes down what work queues, in place of doing it. Nothing else may use the device meanwhile. Whatever moves
// numbers between host and device cannot be recorded, since a replay would not see the host's numbers of then, nor anything that waits: such calls do nothing, and the error
// of Record names the first.
func (d *Device) Record(work func()) (*Graph, error) {
	g := &Graph{device: d}
	if err := d.ask("Record", func() { d.begin(g) }); err != nil {
		return nil, err
	}
	finished := false
	defer func() {
		if !finished { // work panics
			_, _ = d.end(g)
		}
	}()
	work()
	finished = true
	return d.end(g)
}

// begin begins a recording. The caller holds mu, by ask.
func (d *Device) begin(g *Graph) {
	if d.recording != nil {
		panic("cuda: Record inside Record")
	}
	if d.fail("Record", d.driver.BeginCapture(d.stream)); d.kept() == nil {
		d.recording = g
		d.memory.arena.Hold(true)
	}
}

// end ends a recording. What was lacking or wrong in it is its error.
func (d *Device) end(g *Graph) (*Graph, error) {
	d.mu.Lock()
	wrong := d.tell()
	d.recording = nil
	d.memory.arena.Hold(false)
	d.mu.Unlock()
	err := d.ask("Record", func() {
		graph, err := d.driver.EndCapture(d.stream)
		if wrong = cmp.Or(g.refused, wrong, err); wrong == nil {
			g.executable, wrong = d.driver.Instantiate(graph)
		}
		if graph != 0 {
			d.fail("Record", d.driver.FreeGraph(graph))
		}
		if wrong == nil {
			d.graphs[g] = struct{}{}
			return
		}
		d.unkeep(g)
	})
	switch {
	case err != nil:
		return nil, err
	case wrong != nil:
		return nil, fmt.Errorf("%s: the work cannot be recorded: %w", d.name, wrong)
	}
	return g, nil
}

// unkeep gives the memory of a graph back. The caller holds mu, by enter.
func (d *Device) unkeep(g *Graph) {
	for _, address := range g.kept {
		d.fail("Free", d.memory.arena.Give(uint64(address)))
	}
	g.kept = nil
}

// unrecorded reports whether a recording is going on, in which the operation cannot be. The caller holds mu.
func (d *Device) unrecorded(operation string) bool {
	if d.recording == nil {
		return false
	}
	err := &Mistake{Device: d.name, Noticed: operation, Reason: "only what the device does by itself can be recorded"}
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
