//go:build linux && cgo

package nvml

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// read reads a board. What an instance is told of has its board's heat, clocks, errors, links to the host and
// recovery action, which they share; power and load are told for the whole alone.
func (l *library) read(index int) (report, error) {
	device, uuid, err := l.device(index)
	if err != nil {
		return report{}, err
	}
	parts, split, err := l.instances(device)
	if err != nil {
		return report{}, err
	}
	whole := l.whole(device, uuid)
	if !split {
		return report{uuid, []gpu.Reading{whole}}, nil
	}
	out := report{uuid: uuid}
	for _, part := range parts {
		out.readings = append(out.readings, l.part(whole, part))
	}
	return out, nil
}

func (l *library) whole(device nvml.Device, uuid string) gpu.Reading {
	r := reader{library: l, device: device}
	reading := gpu.Reading{UUID: uuid}
	reading.MemoryUsedBytes = r.memory()
	load, _ := field(&r, "nvmlDeviceGetUtilizationRates", device.GetUtilizationRates)
	if load != nil {
		busy, moving := float64(load.Gpu)/100, float64(load.Memory)/100
		reading.Utilization, reading.MemoryActivity = &busy, &moving
	}
	reading.PowerWatts = scaled(&r, "nvmlDeviceGetPowerUsage", 1e-3, device.GetPowerUsage)
	reading.PowerLimitWatts = scaled(&r, "nvmlDeviceGetEnforcedPowerLimit", 1e-3, device.GetEnforcedPowerLimit)
	reading.EnergyJoules = scaled(&r, "nvmlDeviceGetTotalEnergyConsumption", 1e-3, device.GetTotalEnergyConsumption)
	reading.TemperatureCelsius = scaled(&r, "nvmlDeviceGetTemperature", 1, func() (uint32, nvml.Return) { return device.GetTemperature(nvml.TEMPERATURE_GPU) })
	reading.ClockHertz = scaled(&r, "nvmlDeviceGetClockInfo", 1e6, func() (uint32, nvml.Return) { return device.GetClockInfo(nvml.CLOCK_SM) })
	reading.MemoryClockHertz = scaled(&r, "nvmlDeviceGetClockInfo", 1e6, func() (uint32, nvml.Return) { return device.GetClockInfo(nvml.CLOCK_MEM) })
	reading.MemoryTemperature, reading.Recovery = r.fieldValues()
	reading.Throttle = r.throttle()
	reading.ECC, reading.Remap, reading.PCIe, reading.Links = r.ecc(), r.remap(), r.pcie(), r.links()
	reading.Processes = r.processes()
	if r.gone != "" {
		return gpu.Reading{UUID: uuid, Gone: r.gone}
	}
	return reading
}

func (l *library) part(whole gpu.Reading, part part) gpu.Reading {
	if whole.Gone != "" {
		return gpu.Reading{UUID: part.uuid, Gone: whole.Gone}
	}
	r := reader{library: l, device: part.device}
	reading := whole
	reading.UUID = part.uuid
	reading.Utilization, reading.MemoryActivity, reading.Links = nil, nil, nil
	reading.PowerWatts, reading.PowerLimitWatts, reading.EnergyJoules = nil, nil, nil
	reading.MemoryUsedBytes, reading.Processes = r.memory(), r.processes()
	if r.gone != "" {
		return gpu.Reading{UUID: part.uuid, Gone: r.gone}
	}
	return reading
}

// reader asks a device one thing after the other. The first answer that says that the device is lost ends it,
// because each further one may take as long as the driver's patience.
type reader struct {
	library *library
	device  nvml.Device
	gone    string
}

// field is what a device tells, nil when it does not.
func field[T any](r *reader, symbol string, call func() (T, nvml.Return)) (*T, nvml.Return) {
	if r.gone != "" {
		return nil, nvml.ERROR_GPU_IS_LOST
	}
	value, code := ask(r.library, symbol, call)
	if code != nvml.SUCCESS {
		r.gone = lostCodes[code]
		return nil, code
	}
	return &value, code
}

// scaled is a number in our unit.
func scaled[T int | uint32 | uint64](r *reader, symbol string, unit float64, call func() (T, nvml.Return)) *float64 {
	value, _ := field(r, symbol, call)
	if value == nil {
		return nil
	}
	out := float64(*value) * unit
	return &out
}

// memory is what programs use, without what the driver keeps for itself when it tells the two apart.
func (r *reader) memory() *int64 {
	if r.library.has["nvmlDeviceGetMemoryInfo_v2"] {
		if memory, _ := field(r, "nvmlDeviceGetMemoryInfo_v2", r.device.GetMemoryInfo_v2); memory != nil {
			used := int64(memory.Used)
			return &used
		}
	}
	if r.gone != "" {
		return nil
	}
	memory, code := r.device.GetMemoryInfo()
	switch code {
	case nvml.SUCCESS:
		used := int64(memory.Used)
		return &used
	case nvml.ERROR_NOT_SUPPORTED:
		return nil
	default: // every device that works tells this
		r.gone = meaning(code)
		return nil
	}
}

// fieldValues are what is asked for by number: the memory's temperature and the recovery action.
func (r *reader) fieldValues() (memoryTemperature *float64, recovery gpu.Recovery) {
	values := []nvml.FieldValue{{FieldId: nvml.FI_DEV_MEMORY_TEMP}, {FieldId: nvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
	answer, _ := field(r, "nvmlDeviceGetFieldValues", func() ([]nvml.FieldValue, nvml.Return) { return values, r.device.GetFieldValues(values) })
	if answer == nil {
		return nil, gpu.RecoverNone
	}
	if celsius, ok := number(values[0]); ok {
		memoryTemperature = &celsius
	}
	if action, ok := number(values[1]); ok {
		recovery = recoveryOf(nvml.DeviceGpuRecoveryAction(action))
	}
	return memoryTemperature, recovery
}

// number decodes one field value. Whole numbers are exact up to 2^53, which nothing asked for here reaches.
func number(v nvml.FieldValue) (float64, bool) {
	if nvml.Return(v.NvmlReturn) != nvml.SUCCESS {
		return 0, false
	}
	bits := binary.NativeEndian.Uint64(v.Value[:])
	short := binary.NativeEndian.Uint32(v.Value[:4])
	switch nvml.ValueType(v.ValueType) {
	case nvml.VALUE_TYPE_DOUBLE:
		return math.Float64frombits(bits), true
	case nvml.VALUE_TYPE_UNSIGNED_INT:
		return float64(short), true
	case nvml.VALUE_TYPE_UNSIGNED_LONG, nvml.VALUE_TYPE_UNSIGNED_LONG_LONG:
		return float64(bits), true
	case nvml.VALUE_TYPE_SIGNED_LONG_LONG:
		return float64(int64(bits)), true
	case nvml.VALUE_TYPE_SIGNED_INT:
		return float64(int32(short)), true
	case nvml.VALUE_TYPE_UNSIGNED_SHORT:
		return float64(binary.NativeEndian.Uint16(v.Value[:2])), true
	default:
		return 0, false
	}
}

// recoveryOf translates the recovery action. Memory shared between machines is reached over the links, so that
// to recover its domain is to end what uses them. An action that this program does not know is one that the
// policy does not know either.
func recoveryOf(action nvml.DeviceGpuRecoveryAction) gpu.Recovery {
	switch action {
	case nvml.GPU_RECOVERY_ACTION_NONE:
		return gpu.RecoverNone
	case nvml.GPU_RECOVERY_ACTION_GPU_RESET:
		return gpu.RecoverReset
	case nvml.GPU_RECOVERY_ACTION_NODE_REBOOT:
		return gpu.RecoverReboot
	case nvml.GPU_RECOVERY_ACTION_DRAIN_P2P, nvml.GPU_RECOVERY_ACTION_RECOVER_IMEX_DOMAIN:
		return gpu.RecoverDrain
	case nvml.GPU_RECOVERY_ACTION_DRAIN_AND_RESET:
		return gpu.RecoverDrainAndReset
	default:
		return gpu.Recovery(fmt.Sprintf("action %d", action))
	}
}
