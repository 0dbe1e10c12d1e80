package cpu

import "golang.org/x/sys/cpu"

// supportedISAs lists what this machine can run, best first.
func supportedISAs() []isa {
	supported := []isa{isaGo}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		supported = append([]isa{isaAVX2}, supported...)
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL {
			supported = append([]isa{isaAVX512}, supported...)
		}
	}
	return supported
}
