//go:build linux && cgo

package nvml

import (
	"cmp"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// throttleBits are the reasons that hold clocks down. Others say that the device is idle or that somebody chose
// its clocks.
var throttleBits = []struct {
	bit    uint64
	reason gpu.Throttle
}{
	{nvml.ClocksThrottleReasonSwPowerCap, gpu.ThrottlePowerCap},
	{nvml.ClocksThrottleReasonSwThermalSlowdown, gpu.ThrottleThermal},
	{nvml.ClocksThrottleReasonHwThermalSlowdown, gpu.ThrottleHardwareHeat},
	{nvml.ClocksThrottleReasonHwPowerBrakeSlowdown, gpu.ThrottlePowerBrake},
}

func (r *reader) throttle() []gpu.Throttle {
	bits, _ := field(r, "nvmlDeviceGetCurrentClocksEventReasons", r.device.GetCurrentClocksEventReasons)
	if bits == nil {
		bits, _ = field(r, "nvmlDeviceGetCurrentClocksThrottleReasons", r.device.GetCurrentClocksThrottleReasons)
	}
	if bits == nil {
		return nil
	}
	var out []gpu.Throttle
	for _, t := range throttleBits {
		if *bits&t.bit != 0 {
			out = append(out, t.reason)
		}
	}
	// The board's brake is set beside its cause where the board knows it.
	const caused = nvml.ClocksThrottleReasonHwThermalSlowdown | nvml.ClocksThrottleReasonHwPowerBrakeSlowdown
	if *bits&nvml.ClocksThrottleReasonHwSlowdown != 0 && *bits&caused == 0 {
		out = append(out, gpu.ThrottleHardware)
	}
	return out
}

// ecc counts memory errors; nil when the device does not correct any, or does not tell all four counts.
func (r *reader) ecc() *gpu.ECC {
	mode, _ := field(r, "nvmlDeviceGetEccMode", func() (nvml.EnableState, nvml.Return) {
		current, _, code := r.device.GetEccMode()
		return current, code
	})
	if mode == nil || *mode != nvml.FEATURE_ENABLED {
		return nil
	}
	complete := true
	count := func(kind nvml.MemoryErrorType, since nvml.EccCounterType) int64 {
		n, _ := field(r, "nvmlDeviceGetTotalEccErrors", func() (uint64, nvml.Return) { return r.device.GetTotalEccErrors(kind, since) })
		if n == nil {
			complete = false
			return 0
		}
		return int64(*n)
	}
	ecc := gpu.ECC{
		CorrectedVolatile:    count(nvml.MEMORY_ERROR_TYPE_CORRECTED, nvml.VOLATILE_ECC),
		UncorrectedVolatile:  count(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC),
		CorrectedAggregate:   count(nvml.MEMORY_ERROR_TYPE_CORRECTED, nvml.AGGREGATE_ECC),
		UncorrectedAggregate: count(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.AGGREGATE_ECC),
	}
	if !complete {
		return nil
	}
	return &ecc
}

func (r *reader) remap() *gpu.Remap {
	remap, _ := field(r, "nvmlDeviceGetRemappedRows", func() (gpu.Remap, nvml.Return) {
		correctable, uncorrectable, pending, failed, code := r.device.GetRemappedRows()
		return gpu.Remap{Correctable: correctable, Uncorrectable: uncorrectable, Pending: pending, Failed: failed}, code
	})
	return remap
}

// pcie is nil when the device does not tell its speed; a count of replays that is not told is 0.
func (r *reader) pcie() *gpu.PCIe {
	generation, _ := field(r, "nvmlDeviceGetCurrPcieLinkGeneration", r.device.GetCurrPcieLinkGeneration)
	width, _ := field(r, "nvmlDeviceGetCurrPcieLinkWidth", r.device.GetCurrPcieLinkWidth)
	if generation == nil || width == nil {
		return nil
	}
	out := gpu.PCIe{Generation: *generation, MaxGeneration: *generation, Width: *width, MaxWidth: *width}
	if most, _ := field(r, "nvmlDeviceGetMaxPcieLinkGeneration", r.device.GetMaxPcieLinkGeneration); most != nil {
		out.MaxGeneration = *most
	}
	if most, _ := field(r, "nvmlDeviceGetMaxPcieLinkWidth", r.device.GetMaxPcieLinkWidth); most != nil {
		out.MaxWidth = *most
	}
	if replays, _ := field(r, "nvmlDeviceGetPcieReplayCounter", r.device.GetPcieReplayCounter); replays != nil {
		out.Replays = int64(*replays)
	}
	return &out
}

// linkErrors are the counts that are added up.
var linkErrors = []nvml.NvLinkErrorCounter{nvml.NVLINK_ERROR_DL_REPLAY, nvml.NVLINK_ERROR_DL_RECOVERY, nvml.NVLINK_ERROR_DL_CRC_FLIT, nvml.NVLINK_ERROR_DL_CRC_DATA}

// links are the lanes, or none when not one of them is up: a board that could be connected and is not.
func (r *reader) links() []gpu.Link {
	var out []gpu.Link
	up := false
	for lane := range nvml.NVLINK_MAX_LINKS {
		state, _ := field(r, "nvmlDeviceGetNvLinkState", func() (nvml.EnableState, nvml.Return) { return r.device.GetNvLinkState(lane) })
		if state == nil {
			break
		}
		link := gpu.Link{Up: *state == nvml.FEATURE_ENABLED}
		for _, kind := range linkErrors {
			n, _ := field(r, "nvmlDeviceGetNvLinkErrorCounter", func() (uint64, nvml.Return) { return r.device.GetNvLinkErrorCounter(lane, kind) })
			if n != nil {
				link.Errors += int64(*n)
			}
		}
		up = up || link.Up
		out = append(out, link)
	}
	if !up {
		return nil
	}
	return out
}

// processes are those that compute, draw or share the device through MPS, each once, by id.
func (r *reader) processes() []gpu.Process {
	lists := []struct {
		symbol string
		call   func() ([]nvml.ProcessInfo, nvml.Return)
	}{
		{"nvmlDeviceGetComputeRunningProcesses", r.device.GetComputeRunningProcesses},
		{"nvmlDeviceGetGraphicsRunningProcesses", r.device.GetGraphicsRunningProcesses},
		{"nvmlDeviceGetMPSComputeRunningProcesses", r.device.GetMPSComputeRunningProcesses},
	}
	var out []gpu.Process
	for _, list := range lists {
		told, _ := field(r, list.symbol, list.call)
		if told == nil {
			continue
		}
		for _, info := range *told {
			p := r.library.process(int(info.Pid))
			if info.UsedGpuMemory != untold {
				p.MemoryUsedBytes = int64(info.UsedGpuMemory)
			}
			at := slices.IndexFunc(out, func(q gpu.Process) bool { return q.PID == p.PID })
			if at < 0 {
				out = append(out, p)
				continue
			}
			out[at].MemoryUsedBytes = max(out[at].MemoryUsedBytes, p.MemoryUsedBytes)
		}
	}
	slices.SortFunc(out, func(a, b gpu.Process) int { return cmp.Compare(a.PID, b.PID) })
	return out
}

// untold is the memory of a process of which the driver does not tell it.
const untold = 1<<64 - 1
