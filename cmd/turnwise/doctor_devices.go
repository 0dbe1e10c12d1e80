package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// devicesTimeout bounds how long a sick device may keep the doctor waiting.
const devicesTimeout = 10 * time.Second

// devices looks at what this machine has: its processor, the driver, each device and what is wrong with it.
func (d *doctor) devices(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, devicesTimeout)
	defer cancel()
	sources := ownSources()
	text, err := d.examineDevices(ctx, sources)
	if err == nil {
		d.noteComputing(ofSources(ctx, sources))
	}
	return text, err
}

// noteComputing says what of the GPUs that are there runs do not compute on, and why.
func (d *doctor) noteComputing(known []gpu.Device) {
	if !slices.ContainsFunc(known, func(device gpu.Device) bool { return device.Kind == gpu.GPU }) {
		return
	}
	for _, lack := range onMachine(nil, known).lacks {
		switch {
		case lack.Fast:
			d.app.note("note: runs with device=cuda need device.exact=true here: %s", lack.Why)
		default:
			d.app.note("note: runs with device=cuda do not compute here: %s", lack.Why)
		}
	}
}

func (d *doctor) examineDevices(ctx context.Context, sources []gpu.Source) (string, error) {
	var found, wrong []string
	for _, source := range sources {
		inventory, err := source.Inventory(ctx)
		if err != nil {
			wrong = append(wrong, err.Error()+": "+lookFurther)
		}
		if text := inventoryText(inventory); text != "" {
			found = append(found, text)
		}
		readings, err := source.Read(ctx)
		if err != nil && len(wrong) == 0 { // what an inventory has said once is enough
			wrong = append(wrong, err.Error()+": "+lookFurther)
		}
		for _, reading := range readings {
			condition := reading.Condition()
			for _, fault := range condition.Standing() {
				wrong = append(wrong, fmt.Sprintf("%s %s: %s", reading.UUID, fault, remedy(reading.UUID, fault)))
			}
			if note := conditionNote(condition); note != "" {
				d.app.note("note: %s %s", reading.UUID, note)
			}
		}
	}
	text := strings.Join(found, "; ")
	if len(wrong) > 0 {
		return "", errors.New(strings.Join(append([]string{text}, wrong...), "\n  "))
	}
	return text, nil
}

// lookFurther is how to find out more about a device that cannot be read.
const lookFurther = "look for NVRM lines with `sudo dmesg`, then boot the machine"

// inventoryText counts devices of the same kind and model together, instances with what they are part of.
func inventoryText(inventory gpu.Inventory) string {
	var parts []string
	if inventory.Driver != "" {
		parts = append(parts, "driver "+inventory.Driver)
	}
	for i, device := range inventory.Devices {
		alike := func(other gpu.Device) bool {
			return other.Kind == device.Kind && other.Name == device.Name && other.MemoryTotalBytes == device.MemoryTotalBytes
		}
		if slices.ContainsFunc(inventory.Devices[:i], alike) {
			continue
		}
		text := fmt.Sprintf("%s with %s", device.Name, bytesText(uint64(device.MemoryTotalBytes)))
		if n := len(slices.Collect(filtered(inventory.Devices, alike))); n > 1 {
			text = fmt.Sprintf("%d × %s", n, text)
		}
		if device.Kind == gpu.CPU {
			text = "processor " + text
		}
		parts = append(parts, text)
	}
	if inventory.Reason != "" {
		parts = append(parts, inventory.Reason+", so that runs use the processor")
	}
	return strings.Join(parts, ", ")
}

func filtered(devices []gpu.Device, is func(gpu.Device) bool) func(yield func(gpu.Device) bool) {
	return func(yield func(gpu.Device) bool) {
		for _, device := range devices {
			if is(device) && !yield(device) {
				return
			}
		}
	}
}

// remedy is the command to try for a device with a fault that lasts.
func remedy(uuid string, fault gpu.Fault) string {
	drain := fmt.Sprintf("`turnwise gpu drain %s --why %s`", uuid, fault.Name)
	switch fault.Action {
	case gpu.Drain, gpu.Reset:
		return fmt.Sprintf("%s, and when nothing runs on it `sudo nvidia-smi --gpu-reset -i %s`; if that fails, boot the machine", drain, uuid)
	case gpu.Reboot:
		return drain + ", and when nothing runs on the machine `sudo systemctl reboot`"
	case gpu.Replace:
		return drain + ", `sudo nvidia-bug-report.sh`, and have it replaced"
	default:
		return fmt.Sprintf("`nvidia-smi -q -i %s` says more", uuid)
	}
}

// conditionNote is what a person should know of a device that may be used nevertheless.
func conditionNote(c gpu.Condition) string {
	var notes []string
	if len(c.Throttle) > 0 {
		var reasons []string
		for _, reason := range c.Throttle {
			reasons = append(reasons, strings.ReplaceAll(string(reason), "_", " "))
		}
		notes = append(notes, "runs slower than it could: "+strings.Join(reasons, ", "))
	}
	if c.Uncorrected > 0 {
		notes = append(notes, plural(int(c.Uncorrected), "memory error")+" that could not be corrected since the driver was loaded (`nvidia-smi -q -d ECC,ROW_REMAPPER` says where)")
	}
	if c.ForeignBytes > 0 {
		notes = append(notes, bytesText(uint64(c.ForeignBytes))+" in use by programs that are not turnwise's (`nvidia-smi` lists them)")
	}
	return strings.Join(notes, "; ")
}
