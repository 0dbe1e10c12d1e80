//go:build !linux || !cgo

package gpu

// vendor is a machine without a driver: NVML needs Linux and cgo.
func vendor() driver { return none{} }

type none struct{}

func (none) open() (string, error)      { return NoDriver, nil }
func (none) close()                     {}
func (none) version() (string, error)   { return "", nil }
func (none) count() (int, error)        { return 0, nil }
func (none) device(int) (Device, error) { return Device{}, nil }
