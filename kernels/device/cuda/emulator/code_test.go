package emulator

import (
	"os"
	"slices"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/kernels"
)

// What source/code.h says of a module, as the host's memory has it.
type (
	operand struct {
		kind  uint32
		reg   int32
		value uint64
	}
	instruction struct {
		op, typ, from, space, compare, mode, flush, turned, vector, operands, uniform, negated uint8

		guard             int16
		line, convergence int32
		operand           [14]operand
	}
	code struct {
		name                                                   *byte
		instructions                                           *instruction
		count, registers, threads, parameters, shared, dynamic int32
	}
)

// Kinds of operands, and operations that tests look for.
const (
	register, number, special, address, place = 0, 1, 2, 3, 4

	opBranch, opLoad, opMove, opReturn, opStore = 7, 16, 23, 30, 37
)

// readKernel is a kernel that was read.
type readKernel struct {
	code
	name         string
	instructions []instruction
}

// codeReader is the emulator's reader of PTX.
type codeReader struct {
	read func(text string, wrong unsafe.Pointer, wrongBytes uintptr) uintptr
	free func(module uintptr)
	at   func(module uintptr, i int32) unsafe.Pointer
}

func newCodeReader(t testing.TB) *codeReader {
	t.Helper()
	l, err := build(t.Context(), t.TempDir(), kernels.Sources, os.DirFS("testdata"))
	if err != nil {
		t.Fatal(err)
	}
	library, err := purego.Dlopen(l.Driver, purego.RTLD_NOW)
	if err != nil {
		t.Fatal(err)
	}
	r := &codeReader{}
	purego.RegisterLibFunc(&r.read, library, "emulator_read")
	purego.RegisterLibFunc(&r.free, library, "emulator_free")
	purego.RegisterLibFunc(&r.at, library, "emulator_at")
	return r
}

// kernels reads a text: what there is in it, or what is wrong with it.
func (r *codeReader) kernels(text string) ([]readKernel, string) {
	wrong := make([]byte, 512)
	m := r.read(text, unsafe.Pointer(&wrong[0]), uintptr(len(wrong)))
	if m == 0 {
		return nil, string(wrong[:slices.Index(wrong, 0)])
	}
	defer r.free(m)
	var all []readKernel
	for {
		c := (*code)(r.at(m, int32(len(all))))
		if c == nil {
			return all, ""
		}
		all = append(all, readKernel{
			code: *c, name: nameAt(c.name), instructions: slices.Clone(unsafe.Slice(c.instructions, c.count)),
		})
	}
}

// nameAt copies a string that ends with 0.
func nameAt(c *byte) string {
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(c), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(c, n))
}
