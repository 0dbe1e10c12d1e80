// Package gpu says which accelerators this machine has, in our words. What the vendor calls things
// stays behind its door: no caller sees a return code of NVML. "No GPU" is a normal answer.
package gpu

import (
	"context"
	"errors"
	"fmt"
)

// Device is one accelerator.
type Device struct {
	// UUID names the device for good; it survives a reboot and another order of the slots.
	UUID string `json:"uuid"`
	// Name is the model's name.
	Name string `json:"name"`
	// Index is the device's place in PCI bus order, from 0.
	Index int `json:"index"`
	// MemoryTotalBytes and MemoryUsedBytes count the device's own memory.
	MemoryTotalBytes int64 `json:"memory_total_bytes"`
	MemoryUsedBytes  int64 `json:"memory_used_bytes"`
}

// Inventory is what a machine has.
type Inventory struct {
	// Driver is the driver's version; "" when there is none.
	Driver string `json:"driver"`
	// Reason says why there are no devices; "" when there are.
	Reason string `json:"reason"`
	// Devices are in PCI bus order.
	Devices []Device `json:"devices"`
}

// NoDriver is the Reason on a machine without an NVIDIA driver.
const NoDriver = "no NVIDIA driver on this machine"

// Probe asks the machine what it has. A machine without driver or devices is no error: the inventory's
// Reason says why it is empty. A device that cannot be read is an error that names it, beside an
// inventory of the others. When ctx ends first, the question is left to the driver, which may hang on a
// sick device, and the error says so.
func Probe(ctx context.Context) (Inventory, error) { return probe(ctx, vendor()) }

// driver is what Probe asks of a vendor's library.
type driver interface {
	// open returns why there is nothing to ask, "" when there is.
	open() (reason string, err error)
	close()
	version() (string, error)
	count() (int, error)
	device(index int) (Device, error)
}

func probe(ctx context.Context, d driver) (Inventory, error) {
	type answer struct {
		inventory Inventory
		err       error
	}
	answers := make(chan answer, 1)
	go func() {
		inventory, err := ask(d)
		answers <- answer{inventory, err}
	}()
	select {
	case a := <-answers:
		return a.inventory, a.err
	case <-ctx.Done():
		return Inventory{}, fmt.Errorf("the driver does not answer (%w): a device may be sick; look at the kernel's log with `dmesg`", ctx.Err())
	}
}

func ask(d driver) (Inventory, error) {
	reason, err := d.open()
	if err != nil || reason != "" {
		return Inventory{Reason: reason}, err
	}
	defer d.close()
	var inventory Inventory
	if inventory.Driver, err = d.version(); err != nil {
		return inventory, fmt.Errorf("driver version: %w", err)
	}
	n, err := d.count()
	if err != nil {
		return inventory, fmt.Errorf("count devices: %w", err)
	}
	if n == 0 {
		inventory.Reason = "the NVIDIA driver sees no device"
	}
	var failed []error
	for i := range n {
		device, err := d.device(i)
		if err != nil {
			failed = append(failed, fmt.Errorf("device %d of %d: %w", i, n, err))
			continue
		}
		inventory.Devices = append(inventory.Devices, device)
	}
	if n > 0 && len(inventory.Devices) == 0 {
		inventory.Reason = "no device can be read"
	}
	return inventory, errors.Join(failed...)
}
