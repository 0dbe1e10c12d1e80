package main

import (
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/hostcpu"
)

// machineSources are the doors to this machine's devices that a plan without a server places roles on: those that
// the program computes on.
func machineSources() []gpu.Source { return []gpu.Source{hostcpu.New()} }
