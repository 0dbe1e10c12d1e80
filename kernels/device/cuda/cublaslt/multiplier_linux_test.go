package cublaslt

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// product is one of the three, with what it reads and writes and what each element has to be.
type product struct {
	form          form
	shape         Shape
	add           bool
	result        *operand
	left, right   *operand // as in the doc comments: y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x
	before        [][]float64
	input, output device.DType
}

// sizes are the shapes of result, left and right, rows first.
func (f form) sizes(s Shape) (result, left, right [2]int) {
	switch f {
	case forward:
		return [2]int{s.Rows, s.Out}, [2]int{s.Rows, s.In}, [2]int{s.Out, s.In}
	case back:
		return [2]int{s.Rows, s.In}, [2]int{s.Rows, s.Out}, [2]int{s.Out, s.In}
	default:
		return [2]int{s.Out, s.In}, [2]int{s.Rows, s.Out}, [2]int{s.Rows, s.In}
	}
}

// terms are the two factors of the i-th summand of an element.
func (p *product) terms(row, column, i int) (float64, float64) {
	switch p.form {
	case forward:
		return p.left.get(row, i), p.right.get(column, i)
	case back:
		return p.left.get(row, i), p.right.get(i, column)
	default:
		return p.left.get(i, row), p.right.get(i, column)
	}
}

func (p *product) length() int { return [...]int{p.shape.In, p.shape.Out, p.shape.Rows}[p.form] }

// laid makes a product of random numbers whose operands begin at the offsets and have gaps between rows.
func laid(r *rand.Rand, f form, s Shape, input, output device.DType, add bool, offset, gap [3]int) *product {
	p := &product{form: f, shape: s, add: add || f == grad, input: input, output: output}
	size := [3][2]int{}
	size[0], size[1], size[2] = f.sizes(s)
	for i, into := range []**operand{&p.result, &p.left, &p.right} {
		t := input
		if i == 0 {
			t = output
		}
		o := newOperand(t, size[i][0], size[i][1], size[i][1]+gap[i], offset[i])
		for row := range o.rows {
			for column := range o.width {
				o.put(row, column, float32(r.NormFloat64()))
				if i == 0 && !p.add {
					o.put(row, column, float32(math.NaN()))
				}
			}
		}
		*into = o
	}
	for row := range p.result.rows {
		p.before = append(p.before, nil)
		for column := range p.result.width {
			p.before[row] = append(p.before[row], p.result.get(row, column))
		}
	}
	return p
}

func (p *product) run(m *Multiplier, stream uintptr) error {
	defer runtime.KeepAlive(p)
	switch p.form {
	case forward:
		return m.Product(stream, p.result.Matrix, p.left.Matrix, p.right.Matrix, p.shape, p.add)
	case back:
		return m.ProductBack(stream, p.result.Matrix, p.left.Matrix, p.right.Matrix, p.shape, p.add)
	default:
		return m.ProductGrad(stream, p.result.Matrix, p.left.Matrix, p.right.Matrix, p.shape)
	}
}

// wrong says which element is farther from the sum in float64 than rounding explains.
func (p *product) wrong() string {
	const epsilon = 1.0 / (1 << 24)
	for row := range p.result.rows {
		for column := range p.result.width {
			var want, size float64
			for i := range p.length() {
				x, w := p.terms(row, column, i)
				want += x * w
				size += math.Abs(x * w)
			}
			if p.add {
				want += p.before[row][column]
				size += math.Abs(p.before[row][column])
			}
			bound := float64(p.length()+3) * epsilon * size
			if p.output == device.BF16 {
				bound += (math.Abs(want) + bound) / 256
			}
			if got := p.result.get(row, column); !(math.Abs(got-want) <= bound) {
				return fmt.Sprintf("element (%d, %d) is %v, want %v ± %v", row, column, got, want, bound)
			}
		}
	}
	if !p.result.marked() || !p.left.marked() || !p.right.marked() {
		return "something around an operand has been written"
	}
	return ""
}

// types are the pairs of input and output that the products take.
var types = [][2]device.DType{{device.F32, device.F32}, {device.BF16, device.F32}, {device.BF16, device.BF16}}

// TestProductOntoAgreesWithFloat64 adds to a matrix of another stride, which stays as it is.
func TestProductOntoAgreesWithFloat64(t *testing.T) {
	e := emulate(t)
	m := e.multiplier(t, 1<<20)
	r := rand.New(rand.NewPCG(11, 12))
	for _, pair := range types {
		for _, gap := range []int{0, 3} {
			p := laid(r, forward, Shape{5, 7, 600}, pair[0], pair[1], true, [3]int{1, 0, 2}, [3]int{1, 2, 0})
			base := newOperand(pair[1], 5, 7, 7+gap, 2)
			for row := range p.before {
				for column, value := range p.before[row] {
					base.put(row, column, float32(value))
					p.result.put(row, column, float32(math.NaN()))
				}
			}
			for range 2 {
				if err := m.ProductOnto(0, p.result.Matrix, base.Matrix, p.left.Matrix, p.right.Matrix, p.shape); err != nil {
					t.Fatal(err)
				}
				if wrong := p.wrong(); wrong != "" || !base.marked() {
					t.Fatalf("%v, base with a gap of %d: %s", pair, gap, wrong)
				}
			}
			runtime.KeepAlive(base)
		}
	}
}

func TestProductsAgreeWithFloat64(t *testing.T) {
	m := emulate(t).multiplier(t, 1<<20)
	rapid.Check(t, func(t *rapid.T) {
		s := Shape{rapid.IntRange(1, 40).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "out"), rapid.IntRange(1, 40).Draw(t, "in")}
		pair := rapid.SampledFrom(types).Draw(t, "types")
		three := rapid.Custom(func(t *rapid.T) (three [3]int) {
			for i := range three {
				three[i] = rapid.IntRange(0, 9).Draw(t, "one of three")
			}
			return three
		})
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "numbers"), 0))
		p := laid(r, form(rapid.IntRange(0, 2).Draw(t, "form")), s, pair[0], pair[1], rapid.Bool().Draw(t, "add"), three.Draw(t, "offsets"), three.Draw(t, "gaps"))
		if err := p.run(m, 0); err != nil {
			t.Fatal(err)
		}
		if wrong := p.wrong(); wrong != "" {
			t.Fatal(wrong)
		}
	})
}

// TestLongSumsAgreeWithFloat64 takes sums that the library splits and puts together in the workspace, and
// such that do not fit into the workspace.
func TestLongSumsAgreeWithFloat64(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, workspace := range []int{0, 512, 1 << 20} {
		m := emulate(t).multiplier(t, workspace)
		for f := range forms {
			for _, pair := range types {
				s := Shape{5, 9, 7}
				*[...]*int{&s.In, &s.Out, &s.Rows}[f] = 1030
				p := laid(r, f, s, pair[0], pair[1], false, [3]int{1, 3, 0}, [3]int{2, 1, 5})
				if err := p.run(m, 0); err != nil {
					t.Fatal(err)
				}
				if wrong := p.wrong(); wrong != "" {
					t.Errorf("%s of %v to %v with a workspace of %d bytes: %s", operations[f].name, pair[0], pair[1], workspace, wrong)
				}
			}
		}
	}
}

// TestSameBitsFromRunToRun would fail if the library were allowed to add up in place: the emulated one puts
// such sums together differently from call to call.
func TestSameBitsFromRunToRun(t *testing.T) {
	var first []float64
	for run := range 4 {
		m := emulate(t).multiplier(t, 1<<20)
		for range 3 {
			r := rand.New(rand.NewPCG(3, 4))
			p := laid(r, forward, Shape{8, 16, 2048}, device.F32, device.F32, false, [3]int{}, [3]int{})
			if err := p.run(m, 0); err != nil {
				t.Fatal(err)
			}
			var got []float64
			for i := range 8 * 16 {
				got = append(got, p.result.get(i/16, i%16))
			}
			if first == nil {
				first = got
			}
			for i := range got {
				if got[i] != first[i] {
					t.Fatalf("run %d: element %d is %v, in the first run it was %v", run, i, got[i], first[i])
				}
			}
		}
	}
}

// TestSumsAreNotTheExactChain holds the emulation to what tests of the two modes rely on.
func TestSumsAreNotTheExactChain(t *testing.T) {
	m := emulate(t).multiplier(t, 0)
	p := laid(rand.New(rand.NewPCG(5, 6)), forward, Shape{4, 32, 64}, device.F32, device.F32, false, [3]int{}, [3]int{})
	if err := p.run(m, 0); err != nil {
		t.Fatal(err)
	}
	different := 0
	for i := range 4 * 32 {
		chain := 0.0
		for k := range 64 {
			x, w := p.terms(i/32, i%32, k)
			chain = float64(float32(math.FMA(x, w, chain)))
		}
		if p.result.get(i/32, i%32) != chain {
			different++
		}
	}
	if different < 32 {
		t.Errorf("%d of 128 elements differ from a chain of multiply-adds, want at least 32", different)
	}
}

func TestPlansAreKept(t *testing.T) {
	e := emulate(t)
	m := e.multiplier(t, 1<<20)
	r := rand.New(rand.NewPCG(7, 8))
	ask := func(s Shape, offset, gap [3]int) int64 {
		before := e.asked()
		if err := laid(r, forward, s, device.F32, device.F32, false, offset, gap).run(m, 0); err != nil {
			t.Fatal(err)
		}
		return e.asked() - before
	}
	s := Shape{3, 8, 16}
	for _, c := range []struct {
		what        string
		shape       Shape
		offset, gap [3]int
		asks        int64
	}{
		{"the first time", s, [3]int{}, [3]int{}, 1},
		{"the second time, elsewhere in memory", s, [3]int{}, [3]int{}, 0},
		{"another alignment", s, [3]int{0, 1, 0}, [3]int{}, 1},
		{"an offset of the same alignment", s, [3]int{0, 3, 0}, [3]int{}, 0},
		{"another stride", s, [3]int{}, [3]int{0, 0, 1}, 1},
		{"another number of rows", Shape{4, 8, 16}, [3]int{}, [3]int{}, 1},
	} {
		if got := ask(c.shape, c.offset, c.gap); got != c.asks {
			t.Errorf("%s: the heuristic is asked %d times, want %d", c.what, got, c.asks)
		}
	}
	live := e.live()
	m.plans.bound = len(m.plans.order)
	for rows := 10; rows < 30; rows++ {
		if got := ask(Shape{rows, 8, 16}, [3]int{}, [3]int{}); got != 1 {
			t.Errorf("%d rows: the heuristic is asked %d times, want 1", rows, got)
		}
	}
	if e.live() != live || len(m.plans.byKey) != m.plans.bound {
		t.Errorf("%d plans and %d objects of the library after 20 more shapes, want %d and %d as before", len(m.plans.byKey), e.live(), m.plans.bound, live)
	}
	if got := ask(Shape{29, 8, 16}, [3]int{}, [3]int{}); got != 0 {
		t.Errorf("the newest shape is asked for %d times again, want 0", got)
	}
	if got := ask(s, [3]int{}, [3]int{}); got != 1 {
		t.Errorf("a forgotten shape is asked for %d times, want 1", got)
	}
}

func TestCachedProductsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m := emulate(t).multiplier(t, 1<<20)
	p := laid(rand.New(rand.NewPCG(9, 10)), forward, Shape{1, 4, 4}, device.F32, device.F32, true, [3]int{}, [3]int{})
	allocations := testing.AllocsPerRun(100, func() {
		if err := p.run(m, 0); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 0 {
		t.Errorf("a product that has a plan allocates %v times, want 0", allocations)
	}
}

func TestProductsWithoutAlgorithm(t *testing.T) {
	e := emulate(t)
	m := e.multiplier(t, 0)
	r := rand.New(rand.NewPCG(11, 12))
	odd := laid(r, forward, Shape{2, 3, 5}, device.BF16, device.F32, false, [3]int{0, 1, 0}, [3]int{})
	even := laid(r, forward, Shape{2, 3, 5}, device.BF16, device.F32, false, [3]int{}, [3]int{})
	e.leastAlignment(16)
	for range 2 {
		var none *NoAlgorithm
		if err := odd.run(m, 0); !errors.As(err, &none) {
			t.Fatalf("an odd address: %v, want a NoAlgorithm", err)
		}
		want := NoAlgorithm{Product: "Product", Shape: Shape{2, 3, 5}, Input: device.BF16, Output: device.F32, Alignment: [3]int{256, 2, 256}, Stride: [3]int{5, 5, 3},
			Reason: "cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED (15), 0 answers of which none is usable"}
		if *none != want {
			t.Errorf("an odd address: %+v, want %+v", *none, want)
		}
	}
	if n := e.asked(); n != 1 {
		t.Errorf("the heuristic is asked %d times for a product without algorithm, want 1", n)
	}
	if err := even.run(m, 0); err != nil {
		t.Errorf("aligned addresses: %v", err)
	}
	e.fail(int32(statusNotSupported))
	if err := even.run(m, 0); err == nil || !strings.Contains(err.Error(), "no algorithm for Product of 2 rows, 3 outputs and 5 inputs") {
		t.Errorf("a product that turns out not to be supported: %v", err)
	}
	e.fail(0)
	var none *NoAlgorithm
	if err := even.run(m, 0); !errors.As(err, &none) || none.Reason != "cublasLtMatmul: CUBLAS_STATUS_NOT_SUPPORTED (15)" {
		t.Errorf("the same product later: %v, want the answer of the first time", err)
	}
}

func TestProductsOfNothing(t *testing.T) {
	m := emulate(t).multiplier(t, 0)
	y, x, w := newOperand(device.F32, 3, 4, 4, 0), newOperand(device.F32, 3, 4, 4, 0), newOperand(device.F32, 4, 4, 4, 0)
	for _, s := range []Shape{{0, 4, 4}, {3, 0, 4}, {0, 0, 0}} {
		if err := m.Product(0, y.Matrix, x.Matrix, w.Matrix, s, false); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if err := m.Product(0, y.Matrix, x.Matrix, w.Matrix, Shape{3, 4, 0}, true); err != nil {
		t.Errorf("adding nothing: %v", err)
	}
	if err := m.ProductGrad(0, w.Matrix, y.Matrix, x.Matrix, Shape{0, 4, 4}); err != nil {
		t.Errorf("a gradient of no rows: %v", err)
	}
	var none *NoAlgorithm
	if err := m.Product(0, y.Matrix, x.Matrix, w.Matrix, Shape{3, 4, 0}, false); !errors.As(err, &none) {
		t.Errorf("a sum of nothing that is to be written: %v, want a NoAlgorithm", err)
	}
	if y.get(0, 0) != mark || w.get(0, 0) != mark {
		t.Error("a product of nothing has written something")
	}
}

func TestFailedCallsAreFailures(t *testing.T) {
	calls := []symbol{create, matmulDescCreate, matmulDescSetAttribute, matrixLayoutCreate, matmulPreferenceCreate, matmulPreferenceSetAttribute, matmulAlgoGetHeuristic, matmul}
	for _, call := range calls {
		e := emulate(t)
		e.failCall(symbolNames[call], 13)
		err := func() error {
			handle, err := e.NewHandle()
			if err != nil {
				return err
			}
			defer handle.Close()
			m, err := NewMultiplier(handle, 0, 0)
			if err != nil {
				return err
			}
			defer m.Close()
			p := laid(rand.New(rand.NewPCG(1, 1)), back, Shape{2, 2, 2}, device.F32, device.F32, false, [3]int{}, [3]int{})
			return p.run(m, 0)
		}()
		var failure *Failure
		if !errors.As(err, &failure) || failure.Call != symbolNames[call] || failure.Status != "CUBLAS_STATUS_EXECUTION_FAILED (13)" {
			t.Errorf("%s fails: %v, want a Failure that names it", symbolNames[call], err)
		}
		if n := e.live(); n != 0 {
			t.Errorf("%s fails: %d objects of the library are left", symbolNames[call], n)
		}
	}
	if got := (&Failure{"cublasLtMatmul", status(99).String()}).Error(); got != "cublasLtMatmul: cublasStatus_t (99)" {
		t.Errorf("an unknown status reads %q", got)
	}
}

func TestClosingTwice(t *testing.T) {
	e := emulate(t)
	m := e.multiplier(t, 0)
	if err := errors.Join(m.Close(), m.handle.Close(), m.handle.Close()); err != nil {
		t.Error(err)
	}
}

func TestOperandsThatDoNotFit(t *testing.T) {
	m := emulate(t).multiplier(t, 0)
	good := func(t device.DType) Matrix { return newOperand(t, 4, 4, 4, 0).Matrix }
	y, x, w, s := good(device.F32), good(device.F32), good(device.F32), Shape{4, 4, 4}
	for want, run := range map[string]func(){
		"less than the widths":                   func() { _ = m.Product(0, y, Matrix{x.Address, 3, x.Type}, w, s, false) },
		"sizes from 0":                           func() { _ = m.ProductBack(0, y, x, w, Shape{-1, 4, 4}, false) },
		"no product of bf16 and f32 gives f32":   func() { _ = m.Product(0, y, x, Matrix{w.Address, 4, device.BF16}, s, false) },
		"no product of f32 and f32 gives bf16":   func() { _ = m.Product(0, Matrix{y.Address, 4, device.BF16}, x, w, s, false) },
		"no product of i32 and i32 gives i32":    func() { o := good(device.I32); _ = m.ProductGrad(0, o, o, o, s) },
		"no elements of f32 are at":              func() { _ = m.Product(0, Matrix{y.Address + 2, 4, y.Type}, x, w, s, false) },
		"workspace at a multiple of 256 bytes":   func() { _, _ = NewMultiplier(m.handle, 128, 1024) },
		"of 256 bytes, got 1024 bytes at 0x0":    func() { _, _ = NewMultiplier(m.handle, 0, 1024) },
		"want sizes from 0 to 2147483647, got {": func() { _ = m.ProductGrad(0, y, x, w, Shape{1 << 40, 4, 4}) },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("panics with %q, want %q in it", got, want)
				}
			}()
			run()
		}()
	}
}

// TestWorkIsQueued loads the part of an emulated driver that the library sees: products wait on their stream,
// and need a current context.
func TestWorkIsQueued(t *testing.T) {
	raw, err := purego.Dlopen(built[queue], purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		t.Fatal(err)
	}
	defer purego.Dlclose(raw)
	var drain func() int32
	var setContext func(context uintptr, answer int32)
	var stream func() uintptr
	purego.RegisterLibFunc(&drain, raw, "queue_drain")
	purego.RegisterLibFunc(&setContext, raw, "queue_context")
	purego.RegisterLibFunc(&stream, raw, "queue_stream")

	e := emulate(t)
	if _, err := e.NewHandle(); err == nil || !strings.Contains(err.Error(), "CUBLAS_STATUS_NOT_INITIALIZED (1)") {
		t.Errorf("a handle without a current context: %v", err)
	}
	setContext(1, 0)
	defer setContext(1, 0)
	m := e.multiplier(t, 0)
	p := laid(rand.New(rand.NewPCG(13, 14)), forward, Shape{3, 4, 5}, device.F32, device.F32, false, [3]int{}, [3]int{})
	if err := p.run(m, 77); err != nil {
		t.Fatal(err)
	}
	if got := p.result.get(0, 0); !math.IsNaN(got) {
		t.Errorf("the first element is %v before the stream has been waited for", got)
	}
	if n, s := drain(), stream(); n != 1 || s != 77 {
		t.Errorf("%d products wait on stream %d, want 1 on 77", n, s)
	}
	if wrong := p.wrong(); wrong != "" {
		t.Error(wrong)
	}
	for answer, want := range map[int32]string{0: "CUBLAS_STATUS_NOT_INITIALIZED (1)", 700: "CUBLAS_STATUS_EXECUTION_FAILED (13)"} {
		setContext(0, answer)
		if err := p.run(m, 77); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a product when the driver answers %d without a context: %v, want %s", answer, err, want)
		}
	}
}

func TestLayoutsAreTheHeaders(t *testing.T) {
	var r heuristicResult
	for what, sizes := range map[string][2]uintptr{
		"cublasLtMatmulAlgo_t":                          {unsafe.Sizeof(r.algorithm), 64},
		"cublasLtMatmulHeuristicResult_t":               {unsafe.Sizeof(r), 96},
		"cublasLtMatmulHeuristicResult_t.workspaceSize": {unsafe.Offsetof(r.workspace), 64},
		"cublasLtMatmulHeuristicResult_t.state":         {unsafe.Offsetof(r.state), 72},
		"cublasStatus_t":                                {unsafe.Sizeof(r.state), 4},
	} {
		if sizes[0] != sizes[1] {
			t.Errorf("%s: %d bytes, in the header %d", what, sizes[0], sizes[1])
		}
	}
}

func TestAlignment(t *testing.T) {
	for address, want := range map[uint64]int{0x1000: 256, 0x1080: 128, 0x1002: 2, 0x1004: 4, 0x1001: 1, 0x7f00: 256, 0x7f10: 16} {
		if got := alignment(address); got != want {
			t.Errorf("%#x is aligned to %d bytes, want %d", address, got, want)
		}
	}
}
