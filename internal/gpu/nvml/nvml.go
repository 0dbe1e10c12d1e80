//go:build linux && cgo

package nvml

import (
	"errors"
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// vendor is NVML, whose library is looked for when it is opened.
func vendor() driver { return newLibrary(nvml.New()) }

// library translates NVML at the door.
type library struct {
	nvml nvml.Interface
	// proc is where the system shows processes.
	proc   string
	owners sync.Map // user id to name

	mu    sync.Mutex
	users int // guarded by mu: opens without their close; the library is initialized while there are any
	// has says which of the optional functions the library exports. It is written by the first user, before
	// anybody asks.
	has map[string]bool
}

func newLibrary(n nvml.Interface) *library { return &library{nvml: n, proc: "/proc"} }

// optional are the functions that libraries of some drivers lack. To call one that is not there ends the process,
// so that each is looked up before.
var optional = []string{
	"nvmlDeviceGetClockInfo", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth",
	"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetEccMode",
	"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetFieldValues", "nvmlDeviceGetGpuFabricInfo", "nvmlDeviceGetGpuInstanceId",
	"nvmlDeviceGetGraphicsRunningProcesses", "nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetMaxPcieLinkGeneration",
	"nvmlDeviceGetMaxPcieLinkWidth", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetMigMode",
	"nvmlDeviceGetMPSComputeRunningProcesses", "nvmlDeviceGetNvLinkErrorCounter", "nvmlDeviceGetNvLinkRemoteDeviceType",
	"nvmlDeviceGetNvLinkRemotePciInfo", "nvmlDeviceGetNvLinkState", "nvmlDeviceGetP2PStatus", "nvmlDeviceGetPcieReplayCounter",
	"nvmlDeviceGetPowerUsage", "nvmlDeviceGetRemappedRows", "nvmlDeviceGetSupportedEventTypes", "nvmlDeviceGetTemperature",
	"nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetUtilizationRates",
}

func (l *library) open() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users > 0 {
		l.users++
		return "", nil
	}
	switch code := l.nvml.Init(); code {
	case nvml.SUCCESS:
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return gpu.NoDriver, nil
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "NVIDIA's library is installed but its driver is not loaded", nil
	default:
		return "", fail("open the driver's library", code)
	}
	l.users = 1
	l.has = map[string]bool{}
	for _, symbol := range optional {
		l.has[symbol] = l.nvml.Extensions().LookupSymbol(symbol) == nil
	}
	return "", nil
}

func (l *library) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.users--; l.users == 0 {
		_ = l.nvml.Shutdown() // nothing is held that could be lost
	}
}

func (l *library) version() (string, error) {
	version, code := l.nvml.SystemGetDriverVersion()
	return version, fail("ask for the version", code)
}

func (l *library) count() (int, error) {
	n, code := l.nvml.DeviceGetCount()
	return n, fail("ask for the count", code)
}

// device is the handle of a board and its UUID.
func (l *library) device(index int) (nvml.Device, string, error) {
	device, code := l.nvml.DeviceGetHandleByIndex(index)
	if code != nvml.SUCCESS {
		return nil, "", fail("find it", code)
	}
	uuid, code := device.GetUUID()
	if code != nvml.SUCCESS {
		return nil, "", fail("ask for its UUID", code)
	}
	return device, uuid, nil
}

// ask calls a function that the library may lack.
func ask[T any](l *library, symbol string, call func() (T, nvml.Return)) (T, nvml.Return) {
	if !l.has[symbol] {
		var nothing T
		return nothing, nvml.ERROR_FUNCTION_NOT_FOUND
	}
	return call()
}

// fail says what could not be done and why; nil on success.
func fail(what string, code nvml.Return) error {
	if code == nvml.SUCCESS {
		return nil
	}
	return errors.New(what + ": " + meaning(code))
}

// lostCodes are those after which a device cannot be asked anything else, with what they mean.
var lostCodes = map[nvml.Return]string{
	nvml.ERROR_GPU_IS_LOST:             "the driver has lost the device: it fell off the bus, or is otherwise out of reach",
	nvml.ERROR_GPU_NOT_FOUND:           "the driver does not find the device",
	nvml.ERROR_RESET_REQUIRED:          "the device has to be reset before it can be used",
	nvml.ERROR_UNINITIALIZED:           "the driver was unloaded meanwhile",
	nvml.ERROR_DRIVER_NOT_LOADED:       "the driver is not loaded",
	nvml.ERROR_LIB_RM_VERSION_MISMATCH: "the driver was upgraded while its old library is in use: start this program again, or boot the machine",
	nvml.ERROR_TIMEOUT:                 "the device did not answer the driver in time",
	nvml.ERROR_IRQ_ISSUE:               "the kernel has a problem with the device's interrupts",
	nvml.ERROR_INSUFFICIENT_POWER:      "the device's power cables are not attached properly",
	nvml.ERROR_OPERATING_SYSTEM:        "the operating system refuses access to the device",
}

// otherCodes say why something is not told.
var otherCodes = map[nvml.Return]string{
	nvml.ERROR_INVALID_ARGUMENT:          "the driver does not know what it is asked for",
	nvml.ERROR_NOT_SUPPORTED:             "the device does not support it",
	nvml.ERROR_NO_PERMISSION:             "this user may not: see who may open /dev/nvidia*",
	nvml.ERROR_ALREADY_INITIALIZED:       "it is done already",
	nvml.ERROR_NOT_FOUND:                 "there is none",
	nvml.ERROR_INSUFFICIENT_SIZE:         "the answer is larger than expected",
	nvml.ERROR_LIBRARY_NOT_FOUND:         gpu.NoDriver,
	nvml.ERROR_FUNCTION_NOT_FOUND:        "the driver is too old to tell",
	nvml.ERROR_CORRUPTED_INFOROM:         "the device's own record of itself is corrupted",
	nvml.ERROR_IN_USE:                    "the device is in use",
	nvml.ERROR_MEMORY:                    "the machine has no memory left",
	nvml.ERROR_NO_DATA:                   "there is nothing to tell yet",
	nvml.ERROR_VGPU_ECC_NOT_SUPPORTED:    "virtual devices do not tell of memory errors",
	nvml.ERROR_INSUFFICIENT_RESOURCES:    "the driver has run out of something other than memory",
	nvml.ERROR_FREQ_NOT_SUPPORTED:        "the device does not support the frequency",
	nvml.ERROR_ARGUMENT_VERSION_MISMATCH: "the driver does not know this version of the question",
	nvml.ERROR_DEPRECATED:                "the driver does not tell any more",
	nvml.ERROR_NOT_READY:                 "the device is not ready yet",
	nvml.ERROR_INVALID_STATE:             "the device is in a state in which it does not tell",
	nvml.ERROR_RESET_TYPE_NOT_SUPPORTED:  "the device does not support this kind of reset",
	nvml.ERROR_UNKNOWN:                   "the driver says that something went wrong inside it: look at the kernel's log with `dmesg`",
}

// meaning is what a code says, in our words.
func meaning(code nvml.Return) string {
	if text, ok := lostCodes[code]; ok {
		return text
	}
	if text, ok := otherCodes[code]; ok {
		return text
	}
	return "the driver answers with a code that this program does not know: look at the kernel's log with `dmesg`"
}
