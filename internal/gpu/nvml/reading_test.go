//go:build linux && cgo

package nvml

import (
	"encoding/binary"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

func pointer[T any](value T) *T { return &value }

// wholeReading is what the fixture's devices tell.
func wholeReading(uuid string) gpu.Reading {
	r := gpu.Reading{
		UUID: uuid, MemoryUsedBytes: pointer[int64](3 << 30), Utilization: pointer(0.87), MemoryActivity: pointer(0.25),
		PowerWatts: pointer(312.5), PowerLimitWatts: pointer(400.0), EnergyJoules: pointer(5.0),
		TemperatureCelsius: pointer(61.0), MemoryTemperature: pointer(72.0), ClockHertz: pointer(1.41e9), MemoryClockHertz: pointer(1.215e9),
		Throttle:  []gpu.Throttle{gpu.ThrottlePowerCap},
		ECC:       &gpu.ECC{CorrectedVolatile: 1, UncorrectedVolatile: 2, CorrectedAggregate: 3, UncorrectedAggregate: 4},
		Remap:     &gpu.Remap{Correctable: 5, Uncorrectable: 2, Pending: true},
		PCIe:      &gpu.PCIe{Generation: 3, MaxGeneration: 4, Width: 8, MaxWidth: 16, Replays: 9},
		Processes: []gpu.Process{{PID: 70, MemoryUsedBytes: 1 << 30}, {PID: 71, MemoryUsedBytes: 2 << 30}, {PID: 72}},
	}
	for lane := range 12 {
		r.Links = append(r.Links, gpu.Link{Up: lane < 11, Errors: 3 * int64(lane)})
	}
	return r
}

func readOne(t *testing.T, l *library) gpu.Reading {
	t.Helper()
	r, err := l.read(0)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.readings) != 1 {
		t.Fatalf("got %d readings", len(r.readings))
	}
	return r.readings[0]
}

func TestReadTakesEverything(t *testing.T) {
	l, _ := opened(t)
	if diff := cmp.Diff(wholeReading("GPU-0"), readOne(t, l)); diff != "" {
		t.Error(diff)
	}
}

// untoldCases are each call of a reading, how to spoil it, and what is then not told.
var untoldCases = []struct {
	symbol string
	spoil  func(*dgxa100.Device, nvml.Return)
	lacks  func(*gpu.Reading)
}{
	{"nvmlDeviceGetUtilizationRates", func(d *dgxa100.Device, c nvml.Return) { d.GetUtilizationRatesFunc = never[nvml.Utilization](c) },
		func(r *gpu.Reading) { r.Utilization, r.MemoryActivity = nil, nil }},
	{"nvmlDeviceGetPowerUsage", func(d *dgxa100.Device, c nvml.Return) { d.GetPowerUsageFunc = never[uint32](c) }, func(r *gpu.Reading) { r.PowerWatts = nil }},
	{"nvmlDeviceGetEnforcedPowerLimit", func(d *dgxa100.Device, c nvml.Return) { d.GetEnforcedPowerLimitFunc = never[uint32](c) },
		func(r *gpu.Reading) { r.PowerLimitWatts = nil }},
	{"nvmlDeviceGetTotalEnergyConsumption", func(d *dgxa100.Device, c nvml.Return) { d.GetTotalEnergyConsumptionFunc = never[uint64](c) },
		func(r *gpu.Reading) { r.EnergyJoules = nil }},
	{"nvmlDeviceGetTemperature", func(d *dgxa100.Device, c nvml.Return) {
		d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 0, c }
	}, func(r *gpu.Reading) { r.TemperatureCelsius = nil }},
	{"nvmlDeviceGetClockInfo", func(d *dgxa100.Device, c nvml.Return) {
		d.GetClockInfoFunc = func(nvml.ClockType) (uint32, nvml.Return) { return 0, c }
	}, func(r *gpu.Reading) { r.ClockHertz, r.MemoryClockHertz = nil, nil }},
	{"nvmlDeviceGetFieldValues", func(d *dgxa100.Device, c nvml.Return) {
		d.GetFieldValuesFunc = func([]nvml.FieldValue) nvml.Return { return c }
	}, func(r *gpu.Reading) { r.MemoryTemperature = nil }},
	{"nvmlDeviceGetCurrentClocksEventReasons", func(d *dgxa100.Device, c nvml.Return) { d.GetCurrentClocksEventReasonsFunc = never[uint64](c) },
		func(r *gpu.Reading) { r.Throttle = nil }}, // the older call says that there is none
	{"nvmlDeviceGetEccMode", func(d *dgxa100.Device, c nvml.Return) {
		d.GetEccModeFunc = func() (nvml.EnableState, nvml.EnableState, nvml.Return) { return 0, 0, c }
	}, func(r *gpu.Reading) { r.ECC = nil }},
	{"nvmlDeviceGetTotalEccErrors", func(d *dgxa100.Device, c nvml.Return) {
		d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 0, c }
	}, func(r *gpu.Reading) { r.ECC = nil }},
	{"nvmlDeviceGetRemappedRows", func(d *dgxa100.Device, c nvml.Return) {
		d.GetRemappedRowsFunc = func() (int, int, bool, bool, nvml.Return) { return 0, 0, false, false, c }
	}, func(r *gpu.Reading) { r.Remap = nil }},
	{"nvmlDeviceGetCurrPcieLinkGeneration", func(d *dgxa100.Device, c nvml.Return) { d.GetCurrPcieLinkGenerationFunc = never[int](c) },
		func(r *gpu.Reading) { r.PCIe = nil }},
	{"nvmlDeviceGetCurrPcieLinkWidth", func(d *dgxa100.Device, c nvml.Return) { d.GetCurrPcieLinkWidthFunc = never[int](c) }, func(r *gpu.Reading) { r.PCIe = nil }},
	{"nvmlDeviceGetMaxPcieLinkGeneration", func(d *dgxa100.Device, c nvml.Return) { d.GetMaxPcieLinkGenerationFunc = never[int](c) },
		func(r *gpu.Reading) { r.PCIe.MaxGeneration = 3 }},
	{"nvmlDeviceGetMaxPcieLinkWidth", func(d *dgxa100.Device, c nvml.Return) { d.GetMaxPcieLinkWidthFunc = never[int](c) },
		func(r *gpu.Reading) { r.PCIe.MaxWidth = 8 }},
	{"nvmlDeviceGetPcieReplayCounter", func(d *dgxa100.Device, c nvml.Return) { d.GetPcieReplayCounterFunc = never[int](c) },
		func(r *gpu.Reading) { r.PCIe.Replays = 0 }},
	{"nvmlDeviceGetNvLinkState", func(d *dgxa100.Device, c nvml.Return) {
		d.GetNvLinkStateFunc = func(int) (nvml.EnableState, nvml.Return) { return 0, c }
	}, func(r *gpu.Reading) { r.Links = nil }},
	{"nvmlDeviceGetNvLinkErrorCounter", func(d *dgxa100.Device, c nvml.Return) {
		d.GetNvLinkErrorCounterFunc = func(int, nvml.NvLinkErrorCounter) (uint64, nvml.Return) { return 0, c }
	}, func(r *gpu.Reading) {
		for i := range r.Links {
			r.Links[i].Errors = 0
		}
	}},
	{"nvmlDeviceGetComputeRunningProcesses", func(d *dgxa100.Device, c nvml.Return) {
		d.GetComputeRunningProcessesFunc = never[[]nvml.ProcessInfo](c)
	},
		func(r *gpu.Reading) { r.Processes = []gpu.Process{{PID: 70, MemoryUsedBytes: 1 << 20}, {PID: 72}} }},
	{"nvmlDeviceGetGraphicsRunningProcesses", func(d *dgxa100.Device, c nvml.Return) {
		d.GetGraphicsRunningProcessesFunc = never[[]nvml.ProcessInfo](c)
	},
		func(r *gpu.Reading) { r.Processes = r.Processes[:2] }},
	{"nvmlDeviceGetMPSComputeRunningProcesses", func(d *dgxa100.Device, c nvml.Return) {
		d.GetMPSComputeRunningProcessesFunc = never[[]nvml.ProcessInfo](c)
	},
		func(*gpu.Reading) {}},
	{"nvmlDeviceGetMigMode", func(d *dgxa100.Device, c nvml.Return) {
		d.GetMigModeFunc = func() (int, int, nvml.Return) { return 0, 0, c }
	}, func(*gpu.Reading) {}},
	{"nvmlDeviceGetMemoryInfo_v2", func(d *dgxa100.Device, c nvml.Return) { d.GetMemoryInfo_v2Func = never[nvml.Memory_v2](c) },
		func(r *gpu.Reading) { r.MemoryUsedBytes = pointer[int64](3<<30 + 1<<29) }}, // the older call counts what the driver keeps
}

func TestWhatIsNotToldIsNil(t *testing.T) {
	for _, c := range untoldCases {
		want := wholeReading("GPU-0")
		c.lacks(&want)
		for _, code := range []nvml.Return{nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NO_PERMISSION, nvml.ERROR_UNKNOWN, 12345} {
			l, server := opened(t)
			c.spoil(a100(server, 0), code)
			if diff := cmp.Diff(want, readOne(t, l)); diff != "" {
				t.Errorf("%s answers %d: %s", c.symbol, code, diff)
			}
		}
		// To call a function that the library lacks would end the process.
		l, server := opened(t)
		a100(server, 0).GetNvLinkRemoteDeviceTypeFunc = nil
		c.spoil(a100(server, 0), nvml.SUCCESS)
		without(t, l, server, c.symbol)
		if diff := cmp.Diff(want, readOne(t, l)); diff != "" {
			t.Errorf("a library without %s: %s", c.symbol, diff)
		}
	}
}

// TestLostDeviceTellsNothing answers each question of a reading with each code that means a lost device.
func TestLostDeviceTellsNothing(t *testing.T) {
	for _, c := range untoldCases {
		if c.symbol == "nvmlDeviceGetMigMode" {
			continue // what a device says of its mode when it is lost, it says of everything that follows
		}
		for code, text := range lostCodes {
			l, server := opened(t)
			c.spoil(a100(server, 0), code)
			if diff := cmp.Diff(gpu.Reading{UUID: "GPU-0", Gone: text}, readOne(t, l)); diff != "" {
				t.Errorf("%s answers %d: %s", c.symbol, code, diff)
			}
		}
	}
}

func TestDeviceThatCannotTellItsMemoryIsGone(t *testing.T) {
	for code, isGone := range map[nvml.Return]bool{nvml.ERROR_NOT_SUPPORTED: false, nvml.ERROR_UNKNOWN: true, nvml.ERROR_GPU_IS_LOST: true} {
		l, server := opened(t)
		a100(server, 0).GetMemoryInfo_v2Func = never[nvml.Memory_v2](nvml.ERROR_UNKNOWN)
		a100(server, 0).GetMemoryInfoFunc = never[nvml.Memory](code)
		if got := readOne(t, l); (got.Gone != "") != isGone || got.MemoryUsedBytes != nil {
			t.Errorf("code %d: got %+v", code, got)
		}
	}
}

func TestOneSickAmongHealthy(t *testing.T) {
	l, server := dgx(t)
	s := newSource(l)
	mustList(t, s)
	a100(server, 3).GetUUIDFunc = never[string](nvml.ERROR_GPU_IS_LOST)
	readings, err := s.Read(t.Context())
	if err != nil || len(readings) != 8 {
		t.Fatalf("%d readings, %v", len(readings), err)
	}
	for _, r := range readings {
		want := wholeReading(r.UUID)
		if r.UUID == "GPU-3" {
			want = gpu.Reading{UUID: "GPU-3", Gone: "ask for its UUID: " + lostCodes[nvml.ERROR_GPU_IS_LOST]}
		}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Error(diff)
		}
	}
	inventory, err := s.Inventory(t.Context())
	if len(inventory.Devices) != 7 || err == nil || !strings.Contains(err.Error(), "device 3 of 8") {
		t.Errorf("%d devices, %v", len(inventory.Devices), err)
	}
}

func TestInstancesShareTheirBoard(t *testing.T) {
	l, server := opened(t)
	split(a100(server, 0), "MIG-a", "MIG-b")
	r, err := l.read(0)
	if err != nil || len(r.readings) != 2 {
		t.Fatalf("got %+v, %v", r, err)
	}
	want := wholeReading("MIG-b")
	want.Utilization, want.MemoryActivity, want.Links = nil, nil, nil
	want.PowerWatts, want.PowerLimitWatts, want.EnergyJoules = nil, nil, nil
	want.MemoryUsedBytes = pointer[int64](2 << 30)
	want.Processes = []gpu.Process{{PID: 81, MemoryUsedBytes: 1 << 30}}
	if diff := cmp.Diff(want, r.readings[1]); diff != "" {
		t.Error(diff)
	}
	a100(server, 0).GetPowerUsageFunc = never[uint32](nvml.ERROR_GPU_IS_LOST)
	r, err = l.read(0)
	if diff := cmp.Diff(map[string]string{"MIG-a": lostCodes[nvml.ERROR_GPU_IS_LOST], "MIG-b": lostCodes[nvml.ERROR_GPU_IS_LOST]}, gone(r.readings)); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestThrottleReasons(t *testing.T) {
	for _, c := range []struct {
		bits uint64
		want []gpu.Throttle
	}{
		{nvml.ClocksEventReasonNone, nil},
		{nvml.ClocksEventReasonGpuIdle | nvml.ClocksEventReasonApplicationsClocksSetting | nvml.ClocksEventReasonSyncBoost | nvml.ClocksEventReasonDisplayClockSetting, nil},
		{nvml.ClocksEventReasonSwPowerCap, []gpu.Throttle{gpu.ThrottlePowerCap}},
		{nvml.ClocksEventReasonSwThermalSlowdown, []gpu.Throttle{gpu.ThrottleThermal}},
		{nvml.ClocksThrottleReasonHwSlowdown, []gpu.Throttle{gpu.ThrottleHardware}},
		{nvml.ClocksThrottleReasonHwSlowdown | nvml.ClocksThrottleReasonHwThermalSlowdown, []gpu.Throttle{gpu.ThrottleHardwareHeat}},
		{nvml.ClocksThrottleReasonHwSlowdown | nvml.ClocksThrottleReasonHwPowerBrakeSlowdown, []gpu.Throttle{gpu.ThrottlePowerBrake}},
	} {
		l, server := opened(t)
		a100(server, 0).GetCurrentClocksEventReasonsFunc = always(c.bits)
		if got := readOne(t, l).Throttle; !reflect.DeepEqual(got, c.want) {
			t.Errorf("bits %#x: got %v, want %v", c.bits, got, c.want)
		}
		without(t, l, server, "nvmlDeviceGetCurrentClocksEventReasons")
		a100(server, 0).GetCurrentClocksThrottleReasonsFunc = always(c.bits)
		if got := readOne(t, l).Throttle; !reflect.DeepEqual(got, c.want) {
			t.Errorf("bits %#x of an old driver: got %v, want %v", c.bits, got, c.want)
		}
	}
}

func TestRecoveryActions(t *testing.T) {
	for action, want := range map[uint32]gpu.Recovery{0: gpu.RecoverNone, 1: gpu.RecoverReset, 2: gpu.RecoverReboot, 3: gpu.RecoverDrain,
		4: gpu.RecoverDrainAndReset, 5: gpu.RecoverDrain, 99: "action 99"} {
		l, server := opened(t)
		a100(server, 0).GetFieldValuesFunc = fieldAnswers(map[uint32]uint32{nvml.FI_DEV_GET_GPU_RECOVERY_ACTION: action})
		if got := readOne(t, l).Recovery; got != want {
			t.Errorf("action %d: got %q, want %q", action, got, want)
		}
	}
}

func TestLanesOfWhichNoneIsUpAreNone(t *testing.T) {
	l, server := opened(t)
	links(a100(server, 0), 12, 0)
	if got := readOne(t, l).Links; got != nil {
		t.Errorf("got %v", got)
	}
}

func TestMemoryThatCorrectsNothingCountsNothing(t *testing.T) {
	l, server := opened(t)
	a100(server, 0).GetEccModeFunc = func() (nvml.EnableState, nvml.EnableState, nvml.Return) {
		return nvml.FEATURE_DISABLED, nvml.FEATURE_ENABLED, nvml.SUCCESS
	}
	if got := readOne(t, l).ECC; got != nil {
		t.Errorf("got %v", got)
	}
}

func TestFieldValuesOfEveryType(t *testing.T) {
	eight := func(n uint64) (out [8]byte) {
		binary.NativeEndian.PutUint64(out[:], n)
		return out
	}
	four := func(n uint32) (out [8]byte) {
		binary.NativeEndian.PutUint32(out[:], n)
		return out
	}
	two := [8]byte{}
	binary.NativeEndian.PutUint16(two[:], 60000)
	for _, c := range []struct {
		kind  nvml.ValueType
		value [8]byte
		want  float64
		ok    bool
	}{
		{nvml.VALUE_TYPE_DOUBLE, eight(math.Float64bits(1.5)), 1.5, true},
		{nvml.VALUE_TYPE_UNSIGNED_INT, four(math.MaxUint32), math.MaxUint32, true},
		{nvml.VALUE_TYPE_UNSIGNED_LONG, eight(7), 7, true},
		{nvml.VALUE_TYPE_UNSIGNED_LONG_LONG, eight(1 << 40), 1 << 40, true},
		{nvml.VALUE_TYPE_SIGNED_LONG_LONG, eight(math.MaxUint64), -1, true},
		{nvml.VALUE_TYPE_SIGNED_INT, four(math.MaxUint32), -1, true},
		{nvml.VALUE_TYPE_UNSIGNED_SHORT, two, 60000, true},
		{nvml.VALUE_TYPE_COUNT, eight(1), 0, false},
	} {
		got, ok := number(nvml.FieldValue{ValueType: uint32(c.kind), Value: c.value})
		if got != c.want || ok != c.ok {
			t.Errorf("type %d: got %v, %v", c.kind, got, ok)
		}
		if _, ok := number(nvml.FieldValue{ValueType: uint32(c.kind), Value: c.value, NvmlReturn: uint32(nvml.ERROR_NOT_SUPPORTED)}); ok {
			t.Errorf("type %d: a value that is not told", c.kind)
		}
	}
}
