package cublaslt

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Matrix is a row-major matrix in a device's memory: row i begins at element i·Stride.
type Matrix struct {
	// Address is that of the first element.
	Address uint64
	Stride  int
	Type    device.DType
}

// Shape is the size of a product: so many rows, each of In inputs on one side and Out outputs on the other.
type Shape struct {
	Rows, Out, In int
}

// Multiplier queues products on streams of the device that its handle was made for. One goroutine uses it
// at a time, with the device's context current on its thread; the streams of consecutive calls are one and
// the same, for they share the workspace.
type Multiplier struct {
	handle     *Handle
	library    *Library
	workspace  uint64
	size       int64
	preference uintptr
	operations [forms][2]uintptr // by form and by whether inputs are BF16; 0 where not made yet
	plans      plans
	// scalars are what beta points to, at the index of whether to add; alpha is always 1.
	scalars [2]float32
	// arguments are those of the call under way: kept here, they cost no allocation. What they point to is
	// the multiplier's and stays where it is.
	arguments [16]uintptr
}

// NewMultiplier makes a multiplier over a workspace of so many bytes of device memory, which the caller frees
// after Close. The address is a multiple of 256; a size of 0 is no workspace. 32 MiB is what NVIDIA advises
// for current GPUs.
func NewMultiplier(h *Handle, workspace uint64, size int64) (*Multiplier, error) {
	if workspace%maxAlignment != 0 || size < 0 || (workspace == 0) != (size == 0) {
		panic(fmt.Sprintf("cublaslt: NewMultiplier: want a workspace at a multiple of %d bytes, got %d bytes at %#x", maxAlignment, size, workspace))
	}
	m := &Multiplier{handle: h, library: h.library, workspace: workspace, size: size, scalars: [2]float32{0, 1}}
	m.plans = newPlans(maxPlans)
	if err := m.library.call(matmulPreferenceCreate, uintptr(unsafe.Pointer(&m.preference))); err != nil {
		return nil, err
	}
	bytes, mask := uint64(size), uint32(reductionComputeType)
	err := errors.Join(
		m.library.call(matmulPreferenceSetAttribute, m.preference, preferMaxWorkspace, uintptr(unsafe.Pointer(&bytes)), 8),
		m.library.call(matmulPreferenceSetAttribute, m.preference, preferReductionMask, uintptr(unsafe.Pointer(&mask)), 4))
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close gives back what the multiplier has made of the library. The handle stays, and so does the workspace.
func (m *Multiplier) Close() error {
	var all []error
	for _, p := range m.plans.clear() {
		all = append(all, p.destroy(m.library))
	}
	for i := range m.operations {
		for j, o := range m.operations[i] {
			all = append(all, m.library.destroy(matmulDescDestroy, o))
			m.operations[i][j] = 0
		}
	}
	all = append(all, m.library.destroy(matmulPreferenceDestroy, m.preference))
	m.preference = 0
	return errors.Join(all...)
}

// destroy calls the destructor of what may not have been made.
func (l *Library) destroy(s symbol, address uintptr) error {
	if address == 0 {
		return nil
	}
	return l.call(s, address)
}

// Product queues y = x·Wᵀ, or y += x·Wᵀ, for x of rows × in, W of out × in and y of rows × out. The types of
// x and W are both F32, and then that of y too, or both BF16, and then y is BF16 or F32. The error is a
// [*NoAlgorithm] or a [*Failure].
func (m *Multiplier) Product(stream uintptr, y, x, w Matrix, s Shape, add bool) error {
	return m.multiply(stream, problem{form: forward, shape: s, m: s.Out, n: s.Rows, k: s.In, a: w, b: x, c: y, d: y}, add)
}

// ProductOnto queues y = base + x·Wᵀ, with base of y's type and the types and errors of Product. base is y or has nothing
// in common with it.
func (m *Multiplier) ProductOnto(stream uintptr, y, base, x, w Matrix, s Shape) error {
	if s.In == 0 {
		return problem{form: forward, shape: s, a: w, b: x, c: base, d: y}.without("a sum of nothing is not a product", m.size)
	}
	return m.multiply(stream, problem{form: forward, shape: s, m: s.Out, n: s.Rows, k: s.In, a: w, b: x, c: base, d: y}, true)
}

// ProductBack queues dx = dy·W, or dx += dy·W, with the types and errors of Product.
func (m *Multiplier) ProductBack(stream uintptr, dx, dy, w Matrix, s Shape, add bool) error {
	return m.multiply(stream, problem{form: back, shape: s, m: s.In, n: s.Rows, k: s.Out, a: w, b: dy, c: dx, d: dx}, add)
}

// ProductGrad queues dW += dyᵀ·x with the types and errors of Product.
func (m *Multiplier) ProductGrad(stream uintptr, dw, dy, x Matrix, s Shape) error {
	return m.multiply(stream, problem{form: grad, shape: s, m: s.In, n: s.Out, k: s.Rows, a: x, b: dy, c: dw, d: dw}, true)
}

func (m *Multiplier) multiply(stream uintptr, p problem, add bool) error {
	p.check()
	switch {
	case p.m == 0 || p.n == 0 || p.k == 0 && add:
		return nil
	case p.k == 0:
		return p.without("a sum of nothing is not a product", m.size)
	}
	plan, err := m.plan(p)
	if err != nil {
		return err
	}
	if plan.none != "" {
		return p.without(plan.none, m.size)
	}
	beta := &m.scalars[0]
	if add {
		beta = &m.scalars[1]
	}
	m.arguments = [...]uintptr{m.handle.address, plan.operation, uintptr(unsafe.Pointer(&m.scalars[1])),
		uintptr(p.a.Address), plan.a, uintptr(p.b.Address), plan.b, uintptr(unsafe.Pointer(beta)),
		uintptr(p.c.Address), plan.c, uintptr(p.d.Address), plan.d, uintptr(unsafe.Pointer(&plan.algorithm)),
		uintptr(m.workspace), uintptr(m.size), stream}
	got := m.library.ask(matmul, m.arguments[:]...)
	runtime.KeepAlive(m)
	runtime.KeepAlive(plan)
	switch got {
	case statusSuccess:
		return nil
	case statusNotSupported:
		plan.none = "cublasLtMatmul: " + got.String()
		return p.without(plan.none, m.size)
	default:
		return &Failure{Call: symbolNames[matmul], Status: got.String()}
	}
}

// form is one of the three products.
type form uint8

const (
	forward form = iota
	back
	grad
	forms
)

// operations says how the operands of each form are stored; see the package comment.
var operations = [forms]struct {
	name   string
	ta, tb int32
}{
	forward: {"Product", transposed, asStored},
	back:    {"ProductBack", asStored, asStored},
	grad:    {"ProductGrad", asStored, transposed},
}

// problem is D = op(A)·op(B), or that plus C, in the library's order: C and D of m × n, k products to an element. C is D
// where it is not read.
type problem struct {
	form       form
	shape      Shape
	m, n, k    int
	a, b, c, d Matrix
}

// stored is the size of the two operands as the library sees them, columns first.
func (p *problem) stored() (aRows, aColumns, bRows, bColumns int) {
	aRows, aColumns, bRows, bColumns = p.m, p.k, p.k, p.n
	if operations[p.form].ta == transposed {
		aRows, aColumns = aColumns, aRows
	}
	if operations[p.form].tb == transposed {
		bRows, bColumns = bColumns, bRows
	}
	return aRows, aColumns, bRows, bColumns
}

// check panics where the operands are a programmer's error.
func (p *problem) check() {
	aRows, _, bRows, _ := p.stored()
	for _, n := range [...]int{p.m, p.n, p.k} {
		if n < 0 || n > math.MaxInt32 {
			panic(fmt.Sprintf("cublaslt: %s: want sizes from 0 to %d, got %+v", operations[p.form].name, math.MaxInt32, p.shape))
		}
	}
	if p.m == 0 || p.n == 0 || p.k == 0 {
		return
	}
	if p.a.Stride < aRows || p.b.Stride < bRows || p.d.Stride < p.m || p.c.Stride < p.m {
		panic(fmt.Sprintf("cublaslt: %s of %+v: strides %v are less than the widths %v", operations[p.form].name, p.shape, p.strides(), [3]int{aRows, bRows, p.m}))
	}
	plain, narrow := p.a.Type == device.F32, p.a.Type == device.BF16
	if p.a.Type != p.b.Type || !plain && !narrow || p.c.Type != p.d.Type || p.d.Type != p.a.Type && (!narrow || p.d.Type != device.F32) {
		panic(fmt.Sprintf("cublaslt: %s: no product of %v and %v gives %v", operations[p.form].name, p.a.Type, p.b.Type, p.d.Type))
	}
	for _, o := range [...]Matrix{p.a, p.b, p.c, p.d} {
		if o.Address == 0 || o.Address%uint64(o.Type.Size()) != 0 {
			panic(fmt.Sprintf("cublaslt: %s: no elements of %v are at %#x", operations[p.form].name, o.Type, o.Address))
		}
	}
}

func (p *problem) strides() [3]int { return [3]int{p.a.Stride, p.b.Stride, p.d.Stride} }

// without is the error of a product that the library does not compute.
func (p problem) without(reason string, workspace int64) error {
	return &NoAlgorithm{Product: operations[p.form].name, Shape: p.shape, Input: p.a.Type, Output: p.d.Type,
		Alignment: [3]int{alignment(p.a.Address), alignment(p.b.Address), alignment(p.d.Address)}, Stride: p.strides(),
		Workspace: workspace, Reason: reason}
}
