package cpu

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// With -short the widest instruction set stands for all: how work is spread over threads is the same.
func TestDeviceConforms(t *testing.T) {
	if testing.Short() {
		devicetest.Run(t, New(), devicetest.Options{Exact: true, Quick: true, Threads: SetThreads})
		SetThreads(0)
		return
	}
	onEveryISA(t, func(t *testing.T) {
		devicetest.Run(t, New(), devicetest.Options{Exact: true, Threads: SetThreads})
		SetThreads(0)
	})
}
