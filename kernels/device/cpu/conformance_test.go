package cpu

import (
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

func TestDeviceConforms(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		devicetest.Run(t, New(), devicetest.Options{Exact: true, Quick: testing.Short(), Threads: SetThreads})
		SetThreads(0)
	})
}
