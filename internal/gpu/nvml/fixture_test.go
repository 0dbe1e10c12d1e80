//go:build linux && cgo

package nvml

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
)

// dgx is go-nvml's mock of a DGX A100, with answers to what the mock leaves out.
func dgx(t *testing.T) (*library, *dgxa100.Server) {
	t.Helper()
	server := dgxa100.New()
	for i, device := range server.Devices {
		healthy(device.(*dgxa100.Device), i)
	}
	l := newLibrary(server)
	l.proc = t.TempDir()
	return l, server
}

// opened is dgx while somebody has it open.
func opened(t *testing.T) (*library, *dgxa100.Server) {
	t.Helper()
	l, server := dgx(t)
	reopen(t, l)
	return l, server
}

func reopen(t *testing.T, l *library) {
	t.Helper()
	if reason, err := l.open(); reason != "" || err != nil {
		t.Fatal(reason, err)
	}
}

func a100(s *dgxa100.Server, i int) *dgxa100.Device { return s.Devices[i].(*dgxa100.Device) }

func address(i int) string { return fmt.Sprintf("00000000:%02x:00.0", 0x10*(8-i)) }

func pciInfo(id string) nvml.PciInfo {
	var info nvml.PciInfo
	for i, c := range []byte(id) {
		info.BusId[i] = int8(c)
	}
	return info
}

// always answers with value.
func always[T any](value T) func() (T, nvml.Return) {
	return func() (T, nvml.Return) { return value, nvml.SUCCESS }
}

// never answers with a code.
func never[T any](code nvml.Return) func() (T, nvml.Return) {
	return func() (T, nvml.Return) {
		var nothing T
		return nothing, code
	}
}

// healthy gives a device the answers of a healthy one that works. Devices are on the switches and lie on the bus
// in the opposite order of their numbers.
func healthy(d *dgxa100.Device, i int) {
	d.UUID = fmt.Sprintf("GPU-%d", i)
	d.GetPciInfoFunc = always(pciInfo(address(i)))
	d.GetMemoryInfo_v2Func = always(nvml.Memory_v2{Total: d.MemoryInfo.Total, Used: 3 << 30, Reserved: 1 << 29})
	d.MemoryInfo.Used = 3<<30 + 1<<29
	d.GetUtilizationRatesFunc = always(nvml.Utilization{Gpu: 87, Memory: 25})
	d.GetPowerUsageFunc = always[uint32](312500)
	d.GetEnforcedPowerLimitFunc = always[uint32](400000)
	d.GetTotalEnergyConsumptionFunc = always[uint64](5000)
	d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 61, nvml.SUCCESS }
	d.GetClockInfoFunc = func(kind nvml.ClockType) (uint32, nvml.Return) {
		return map[nvml.ClockType]uint32{nvml.CLOCK_SM: 1410, nvml.CLOCK_MEM: 1215}[kind], nvml.SUCCESS
	}
	d.GetFieldValuesFunc = fieldAnswers(map[uint32]uint32{nvml.FI_DEV_MEMORY_TEMP: 72, nvml.FI_DEV_GET_GPU_RECOVERY_ACTION: 0})
	d.GetCurrentClocksEventReasonsFunc = always[uint64](nvml.ClocksEventReasonSwPowerCap | nvml.ClocksEventReasonSyncBoost)
	d.GetCurrentClocksThrottleReasonsFunc = always[uint64](0)
	d.GetEccModeFunc = func() (nvml.EnableState, nvml.EnableState, nvml.Return) {
		return nvml.FEATURE_ENABLED, nvml.FEATURE_ENABLED, nvml.SUCCESS
	}
	d.GetTotalEccErrorsFunc = func(kind nvml.MemoryErrorType, since nvml.EccCounterType) (uint64, nvml.Return) {
		return 1 + uint64(kind) + 2*uint64(since), nvml.SUCCESS
	}
	d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 5, 2, true, false, nvml.SUCCESS }
	d.GetCurrPcieLinkGenerationFunc, d.GetMaxPcieLinkGenerationFunc = always(3), always(4)
	d.GetCurrPcieLinkWidthFunc, d.GetMaxPcieLinkWidthFunc = always(8), always(16)
	d.GetPcieReplayCounterFunc = always(9)
	d.GetComputeRunningProcessesFunc = always([]nvml.ProcessInfo{{Pid: 71, UsedGpuMemory: 2 << 30}, {Pid: 70, UsedGpuMemory: 1 << 30}})
	d.GetGraphicsRunningProcessesFunc = always([]nvml.ProcessInfo{{Pid: 70, UsedGpuMemory: 1 << 20}, {Pid: 72, UsedGpuMemory: untold}})
	d.GetMPSComputeRunningProcessesFunc = never[[]nvml.ProcessInfo](nvml.ERROR_NOT_SUPPORTED)
	d.GetMaxMigDeviceCountFunc = always(7)
	d.GetMigDeviceHandleByIndexFunc = func(int) (nvml.Device, nvml.Return) { return nil, nvml.ERROR_NOT_FOUND }
	d.GetGpuFabricInfoFunc = never[nvml.GpuFabricInfo](nvml.ERROR_NOT_SUPPORTED)
	d.GetP2PStatusFunc = func(nvml.Device, nvml.GpuP2PCapsIndex) (nvml.GpuP2PStatus, nvml.Return) {
		return nvml.P2P_STATUS_CHIPSET_NOT_SUPPORTED, nvml.SUCCESS
	}
	links(d, 12, 11)
	d.GetSupportedEventTypesFunc = always[uint64](nvml.EventTypeXidCriticalError | nvml.EventTypeDoubleBitEccError | nvml.EventTypeSingleBitEccError)
	d.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
}

// links gives a device lanes to switches, of which the first are up.
func links(d *dgxa100.Device, lanes, up int) {
	d.GetNvLinkStateFunc = func(lane int) (nvml.EnableState, nvml.Return) {
		switch {
		case lane >= lanes:
			return 0, nvml.ERROR_INVALID_ARGUMENT
		case lane >= up:
			return nvml.FEATURE_DISABLED, nvml.SUCCESS
		default:
			return nvml.FEATURE_ENABLED, nvml.SUCCESS
		}
	}
	d.GetNvLinkErrorCounterFunc = func(lane int, kind nvml.NvLinkErrorCounter) (uint64, nvml.Return) {
		if kind == nvml.NVLINK_ERROR_DL_CRC_DATA {
			return 0, nvml.ERROR_NOT_SUPPORTED
		}
		return uint64(lane), nvml.SUCCESS
	}
	d.GetNvLinkRemoteDeviceTypeFunc = func(int) (nvml.IntNvLinkDeviceType, nvml.Return) {
		return nvml.NVLINK_DEVICE_TYPE_SWITCH, nvml.SUCCESS
	}
	d.GetNvLinkRemotePciInfoFunc = func(int) (nvml.PciInfo, nvml.Return) { return pciInfo("00000000:FF:00.0"), nvml.SUCCESS }
}

func fieldAnswers(of map[uint32]uint32) func([]nvml.FieldValue) nvml.Return {
	return func(values []nvml.FieldValue) nvml.Return {
		for i := range values {
			value, ok := of[values[i].FieldId]
			if !ok {
				values[i].NvmlReturn = uint32(nvml.ERROR_NOT_SUPPORTED)
				continue
			}
			values[i].ValueType = uint32(nvml.VALUE_TYPE_UNSIGNED_INT)
			binary.NativeEndian.PutUint32(values[i].Value[:], value)
		}
		return nvml.SUCCESS
	}
}

// split puts a device into MIG mode with instances of which some numbers are free.
func split(d *dgxa100.Device, uuids ...string) {
	d.MigMode = nvml.DEVICE_MIG_ENABLE
	d.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i%2 == 0 || i/2 >= len(uuids) {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return instance(uuids[i/2], i/2), nvml.SUCCESS
	}
}

func instance(uuid string, i int) *mock.Device {
	return &mock.Device{
		GetUUIDFunc: always(uuid), GetNameFunc: always("NVIDIA A100-SXM4-40GB MIG 1g.5gb"),
		GetMemoryInfoFunc: always(nvml.Memory{Total: 5 << 30}), GetMemoryInfo_v2Func: always(nvml.Memory_v2{Used: uint64(i+1) << 30}),
		GetComputeRunningProcessesFunc:    always([]nvml.ProcessInfo{{Pid: uint32(80 + i), UsedGpuMemory: 1 << 30}}),
		GetGraphicsRunningProcessesFunc:   never[[]nvml.ProcessInfo](nvml.ERROR_INVALID_ARGUMENT),
		GetMPSComputeRunningProcessesFunc: never[[]nvml.ProcessInfo](nvml.ERROR_INVALID_ARGUMENT),
		GetGpuInstanceIdFunc:              always(7 + i),
	}
}

// without makes the library one that lacks a function.
func without(t *testing.T, l *library, s *dgxa100.Server, symbol string) {
	t.Helper()
	s.LookupSymbolFunc = func(name string) error {
		if name == symbol {
			return errors.New("undefined symbol")
		}
		return nil
	}
	if l.users > 0 {
		l.close()
	}
	reopen(t, l)
}
