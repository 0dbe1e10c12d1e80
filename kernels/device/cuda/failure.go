package cuda

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/arena"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// fail keeps the first error until it is told: one of the driver for good, as the device's failure, one of what was
// asked of the device until it is told, or until the driver has one. While one is kept, nothing is queued. The caller holds mu.
func (d *Device) fail(operation string, err error) {
	if err == nil || d.broken() {
		return
	}
	var lacking *device.OutOfMemory
	var asked *Mistake
	if errors.As(err, &lacking) || errors.As(err, &asked) {
		d.failure = cmp.Or(d.failure, err)
		return
	}
	code := driver.CodeOf(err)
	if code == driver.OutOfMemory { // for the driver's own, such as code that it loads: what was asked for has not been queued
		d.failure = cmp.Or(d.failure, d.lacking(device.ForWorkspace, arena.BlockBytes))
		return
	}
	d.failure = &device.Failure{Device: d.name, Operation: operation, Reason: err.Error(),
		Lost: code == driver.NoDevice || code == driver.InvalidDevice || code == driver.DeviceUnavailable}
}

// tell is the error kept, if any. What ends nothing is told once. The caller holds mu.
func (d *Device) tell() error {
	err := d.failure
	if !d.broken() {
		d.failure = nil
	}
	return err
}

// broken reports whether the error kept is kept for good. The caller holds mu.
func (d *Device) broken() bool {
	var forGood *device.Failure
	return errors.As(d.failure, &forGood)
}

// Mistake says what was wrong with what the device was asked to compute, and that it was noticed on the device only. The device computes on;
// results of the operation and of what came after it are not to be trusted.
type Mistake struct {
	Device string
	// Noticed is the operation that found it, which is the same as the one in question or a later one.
	Noticed string
	Reason  string
}

func (e *Mistake) Error() string {
	return fmt.Sprintf("%s: %s (noticed by %s)", e.Device, e.Reason, e.Noticed)
}

// complaints are what kernels find wrong with numbers that only the device has. A kernel names one by its place.
var complaints = [...]string{
	badIndex:    "row %d: index %d is outside the table",
	badTarget:   "row %d: target %d is outside the vocabulary",
	badPosition: "row %d: position %d is outside the table of rotations",
}

const (
	badIndex = iota + 1 // the numbers of dialect.h
	badTarget
	badPosition
)

// statusBytes is what a kernel that complains writes: which complaint, and its two numbers.
const statusBytes = 16

// wait waits for the stream and listens to complaints. The caller holds mu, by enter.
func (d *Device) wait(operation string) {
	if d.unrecorded(operation) {
		return
	}
	var status [statusBytes / 4]int32
	piece, err := d.room(statusBytes)
	if err == nil {
		err = d.driver.ToHost(piece, d.status, d.stream)
	}
	if err == nil {
		err = d.driver.Wait(d.stream)
	}
	if err != nil {
		d.fail(operation, err)
		return
	}
	copy(bytesOf(status[:]), piece)
	switch what := int(status[0]); {
	case what == 0:
	case what < 0 || what >= len(complaints) || complaints[what] == "":
		d.fail(operation, fmt.Errorf("kernels complain in words that nobody knows: %d", what))
	default:
		d.fail(operation, d.driver.Fill(d.status, 0, statusBytes, d.stream))
		d.fail(operation, &Mistake{Device: d.name, Noticed: operation, Reason: fmt.Sprintf(complaints[what], status[1], status[2])})
	}
}
