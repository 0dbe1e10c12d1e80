//go:build linux && cgo

package nvml

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// vendor is NVML, whose library is looked for when it is opened.
func vendor() driver { return library{nvml.New()} }

// library translates NVML at the door.
type library struct{ nvml nvml.Interface }

func (l library) open() (string, error) {
	switch code := l.nvml.Init(); code {
	case nvml.SUCCESS:
		return "", nil
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return gpu.NoDriver, nil
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "NVIDIA's library is installed but its driver is not loaded", nil
	default:
		return "", l.fail("open the driver's library", code)
	}
}

func (l library) close() { _ = l.nvml.Shutdown() } // nothing is held that could be lost

func (l library) version() (string, error) {
	version, code := l.nvml.SystemGetDriverVersion()
	return version, l.fail("ask for the version", code)
}

func (l library) count() (int, error) {
	n, code := l.nvml.DeviceGetCount()
	return n, l.fail("ask for the count", code)
}

func (l library) device(index int) (gpu.Device, error) {
	handle, code := l.nvml.DeviceGetHandleByIndex(index)
	if code != nvml.SUCCESS {
		return gpu.Device{}, l.fail("find it", code)
	}
	device := gpu.Device{Index: index}
	if device.UUID, code = handle.GetUUID(); code != nvml.SUCCESS {
		return gpu.Device{}, l.fail("ask for its UUID", code)
	}
	if device.Name, code = handle.GetName(); code != nvml.SUCCESS {
		return gpu.Device{}, l.fail("ask for its name", code)
	}
	memory, code := handle.GetMemoryInfo()
	if code != nvml.SUCCESS {
		return gpu.Device{}, l.fail("ask for its memory", code)
	}
	device.Kind, device.MemoryTotalBytes = gpu.GPU, int64(memory.Total)
	return device, nil
}

// fail says what could not be done and why; nil on success.
func (l library) fail(what string, code nvml.Return) error {
	if code == nvml.SUCCESS {
		return nil
	}
	return fmt.Errorf("%s: %s", what, l.nvml.ErrorString(code))
}
