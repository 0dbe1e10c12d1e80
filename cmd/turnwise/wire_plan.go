package main

import (
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/hostcpu"
)

// machineSources are the doors to this machine's devices of a kind, which a plan without a server places roles on.
func machineSources(kind gpu.Kind) []gpu.Source {
	if kind == gpu.GPU {
		return ownSources()
	}
	return []gpu.Source{hostcpu.New()}
}
