package emulator

import (
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// runner runs hand-written PTX.
type runner struct {
	*gpu
	mistake func() string
}

func newRunner(t *testing.T) *runner {
	t.Helper()
	l, err := Build(t.Context(), t.TempDir())
	must(t, err)
	r := &runner{gpu: opened(t, l)}
	library, err := purego.Dlopen(l.Driver, purego.RTLD_NOW)
	must(t, err)
	purego.RegisterLibFunc(&r.mistake, library, "emulator_mistake")
	r.set("ptx", 1)
	t.Cleanup(func() {
		r.set("ptx", 0)
		r.set("broken", 0)
		r.set("order", 0)
	})
	return r
}

// module is the text of a module of such declarations.
func module(declarations string) string {
	return ".version 7.0\n.target sm_80\n.address_size 64\n" + declarations
}

// function loads a text and finds an entry of it.
func (r *runner) function(text, entry string) driver.Function {
	r.t.Helper()
	m, err := r.Load([]byte(text))
	must(r.t, err)
	f, err := r.Function(m, entry)
	must(r.t, err)
	return f
}

// numbers puts whole numbers of 64 bits on the device.
func (r *runner) numbers(values []uint64) driver.Address {
	r.t.Helper()
	at, err := r.Alloc(int64(8 * len(values)))
	must(r.t, err)
	must(r.t, r.ToDevice(at, unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), 8*len(values)), r.stream))
	return at
}

// back is what n of them have become.
func (r *runner) back(at driver.Address, n int) []uint64 {
	r.t.Helper()
	host, err := r.AllocHost(8 * n)
	must(r.t, err)
	must(r.t, r.ToHost(host, at, r.stream))
	must(r.t, r.Wait(r.stream))
	out := slices.Clone(unsafe.Slice((*uint64)(unsafe.Pointer(&host[0])), n))
	must(r.t, r.FreeHost(host))
	return out
}

// A form is an opcode with its types, the types of what it takes, and what it gives.
type form struct {
	opcode string
	result string
	takes  []string
	want   func(x [3]uint64) uint64
	// near is how far the result may be off, as a share; 0 wants the same bits.
	near float64
}

var letters = map[string]string{"16": "rs", "32": "r", "64": "rd", "ed": "p"} // by the end of a type's name, "pred" too

func bitsOf(kind string) int {
	switch kind[len(kind)-2:] {
	case "16":
		return 16
	case "64":
		return 64
	}
	return 32
}

// text is a kernel of one thread a number: what the opcode gives for a[i], b[i] and c[i] goes to d[i].
func (f form) text(name string) string {
	var s strings.Builder
	fmt.Fprintf(&s, ".visible .entry %s(.param .align 8 .b8 %[1]s_param_0[32])\n.maxntid 64, 1, 1\n{\n", name)
	s.WriteString("\t.reg .pred %p<8>;\n\t.reg .b16 %rs<8>;\n\t.reg .b32 %r<16>;\n\t.reg .b64 %rd<16>;\n")
	s.WriteString("\tmov.u32 %r10, %tid.x;\n\tmov.u32 %r11, %ctaid.x;\n\tmov.u32 %r12, %ntid.x;\n\tmad.lo.s32 %r10, %r11, %r12, %r10;\n\tmul.wide.u32 %rd10, %r10, 8;\n")
	arguments := []string{}
	for i, kind := range f.takes {
		fmt.Fprintf(&s, "\tld.param.u64 %%rd11, [%s_param_0+%d];\n\tadd.s64 %%rd11, %%rd11, %%rd10;\n", name, 8*i)
		if kind == "pred" {
			fmt.Fprintf(&s, "\tld.global.u64 %%rd12, [%%rd11];\n\tand.b64 %%rd12, %%rd12, 1;\n\tsetp.ne.s64 %%p%d, %%rd12, 0;\n", i+1)
		} else {
			fmt.Fprintf(&s, "\tld.global.u%d %%%s%d, [%%rd11];\n", bitsOf(kind), letters[kind[len(kind)-2:]], i+1)
		}
		arguments = append(arguments, fmt.Sprintf("%%%s%d", letters[kind[len(kind)-2:]], i+1))
	}
	result := "%" + letters[f.result[len(f.result)-2:]] + "7"
	fmt.Fprintf(&s, "\t%s %s, %s;\n", f.opcode, result, strings.Join(arguments, ", "))
	fmt.Fprintf(&s, "\tld.param.u64 %%rd11, [%s_param_0+24];\n\tadd.s64 %%rd11, %%rd11, %%rd10;\n", name)
	if f.result == "pred" {
		s.WriteString("\tselp.u32 %r7, 1, 0, %p7;\n\tst.global.u32 [%rd11], %r7;\n")
	} else {
		fmt.Fprintf(&s, "\tst.global.u%d [%%rd11], %s;\n", bitsOf(f.result), result)
	}
	s.WriteString("\tret;\n}\n")
	return s.String()
}

// atBorders are numbers at the borders of a type, as bits.
func atBorders(kind string) []uint64 {
	switch kind {
	case "f32":
		var out []uint64
		for _, v := range []float64{0, math.Copysign(0, -1), 1, -1, 0.5, 2, math.MaxFloat32, -math.MaxFloat32, 0x1p-126, -0x1p-126, 0x1p-127, 0x1p-149, -0x1p-149,
			1 << 31, -1 << 31, 1 << 32, 1 << 63, -1 << 63, 1 << 64, 1e30, 0.99999994, 2147483520, math.Inf(1), math.Inf(-1), math.NaN()} {
			out = append(out, uint64(math.Float32bits(float32(v))))
		}
		return out
	case "f64":
		var out []uint64
		for _, v := range []float64{0, math.Copysign(0, -1), 1, -1, 0.5, 2, math.MaxFloat64, -math.MaxFloat64, 0x1p-1022, 0x1p-1074, -0x1p-1074, math.MaxFloat32, 0x1p-150, 0x1.8p-149,
			1<<31 - 1, 1 << 31, -1 << 31, -1<<31 - 1, 1 << 32, 1 << 63, -1 << 63, 1 << 64, 1 - 0x1p-53, math.Inf(1), math.Inf(-1), math.NaN()} {
			out = append(out, math.Float64bits(v))
		}
		return out
	}
	out := []uint64{0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, math.MaxUint64, math.MaxUint64 - 1}
	for _, n := range []int{16, 32, 64} {
		out = append(out, 1<<(n-1), 1<<(n-1)-1, 1<<(n-1)+1, 1<<(n-1)<<1-1)
	}
	return out
}

// drawn are n numbers of a type: special ones, random bits, and small ones.
func drawn(random *rand.Rand, kind string, n int) []uint64 {
	borders, out := atBorders(kind), make([]uint64, n)
	for i := range out {
		switch random.IntN(3) {
		case 0:
			out[i] = borders[random.IntN(len(borders))]
		case 1:
			out[i] = random.Uint64()
			if kind == "f32" {
				out[i] &= math.MaxUint32
			}
		default:
			switch kind {
			case "f32":
				out[i] = uint64(math.Float32bits(float32(4 * random.NormFloat64())))
			case "f64":
				out[i] = math.Float64bits(4 * random.NormFloat64())
			default:
				out[i] = uint64(random.Int64N(81) - 40)
			}
		}
	}
	return out
}

// low is the bits of a number that its type has.
func low(kind string, v uint64) uint64 {
	switch {
	case kind == "pred":
		return v & 1
	case bitsOf(kind) == 64:
		return v
	}
	return v & (1<<bitsOf(kind) - 1)
}

// TestFormsCompute compares every opcode that computes a number of a lane with Go's own arithmetic.
func TestFormsCompute(t *testing.T) {
	r := newRunner(t)
	forms := formsThatCompute()
	text := module("")
	for i, f := range forms {
		text += f.text(fmt.Sprintf("form_%d", i))
	}
	m, err := r.Load([]byte(text))
	must(t, err)
	const n = 1024
	random := rand.New(rand.NewPCG(11, 8))
	for i, f := range forms {
		var in [3][]uint64
		var a struct{ operands [4]driver.Address }
		for k := range in {
			kind := "u64"
			if k < len(f.takes) {
				kind = f.takes[k]
			}
			in[k] = drawn(random, kind, n)
			a.operands[k] = r.numbers(in[k])
		}
		a.operands[3] = r.numbers(make([]uint64, n))
		r.set("order", []int64{0, 1, 20261121}[i%3])
		function, err := r.Function(m, fmt.Sprintf("form_%d", i))
		must(t, err)
		must(t, r.Launch(function, [3]uint32{n / 64, 1, 1}, 64, 0, unsafe.Pointer(&a), r.stream))
		got := r.back(a.operands[3], n)
		for j := range got {
			var x [3]uint64
			for k, kind := range f.takes {
				x[k] = low(kind, in[k][j])
			}
			if want := low(f.result, f.want(x)); !f.same(got[j], want) {
				t.Errorf("%s of %#x is %#x, want %#x", f.opcode, x, got[j], want)
				break
			}
		}
		for _, at := range a.operands {
			must(t, r.Free(at))
		}
	}
}

func (f form) same(got, want uint64) bool {
	if got == want {
		return true
	}
	var x, y float64
	switch f.result {
	case "f32":
		x, y = float64(math.Float32frombits(uint32(got))), float64(math.Float32frombits(uint32(want)))
	case "f64":
		x, y = math.Float64frombits(got), math.Float64frombits(want)
	default:
		return false
	}
	return x != x && y != y || f.near > 0 && math.Abs(x-y) <= f.near*math.Abs(y)
}

// formPattern is a row of the table of opcodes in code_read_forms.c.
var (
	formPattern = regexp.MustCompile(`(?m)^\t\{"([a-z0-9.]+)", OP_[A-Z0-9_]+, [A-Z_]+, ([A-Z0-9_ |]+), "[^"]*"(?:, \.from = ([A-Z0-9_ |]+))?`)
)

// known are all opcodes that the reader knows, with all their types.
func known(t *testing.T) []string {
	t.Helper()
	source, err := fs.ReadFile(sources, "source/code_read_forms.c")
	must(t, err)
	names := map[string][]string{"PRED": {"pred"}, "BF16X2": {"bf16x2"}, "0": {""}, "BYTE": {"b8", "u8", "s8"}}
	for _, n := range []string{"16", "32", "64"} {
		names["BITS"] = append(names["BITS"], "b"+n)
		names["UNSIGNED"] = append(names["UNSIGNED"], "u"+n)
		names["SIGNED"] = append(names["SIGNED"], "s"+n)
		for _, letter := range []string{"B", "U", "S", "F"} {
			names[letter+n] = []string{strings.ToLower(letter + n)}
		}
	}
	names["REAL"] = []string{"f32", "f64"}
	names["NARROW"] = []string{"u16", "s16", "u32", "s32"}
	names["WHOLE"] = slices.Concat(names["UNSIGNED"], names["SIGNED"])
	names["SCALAR"] = slices.Concat(names["BYTE"], names["BITS"], names["WHOLE"], names["REAL"])
	of := func(set string) (out []string) {
		for _, name := range strings.Split(set, " | ") {
			if names[name] == nil {
				t.Fatalf("the table of opcodes names types %q", name)
			}
			out = append(out, names[name]...)
		}
		return out
	}
	var out []string
	for _, m := range formPattern.FindAllStringSubmatch(string(source), -1) {
		for _, kind := range of(m[2]) {
			if kind != "" {
				kind = "." + kind
			}
			if m[3] == "" {
				if !strings.Contains(m[1], ".v4") || !strings.HasSuffix(kind, "64") { // no GPU moves as much at once
					out = append(out, m[1]+kind)
				}
				continue
			}
			for _, from := range of(m[3]) {
				out = append(out, m[1]+kind+"."+from)
			}
		}
	}
	if rows := strings.Count(string(source), "\t{\"") - strings.Count(string(source), ", T_"); len(formPattern.FindAllString(string(source), -1)) < rows {
		t.Fatalf("%d rows of the table of opcodes are read, of %d", len(formPattern.FindAllString(string(source), -1)), rows)
	}
	return out
}

// TestEveryOpcodeRuns sees that each opcode that the reader knows is run by a test that knows what it computes.
func TestEveryOpcodeRuns(t *testing.T) {
	tested := map[string]bool{}
	for _, f := range formsThatCompute() {
		tested[f.opcode] = true
	}
	for _, p := range programs() {
		for line := range strings.Lines(p.text) {
			fields := strings.Fields(strings.TrimSpace(line))
			if len(fields) > 1 && strings.HasPrefix(fields[0], "@") {
				fields = fields[1:]
			}
			if len(fields) > 0 {
				tested[strings.TrimSuffix(fields[0], ";")] = true
			}
		}
	}
	for _, opcode := range known(t) {
		if !tested[opcode] {
			t.Errorf("no test runs %s", opcode)
		}
	}
}
