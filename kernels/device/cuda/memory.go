package cuda

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// block is one allocation.
type block struct {
	device  *Device
	address pointer
	bytes   int64
	purpose device.Purpose
}

// DeviceName is the device's.
func (b *block) DeviceName() string { return b.device.name }

// memory is what the device has given out.
type memory struct {
	bytes, peak int64
	held        map[*block]struct{}
}

// close gives everything back to the driver.
func (m *memory) close(driver *driver.Driver) error {
	var first error
	for b := range m.held {
		if err := driver.Free(b.address); err != nil && first == nil {
			first = err
		}
	}
	m.held = nil
	return first
}

// at is the address of a buffer's first element; 0 for an absent one.
func (d *Device) at(operation string, b device.Buffer) pointer {
	if b.Absent() {
		return 0
	}
	m, ok := b.Memory().(*block)
	if !ok || m.device != d {
		panic(fmt.Sprintf("cuda: %s: a buffer of device %q on device %q", operation, b.Memory().DeviceName(), d.name))
	}
	return m.address + pointer(b.Start()*b.DType().Size())
}

// Allocate returns a zeroed buffer.
func (d *Device) Allocate(p device.Purpose, t device.DType, n int) (device.Buffer, error) {
	if n < 0 {
		panic(fmt.Sprintf("device: Allocate: want a length of at least 0, got %d", n))
	}
	if !d.enter("Allocate") {
		return device.Buffer{}, d.failed()
	}
	defer d.leave()
	m, err := d.reserve(p, int64(n)*int64(t.Size()))
	if err != nil {
		return device.Buffer{}, err
	}
	d.fail("Allocate", d.driver.Fill(m.address, 0, max(m.bytes, 1), d.stream))
	return device.NewBuffer(m, t, n), d.failure
}

// reserve takes memory. The caller holds mu, by enter.
func (d *Device) reserve(p device.Purpose, n int64) (*block, error) {
	m := &block{device: d, bytes: n, purpose: p}
	var err error
	if m.address, err = d.driver.Alloc(max(n, 1)); err != nil {
		return nil, err
	}
	if d.memory.held == nil {
		d.memory.held = map[*block]struct{}{}
	}
	d.memory.held[m] = struct{}{}
	d.memory.bytes += n
	d.memory.peak = max(d.memory.peak, d.memory.bytes)
	return m, nil
}

// Free gives an allocation back.
func (d *Device) Free(b device.Buffer) {
	if b.Absent() {
		return
	}
	m := b.Memory().(*block)
	if !d.enter("Free") {
		return
	}
	defer d.leave()
	d.give(m)
}

func (d *Device) give(m *block) {
	d.fail("Free", d.driver.Free(m.address))
	delete(d.memory.held, m)
	d.memory.bytes -= m.bytes
}

// Usage is the memory of allocations.
func (d *Device) Usage() device.Usage {
	d.mu.Lock()
	defer d.mu.Unlock()
	return device.Usage{Bytes: d.memory.bytes, Peak: d.memory.peak}
}
