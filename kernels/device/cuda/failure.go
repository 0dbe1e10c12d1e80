package cuda

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/arena"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// fail keeps an error until it is told. One of the driver is kept for good, as the device's failure, unless it keeps something from being
// recorded; a lack of memory until this user has been told, a mistake until every user has: who made it is not known. While one is kept, nothing is queued for those who have to
// be told. The caller holds mu.
func (d *Device) fail(operation string, err error) {
	if err == nil || d.failure != nil {
		return
	}
	var lacking *device.OutOfMemory
	var asked *Mistake
	code := driver.CodeOf(err)
	switch {
	case errors.As(err, &lacking):
		d.lack = cmp.Or(d.lack, err)
	case errors.As(err, &asked):
		d.mistake = asked
		d.mistakes++
	case code == driver.OutOfMemory: // for the driver's own, such as code that it loads: what was asked for has not been queued
		d.lack = cmp.Or(d.lack, d.lacking(device.ForWorkspace, arena.BlockBytes))
	case d.recording != nil: // nothing was queued: what cannot be recorded may well be computed
		d.recording.refused = cmp.Or(d.recording.refused, err)
		d.lack = cmp.Or(d.lack, err)
	default:
		d.failure = &device.Failure{Device: d.name, Operation: operation, Reason: err.Error(),
			Lost: code == driver.NoDevice || code == driver.InvalidDevice || code == driver.DeviceUnavailable}
	}
}

// kept is the error that this user has to be told, if any. The caller holds mu.
func (d *Device) kept() error {
	switch {
	case d.failure != nil:
		return d.failure
	case d.lack != nil:
		return d.lack
	case d.heard != d.mistakes:
		return d.mistake
	}
	return nil
}

// tell is the error kept, if any. What ends nothing is told once. The caller holds mu.
func (d *Device) tell() error {
	err := d.kept()
	d.lack, d.heard = nil, d.mistakes
	return err
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
