package cublaslt

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// built are the emulated libraries, by what they were compiled with.
var built = map[string]string{"": "", "-DEMULATOR_CUBLASLT_MAJOR=10": "", "-DcublasLtMatmul=renamed": ""}

const queue = "testdata/queue.c"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "cublaslt")
		if err == nil {
			defer os.RemoveAll(dir)
			err = buildAll(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

func buildAll(dir string) error {
	for flags := range built {
		built[flags] = filepath.Join(dir, fmt.Sprintf("libcublasLt%s.so", flags))
		if err := compile("../emulator/source/cublaslt.c", built[flags], flags); err != nil {
			return err
		}
	}
	built[queue] = filepath.Join(dir, "libqueue.so")
	return compile(queue, built[queue], "")
}

func compile(source, library, flags string) error {
	arguments := []string{"-shared", "-fPIC", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-o", library, source, "-ldl"}
	if flags != "" {
		arguments = append(arguments, flags)
	}
	if out, err := exec.Command("cc", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("cc %v: %w\n%s", arguments, err, out)
	}
	return nil
}

// emulated is an emulated library with faults and counters of its own.
type emulated struct {
	*Library
	fail           func(status int32)
	failCall       func(call string, status int32)
	leastAlignment func(bytes int32)
	live, asked    func() int64
}

// placed copies a built library to a file of its own, so that its state is its own.
func placed(t *testing.T, flags, file string) string {
	t.Helper()
	data, err := os.ReadFile(built[flags])
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o700)
	}
	if err == nil {
		err = os.WriteFile(file, data, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func emulate(t *testing.T) *emulated {
	t.Helper()
	path := placed(t, "", filepath.Join(t.TempDir(), "libcublasLt.so.12"))
	library, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	e := &emulated{Library: library}
	raw, err := purego.Dlopen(path, purego.RTLD_NOW)
	if err != nil {
		t.Fatal(err)
	}
	purego.RegisterLibFunc(&e.fail, raw, "emulator_cublaslt_fail")
	purego.RegisterLibFunc(&e.failCall, raw, "emulator_cublaslt_fail_call")
	purego.RegisterLibFunc(&e.leastAlignment, raw, "emulator_cublaslt_least_alignment")
	purego.RegisterLibFunc(&e.live, raw, "emulator_cublaslt_live")
	purego.RegisterLibFunc(&e.asked, raw, "emulator_cublaslt_calls")
	return e
}

// multiplier makes a multiplier with a workspace, and wants everything given back in the end.
func (e *emulated) multiplier(t *testing.T, workspace int) *Multiplier {
	t.Helper()
	handle, err := e.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	address, keep := room(workspace)
	m, err := NewMultiplier(handle, address, int64(workspace))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := handle.Close(); err != nil {
			t.Error(err)
		}
		if n := e.live(); n != 0 {
			t.Errorf("%d objects of the library are left after Close", n)
		}
		runtime.KeepAlive(keep)
	})
	return m
}

// room is memory at a multiple of 256 bytes.
func room(bytes int) (uint64, []byte) {
	if bytes == 0 {
		return 0, nil
	}
	keep := make([]byte, bytes+256)
	address := uint64(uintptr(unsafe.Pointer(&keep[0])))
	return address + (256-address%256)%256, keep
}

// operand is a matrix in memory that pretends to be a device's. What is not of the matrix holds a mark.
type operand struct {
	Matrix
	keep              []byte
	at                int // of the first element, in bytes from keep's
	rows, width, size int
}

const mark = 7.5

func newOperand(t device.DType, rows, width, stride, offset int) *operand {
	size := offset + rows*stride + 3
	address, keep := room(size * t.Size())
	o := &operand{Matrix: Matrix{Address: address + uint64(offset*t.Size()), Stride: stride, Type: t}, keep: keep, rows: rows, width: width, size: size}
	o.at = int(o.Address - uint64(uintptr(unsafe.Pointer(&keep[0]))))
	for i := -offset; i < size-offset; i++ {
		o.write(i, mark)
	}
	return o
}

func (o *operand) read(i int) float32 {
	at := o.at + i*o.Type.Size()
	if o.Type == device.F32 {
		return math.Float32frombits(uint32(o.keep[at]) | uint32(o.keep[at+1])<<8 | uint32(o.keep[at+2])<<16 | uint32(o.keep[at+3])<<24)
	}
	return math.Float32frombits(uint32(o.keep[at])<<16 | uint32(o.keep[at+1])<<24)
}

func (o *operand) write(i int, value float32) {
	at, bits := o.at+i*o.Type.Size(), math.Float32bits(value)
	if o.Type == device.BF16 {
		bits = (bits + 0x7fff + bits>>16&1) >> 16
	}
	for b := range o.Type.Size() {
		o.keep[at+b] = byte(bits >> (8 * b))
	}
}

// put writes an element and returns what it was rounded to.
func (o *operand) put(row, column int, value float32) {
	o.write(row*o.Stride+column, value)
}

func (o *operand) get(row, column int) float64 { return float64(o.read(row*o.Stride + column)) }

// marked reports whether everything around the matrix is as it was.
func (o *operand) marked() bool {
	offset := (o.size - 3) - o.rows*o.Stride
	for i := -offset; i < o.size-offset; i++ {
		inside := i >= 0 && i < o.rows*o.Stride && i%o.Stride < o.width
		if !inside && o.read(i) != mark {
			return false
		}
	}
	return true
}
