// Package nvml is the door to NVIDIA's management library.
package nvml

import (
	"context"
	"errors"
	"fmt"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// Probe asks the machine what it has. A machine without driver or devices is no error: the inventory's
// Reason says why it is empty. A device that cannot be read is an error that names it, beside an
// inventory of the others. When ctx ends first, the question is left to the driver, which may hang on a
// sick device, and the error says so.
func Probe(ctx context.Context) (gpu.Inventory, error) { return probe(ctx, vendor()) }

// driver is what Probe asks of a vendor's library.
type driver interface {
	// open returns why there is nothing to ask, "" when there is.
	open() (reason string, err error)
	close()
	version() (string, error)
	count() (int, error)
	device(index int) (gpu.Device, error)
}

func probe(ctx context.Context, d driver) (gpu.Inventory, error) {
	type answer struct {
		inventory gpu.Inventory
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
		return gpu.Inventory{}, fmt.Errorf("the driver does not answer (%w): a device may be sick; look at the kernel's log with `dmesg`", ctx.Err())
	}
}

func ask(d driver) (gpu.Inventory, error) {
	reason, err := d.open()
	if err != nil || reason != "" {
		return gpu.Inventory{Reason: reason}, err
	}
	defer d.close()
	var inventory gpu.Inventory
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
