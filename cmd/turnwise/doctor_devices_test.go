//go:build slim

package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// examined is a source with fixed answers.
type examined struct {
	inventory gpu.Inventory
	readings  []gpu.Reading
	err       error
}

func (e examined) Inventory(context.Context) (gpu.Inventory, error)   { return e.inventory, e.err }
func (e examined) Read(context.Context) ([]gpu.Reading, error)        { return e.readings, e.err }
func (e examined) Watch(ctx context.Context, _ func(gpu.Event)) error { return ctx.Err() }

func h200s(n int) []gpu.Device {
	var out []gpu.Device
	for i := range n {
		out = append(out, gpu.Device{UUID: "GPU-" + string(rune('a'+i)), Kind: gpu.GPU, Name: "NVIDIA H200", Index: i, MemoryTotalBytes: 141 << 30})
	}
	return out
}

func TestDoctorExaminesDevices(t *testing.T) {
	processor := examined{inventory: gpu.Inventory{Devices: []gpu.Device{{UUID: "CPU-1", Kind: gpu.CPU, Name: "Xeon", MemoryTotalBytes: 64 << 30}}},
		readings: []gpu.Reading{{UUID: "CPU-1"}}}
	reading := func(change func(*gpu.Reading)) []gpu.Reading {
		r := gpu.Reading{UUID: "GPU-a"}
		change(&r)
		return []gpu.Reading{r}
	}
	fleet := gpu.Inventory{Driver: "580.1", Devices: h200s(2)}
	const listed = "processor Xeon with 64.0 GiB; driver 580.1, 2 × NVIDIA H200 with 141.0 GiB"
	for _, c := range []struct {
		name   string
		source examined
		found  string
		wrong  string // what the error has
		note   string
	}{
		{"no driver", examined{inventory: gpu.Inventory{Reason: gpu.NoDriver}}, "processor Xeon with 64.0 GiB; " + gpu.NoDriver + ", so that runs use the processor", "", ""},
		{"all is well", examined{inventory: fleet, readings: reading(func(*gpu.Reading) {})}, listed, "", ""},
		{"pending rows", examined{inventory: fleet, readings: reading(func(r *gpu.Reading) { r.Remap = &gpu.Remap{Pending: true} })}, "",
			"turnwise gpu drain GPU-a --why remap-pending`, and when nothing runs on it `sudo nvidia-smi --gpu-reset -i GPU-a`", ""},
		{"bad memory", examined{inventory: fleet, readings: reading(func(r *gpu.Reading) { r.Remap = &gpu.Remap{Failed: true} })}, "", "have it replaced", ""},
		{"wants a reboot", examined{inventory: fleet, readings: reading(func(r *gpu.Reading) { r.Recovery = gpu.RecoverReboot })}, "", "sudo systemctl reboot", ""},
		{"wants its links idle", examined{inventory: fleet, readings: reading(func(r *gpu.Reading) { r.Recovery = gpu.RecoverDrain })}, "", "nvidia-smi -q -i GPU-a", ""},
		{"lost", examined{inventory: fleet, readings: reading(func(r *gpu.Reading) { r.Gone = "it fell off the bus" })}, "", "GPU-a does not answer: it fell off the bus: `turnwise gpu drain", ""},
		{"cannot be read", examined{inventory: fleet, err: errors.New("device 1 of 3: lost")}, "", "device 1 of 3: lost: look for NVRM lines", ""},
		{"throttles", examined{inventory: fleet, readings: reading(func(r *gpu.Reading) { r.Throttle = []gpu.Throttle{gpu.ThrottlePowerCap} })}, listed, "",
			"GPU-a runs slower than it could: power cap"},
		{"memory errors", examined{inventory: fleet, readings: reading(func(r *gpu.Reading) { r.ECC = &gpu.ECC{UncorrectedVolatile: 2} })}, listed, "", "2 memory errors"},
		{"used by others", examined{inventory: fleet, readings: reading(func(r *gpu.Reading) { r.Processes = []gpu.Process{{PID: 7, MemoryUsedBytes: 1 << 30}} })}, listed, "",
			"1.0 GiB in use by programs"},
	} {
		var notes strings.Builder
		got, err := (&doctor{app: &app{err: &notes}}).examineDevices(t.Context(), []gpu.Source{processor, c.source})
		if got != c.found || (err != nil) != (c.wrong != "") {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.wrong) || !strings.HasPrefix(err.Error(), listed)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.wrong)
		}
		if !strings.Contains(notes.String(), c.note) || c.note == "" && notes.String() != "" {
			t.Errorf("%s: noted %q, want %q", c.name, notes.String(), c.note)
		}
	}
}
