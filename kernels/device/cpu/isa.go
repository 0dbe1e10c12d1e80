package cpu

import (
	"fmt"
	"os"
	"strings"
)

// isa is the instruction set that the arithmetic runs on.
type isa uint8

const (
	isaInvalid isa = iota // TURNWISE_CPU asks for what does not exist; see CheckISA
	isaGo
	isaAVX2
	isaAVX512
)

// String is the name that TURNWISE_CPU and ISA use.
func (i isa) String() string {
	return [...]string{"invalid", "go", "avx2", "avx512"}[i]
}

// ISAVariable is the environment variable that overrides the choice of instruction set.
const ISAVariable = "TURNWISE_CPU"

// active is the instruction set in use, fixed when the program starts; only tests change it.
var active, errISA = chooseISA(os.Getenv(ISAVariable), supportedISAs())

// chooseISA picks the best supported instruction set, or the wanted one.
func chooseISA(wanted string, supported []isa) (isa, error) {
	if wanted == "" {
		return supported[0], nil
	}
	names := make([]string, len(supported))
	for i, s := range supported {
		if s.String() == wanted {
			return s, nil
		}
		names[i] = s.String()
	}
	return isaInvalid, fmt.Errorf("environment variable %s=%q: this machine has %s; unset it or choose one of these",
		ISAVariable, wanted, strings.Join(names, ", "))
}

// ISA names the instruction set in use: "avx512", "avx2" or "go". Results are the same to the last bit
// between runs with the same one, and nearly but not exactly the same between different ones. It is
// "invalid" when CheckISA reports an error.
func ISA() string { return active.String() }

// CheckISA reports an instruction set asked for in TURNWISE_CPU that is unknown or that this machine
// lacks. A program calls it when it starts: arithmetic done in spite of the error panics with it, for
// another instruction set than the one asked for would change results silently.
func CheckISA() error { return errISA }

// running is the instruction set in use; it panics where CheckISA reports an error.
func running() isa {
	if active == isaInvalid {
		panic(errISA)
	}
	return active
}
