package gpufake

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// model is what devices of a kind have in common, as NVIDIA's tools tell it.
type model struct {
	name       string
	memory     int64
	watts      float64 // the power limit
	lanes      int     // of NVLink, when the device has a domain
	mig        bool
	clock      float64 // of the multiprocessors, in hertz
	memoryHz   float64
	generation int // of PCI Express
}

// models are the presets of a fleet.
var models = map[string]model{
	"B200":     {"NVIDIA B200", 183359 * mib, 1000, 18, true, 1.965e9, 3.996e9, 5},
	"H200":     {"NVIDIA H200", 143771 * mib, 700, 18, true, 1.98e9, 3.201e9, 5},
	"H100":     {"NVIDIA H100 80GB HBM3", 81559 * mib, 700, 18, true, 1.98e9, 2.619e9, 5},
	"A100":     {"NVIDIA A100-SXM4-80GB", 81920 * mib, 400, 12, true, 1.41e9, 1.593e9, 4},
	"A100-40":  {"NVIDIA A100-SXM4-40GB", 40960 * mib, 400, 12, true, 1.41e9, 1.215e9, 4},
	"L40S":     {"NVIDIA L40S", 46068 * mib, 350, 0, false, 2.52e9, 9.001e9, 4},
	"L4":       {"NVIDIA L4", 23034 * mib, 72, 0, false, 2.04e9, 6.251e9, 4},
	"T4":       {"Tesla T4", 15360 * mib, 70, 0, false, 1.59e9, 5.001e9, 3},
	"RTX-4090": {"NVIDIA GeForce RTX 4090", 24564 * mib, 450, 0, false, 3.105e9, 10.501e9, 4},
}

func modelNames() string { return strings.Join(slices.Sorted(maps.Keys(models)), ", ") }

// units of memory, the longer ones first.
var units = []struct {
	word  string
	bytes float64
}{{"TiB", 1 << 40}, {"GiB", gib}, {"MiB", mib}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}}

// parseMemory reads "80GiB" and "512 MiB".
func parseMemory(text string) (int64, error) {
	for _, unit := range units {
		digits, ok := strings.CutSuffix(text, unit.word)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err == nil && n > 0 && n*unit.bytes <= 1<<50 {
			return int64(n * unit.bytes), nil
		}
		break
	}
	return 0, fmt.Errorf("%q is no amount of memory: write it as 80GiB or 512MiB", text)
}

// instance is a MIG profile: so many of the seven slices of compute, and memory.
type instance struct {
	profile string
	slices  int
	memory  int64
}

// parseProfile reads "1g.18gb".
func parseProfile(text string) (instance, error) {
	var part instance
	var gigabytes int64
	compute, memory, cut := strings.Cut(text, "g.")
	memory, unit := strings.CutSuffix(memory, "gb")
	n, err := strconv.Atoi(compute)
	m, memoryErr := strconv.ParseInt(memory, 10, 64)
	part.slices, gigabytes = n, m
	if !cut || !unit || err != nil || memoryErr != nil || n < 1 || n > 7 || m < 1 || m > 1000 {
		return part, fmt.Errorf("%q is no MIG profile: write slices and memory as in 1g.18gb", text)
	}
	part.profile, part.memory = fmt.Sprintf("%dg.%dgb", n, m), gigabytes*1e9
	return part, nil
}

// throttleReasons are the words of a fault.
var throttleReasons = []gpu.Throttle{gpu.ThrottlePowerCap, gpu.ThrottleThermal, gpu.ThrottleHardware, gpu.ThrottleHardwareHeat, gpu.ThrottlePowerBrake}

// recoveries are the words of a fault; "none" stands for nothing.
var recoveries = map[string]gpu.Recovery{"none": gpu.RecoverNone, string(gpu.RecoverReset): gpu.RecoverReset, string(gpu.RecoverReboot): gpu.RecoverReboot,
	string(gpu.RecoverDrain): gpu.RecoverDrain, string(gpu.RecoverDrainAndReset): gpu.RecoverDrainAndReset}
