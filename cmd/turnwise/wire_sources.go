package main

import (
	"github.com/turnwise-rl/turnwise/internal/gpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/hostcpu"
	"github.com/turnwise-rl/turnwise/internal/gpu/nvml"
)

// ownSources are the doors to this machine's devices: its processor and what NVIDIA's driver has.
func ownSources() []gpu.Source { return []gpu.Source{hostcpu.New(), nvml.New()} }
