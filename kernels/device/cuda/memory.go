package cuda

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/arena"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// block is one allocation.
type block struct {
	device  *core
	address pointer
	bytes   int64 // as asked for
	purpose device.Purpose
	freed   atomic.Bool
}

// DeviceName is the device's.
func (b *block) DeviceName() string { return b.device.name }

// memory is what the device has given out.
type memory struct {
	arena       *arena.Arena
	poison      bool
	bytes, peak int64
	purposes    [device.ForWorkspace + 1]int64
	// scratch is what recordings work in, by address.
	scratch map[pointer]*scratch
}

func newMemory(c *core, o Options) memory {
	return memory{arena: arena.New(fromDriver{c}, o.Separate), poison: o.poison, scratch: map[pointer]*scratch{}}
}

// fromDriver is where the arena's memory comes from.
type fromDriver struct{ of *core }

func (f fromDriver) Take(bytes int64) (uint64, error) {
	address, err := f.of.driver.Alloc(bytes)
	return uint64(address), err
}

// Give waits for the work of the device that has the memory, as the driver is known to do and nowhere promises. It does not wait for
// the whole GPU, which the driver refuses while another device of the process records.
func (f fromDriver) Give(address uint64) error {
	if err := f.of.idle(); err != nil {
		return err
	}
	return f.of.driver.Free(pointer(address))
}

// close gives everything back to the driver.
func (m *memory) close() error { return m.arena.Close() }

// holdings are what each purpose holds, the largest first.
func (m *memory) holdings() []device.Holding {
	var all []device.Holding
	for _, p := range device.Purposes() {
		if n := m.purposes[p]; n > 0 {
			all = append(all, device.Holding{For: p, Bytes: n})
		}
	}
	slices.SortStableFunc(all, func(a, b device.Holding) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return all
}

// at is the address of a buffer's first element; 0 for an absent one.
func (d *Device) at(operation string, b device.Buffer) pointer {
	if b.Absent() {
		return 0
	}
	m := d.owned(operation, b)
	if m.freed.Load() {
		panic(fmt.Sprintf("cuda: %s: the allocation of %d bytes has been freed", operation, m.bytes))
	}
	return m.address + pointer(b.Start()*b.DType().Size())
}

// owned is the allocation that a buffer is of, which has to be this device's.
func (d *Device) owned(operation string, b device.Buffer) *block {
	m, ok := b.Memory().(*block)
	switch {
	case !ok:
		panic(fmt.Sprintf("cuda: %s: a buffer belongs to %s, want %s", operation, b.Memory().DeviceName(), d.name))
	case m.device != d.core && m.device.name == d.name:
		panic(fmt.Sprintf("cuda: %s: the buffer belongs to another device of the same name, %s", operation, d.name))
	case m.device != d.core:
		panic(fmt.Sprintf("cuda: %s: a buffer belongs to %s, want %s", operation, m.device.name, d.name))
	}
	return m
}

// Allocate returns a zeroed buffer.
func (d *Device) Allocate(p device.Purpose, t device.DType, n int) (device.Buffer, error) {
	if n < 0 {
		panic(fmt.Sprintf("cuda: Allocate: want a length of at least 0, got %d", n))
	}
	size := t.Size()
	var b device.Buffer
	err := d.ask("Allocate", func() {
		m, err := d.reserveFor(p, int64(n)*int64(size), false)
		if err != nil {
			d.fail("Allocate", err)
			return
		}
		if d.fail("Allocate", d.driver.Fill(m.address, 0, max(m.bytes, 1), d.stream)); d.kept() != nil {
			d.give(m)
			return
		}
		b = device.NewBuffer(m, t, n)
	})
	return b, err
}

// reserve takes memory, whose contents are whatever they were; workspace is given back by the operation that takes it, if that can be
// recorded. The error of too little memory is a *device.OutOfMemory, that of the driver is kept. The caller holds mu, by enter.
func (d *Device) reserve(p device.Purpose, n int64) (*block, error) {
	return d.reserveFor(p, n, p == device.ForWorkspace)
}

// reserveFor is reserve that says whether the memory is for a moment. The caller holds mu, by enter.
func (d *Device) reserveFor(p device.Purpose, n int64, moment bool) (*block, error) {
	address, err := d.hand(max(n, 1), moment)
	if driver.CodeOf(err) == driver.OutOfMemory {
		return nil, d.lacking(p, n)
	}
	if d.fail("Allocate", err); err != nil {
		return nil, d.kept()
	}
	m := &block{device: d.core, address: address, bytes: n, purpose: p}
	d.memory.purposes[p] += n
	d.memory.bytes += n
	d.memory.peak = max(d.memory.peak, d.memory.bytes)
	if d.memory.poison {
		d.fail("Allocate", d.driver.Fill(m.address, 0xff, max(n, 1), d.stream))
	}
	return m, nil
}

// lacking is the error of having no n bytes for a purpose.
func (d *Device) lacking(p device.Purpose, n int64) error {
	e := &device.OutOfMemory{Device: d.name, Wanted: n, For: p, Held: d.memory.holdings(), Cached: d.memory.unused()}
	var err error
	if e.Free, e.Total, err = d.driver.MemoryInfo(); err != nil && driver.CodeOf(err) != driver.OutOfMemory {
		d.fail("Allocate", err)
		return d.kept()
	}
	return e
}

// unused is what is taken from the driver and not asked for: cached blocks, and what rounding adds to those in use.
func (m *memory) unused() int64 { return m.arena.Taken() - m.bytes }

// Free gives an allocation back. A slice of one, one of another device and one freed before are a programmer's error
// and panic.
func (d *Device) Free(b device.Buffer) {
	if b.Absent() {
		return
	}
	m := d.owned("Free", b)
	if b.Start() != 0 || b.Bytes() != m.bytes {
		panic(fmt.Sprintf("cuda: Free: want the allocation of %d bytes, got %d from element %d", m.bytes, b.Bytes(), b.Start()))
	}
	if m.freed.Load() {
		panic(fmt.Sprintf("cuda: Free: the allocation of %d bytes has been freed before", m.bytes))
	}
	if !d.enterToFree("Free") {
		return
	}
	defer d.leave()
	d.give(m)
}

// give takes back what reserve gave; work queued before may still use it. The caller holds mu, by enter.
func (d *Device) give(m *block) {
	if m.freed.Swap(true) {
		panic(fmt.Sprintf("cuda: the allocation of %d bytes has been freed before", m.bytes))
	}
	d.memory.purposes[m.purpose] -= m.bytes
	d.memory.bytes -= m.bytes
	d.takeBack(m.address, m.bytes)
}

// Usage is the memory of allocations, as they were asked for.
func (d *Device) Usage() device.Usage {
	d.mu.Lock()
	defer d.mu.Unlock()
	return device.Usage{Bytes: d.memory.bytes, Peak: d.memory.peak}
}

// Occupied is a device's memory as its driver sees it, in bytes.
type Occupied struct {
	// Taken is what this device has taken from the driver for allocations, and Cached how much of it is not in use.
	Taken, Cached int64
	// Free and Total are the GPU's. Total − Free counts besides what other processes hold, and the driver itself for each.
	Free, Total int64
}

// Occupied asks the driver, for comparison with what other tools show.
func (d *Device) Occupied() (Occupied, error) {
	var o Occupied
	err := d.ask("Occupied", func() {
		o = Occupied{Taken: d.memory.arena.Taken(), Cached: d.memory.arena.Cached()}
		var err error
		o.Free, o.Total, err = d.driver.MemoryInfo()
		d.fail("Occupied", err)
	})
	return o, err
}
