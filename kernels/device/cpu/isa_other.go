//go:build !amd64

package cpu

// supportedISAs lists what this machine can run: the portable Go code.
func supportedISAs() []isa { return []isa{isaGo} }
