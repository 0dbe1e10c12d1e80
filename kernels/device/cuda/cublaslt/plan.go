package cublaslt

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// maxPlans bounds the plans that are kept; one is about half a kilobyte of host memory. A sampler whose
// number of rows changes from step to step needs one for each number and matrix.
const maxPlans = 8192

// maxAlignment is the alignment of every allocation of the driver, in bytes, and the most that an address
// counts as aligned to.
const maxAlignment = 256

// alignment is the largest power of two that divides an address, at most maxAlignment.
func alignment(address uint64) int {
	if address == 0 {
		return maxAlignment
	}
	return int(min(address&-address, maxAlignment))
}

// key is what an algorithm depends on.
type key struct {
	form          form
	input, output device.DType
	alignment     [4]uint16
	m, n, k       int32
	strides       [4]int
}

func (p *problem) key() key {
	return key{form: p.form, input: p.a.Type, output: p.d.Type,
		alignment: [4]uint16{uint16(alignment(p.a.Address)), uint16(alignment(p.b.Address)), uint16(alignment(p.c.Address)), uint16(alignment(p.d.Address))},
		m:         int32(p.m), n: int32(p.n), k: int32(p.k), strides: [4]int{p.a.Stride, p.b.Stride, p.c.Stride, p.d.Stride}}
}

// plan is how the library computes the products of one key.
type plan struct {
	operation  uintptr // the multiplier's
	a, b, c, d uintptr // layouts, the plan's own
	algorithm  algorithm
	// none is why there is no algorithm, "" when there is.
	none string
}

func (p *plan) destroy(l *Library) error {
	err := errors.Join(l.destroy(matrixLayoutDestroy, p.a), l.destroy(matrixLayoutDestroy, p.b), l.destroy(matrixLayoutDestroy, p.c), l.destroy(matrixLayoutDestroy, p.d))
	p.a, p.b, p.c, p.d = 0, 0, 0, 0
	return err
}

// plans keeps the newest plans up to a bound. What is forgotten is found again with the same algorithm.
type plans struct {
	byKey map[key]*plan
	order []key // a ring once it is full
	next  int
	bound int
}

func newPlans(bound int) plans { return plans{byKey: map[key]*plan{}, bound: bound} }

// add keeps a plan and returns the one that gave way, nil when there was room.
func (s *plans) add(k key, p *plan) *plan {
	s.byKey[k] = p
	if len(s.order) < s.bound {
		s.order = append(s.order, k)
		return nil
	}
	oldest := s.byKey[s.order[s.next]]
	delete(s.byKey, s.order[s.next])
	s.order[s.next] = k
	s.next = (s.next + 1) % s.bound
	return oldest
}

// clear forgets all plans and returns them.
func (s *plans) clear() []*plan {
	all := make([]*plan, 0, len(s.byKey))
	for _, p := range s.byKey {
		all = append(all, p)
	}
	*s = newPlans(s.bound)
	return all
}

// plan is the kept plan of a product, or a new one.
func (m *Multiplier) plan(p problem) (*plan, error) {
	k := p.key()
	if known, ok := m.plans.byKey[k]; ok {
		return known, nil
	}
	made, described := &plan{}, p // p itself stays off the heap for the sake of the kept plans
	if err := m.fill(made, &described); err != nil {
		return nil, errors.Join(err, made.destroy(m.library))
	}
	if old := m.plans.add(k, made); old != nil {
		return made, old.destroy(m.library)
	}
	return made, nil
}

// fill describes a product to the library and takes the first algorithm of its heuristic that is usable.
func (m *Multiplier) fill(made *plan, p *problem) (err error) {
	if made.operation, err = m.operation(p.form, p.a.Type); err != nil {
		return err
	}
	aRows, aColumns, bRows, bColumns := p.stored()
	err = errors.Join(
		m.layout(&made.a, p.a, aRows, aColumns), m.layout(&made.b, p.b, bRows, bColumns), m.layout(&made.c, p.c, p.m, p.n), m.layout(&made.d, p.d, p.m, p.n),
		m.prefer(preferAlignmentA, p.a), m.prefer(preferAlignmentB, p.b), m.prefer(preferAlignmentC, p.c), m.prefer(preferAlignmentD, p.d))
	if err != nil {
		return err
	}
	var results [8]heuristicResult
	var count int32
	got := m.library.ask(matmulAlgoGetHeuristic, m.handle.address, made.operation, made.a, made.b, made.c, made.d, m.preference,
		uintptr(len(results)), uintptr(unsafe.Pointer(&results)), uintptr(unsafe.Pointer(&count)))
	if got != statusSuccess && got != statusNotSupported {
		return &Failure{Call: symbolNames[matmulAlgoGetHeuristic], Status: got.String()}
	}
	for _, r := range results[:min(max(count, 0), int32(len(results)))] {
		if r.state == statusSuccess {
			made.algorithm = r.algorithm
			return nil
		}
	}
	made.none = fmt.Sprintf("cublasLtMatmulAlgoGetHeuristic: %v, %d answers of which none is usable", got, count)
	return nil
}

// operation is the descriptor of a form, which all its plans share.
func (m *Multiplier) operation(f form, input device.DType) (uintptr, error) {
	which, compute := 0, uintptr(compute32FPedantic)
	if input == device.BF16 {
		which, compute = 1, compute32F
	}
	if known := m.operations[f][which]; known != 0 {
		return known, nil
	}
	var made uintptr
	if err := m.library.call(matmulDescCreate, uintptr(unsafe.Pointer(&made)), compute, dataF32); err != nil {
		return 0, err
	}
	ta, tb := operations[f].ta, operations[f].tb
	err := errors.Join(
		m.library.call(matmulDescSetAttribute, made, descTransA, uintptr(unsafe.Pointer(&ta)), 4),
		m.library.call(matmulDescSetAttribute, made, descTransB, uintptr(unsafe.Pointer(&tb)), 4))
	if err != nil {
		return 0, errors.Join(err, m.library.call(matmulDescDestroy, made))
	}
	m.operations[f][which] = made
	return made, nil
}

// layout describes a matrix in the library's order.
func (m *Multiplier) layout(made *uintptr, o Matrix, rows, columns int) error {
	data := uintptr(dataF32)
	if o.Type == device.BF16 {
		data = dataBF16
	}
	return m.library.call(matrixLayoutCreate, uintptr(unsafe.Pointer(made)), data, uintptr(rows), uintptr(columns), uintptr(o.Stride))
}

// prefer tells the heuristic how an operand is aligned.
func (m *Multiplier) prefer(attribute uintptr, o Matrix) error {
	bytes := uint32(alignment(o.Address))
	return m.library.call(matmulPreferenceSetAttribute, m.preference, attribute, uintptr(unsafe.Pointer(&bytes)), 4)
}
