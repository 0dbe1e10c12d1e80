//go:build !linux || !cgo

package nvml

import (
	"errors"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

// vendor is a machine without a driver: NVML needs Linux and cgo.
func vendor() driver { return none{} }

type none struct{}

// errNone is never seen: open gives a reason, and nothing is asked then.
var errNone = errors.New(gpu.NoDriver)

func (none) open() (string, error)    { return gpu.NoDriver, nil }
func (none) close()                   {}
func (none) version() (string, error) { return "", errNone }
func (none) count() (int, error)      { return 0, errNone }
func (none) board(int) (board, error) { return board{}, errNone }
func (none) wires(int) wires          { return wires{} }
func (none) linked(int, int) bool     { return false }
func (none) read(int) (report, error) { return report{}, errNone }
func (none) listen() (ear, error)     { return nil, errNone }
