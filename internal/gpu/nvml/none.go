//go:build !linux || !cgo

package nvml

import "github.com/turnwise-rl/turnwise/internal/gpu"

// vendor is a machine without a driver: NVML needs Linux and cgo.
func vendor() driver { return none{} }

type none struct{}

func (none) open() (string, error)          { return gpu.NoDriver, nil }
func (none) close()                         {}
func (none) version() (string, error)       { return "", nil }
func (none) count() (int, error)            { return 0, nil }
func (none) device(int) (gpu.Device, error) { return gpu.Device{}, nil }
