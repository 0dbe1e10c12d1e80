package cpu

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// memory is one allocation. Exactly one of the slices is not nil, until it is freed.
type memory struct {
	owner  *Device
	use    device.Purpose
	dtype  device.DType
	length int
	bytes  int64
	floats []float32
	ints   []int32
	halves []uint16 // BF16 and F16
}

// DeviceName is the name of the device the memory belongs to.
func (m *memory) DeviceName() string { return name }

// account counts the bytes held by allocations, in all and for each purpose.
type account struct {
	bytes, peak atomic.Int64
	purposes    [device.ForWorkspace + 1]atomic.Int64
}

// reserve counts n more bytes unless that exceeds the limit.
func (d *Device) reserve(p device.Purpose, n int64) error {
	a := &d.account
	for {
		held := a.bytes.Load()
		if d.maxBytes > 0 && held+n > d.maxBytes {
			return &device.OutOfMemory{Device: name, Wanted: n, For: p, Held: a.holdings(), Free: d.maxBytes - held, Total: d.maxBytes}
		}
		if a.bytes.CompareAndSwap(held, held+n) {
			a.purposes[p].Add(n)
			a.reach(held + n)
			return nil
		}
	}
}

// reach raises the peak.
func (a *account) reach(now int64) {
	for {
		peak := a.peak.Load()
		if now <= peak || a.peak.CompareAndSwap(peak, now) {
			return
		}
	}
}

// release counts n bytes less.
func (a *account) release(p device.Purpose, n int64) {
	a.purposes[p].Add(-n)
	a.bytes.Add(-n)
}

// holdings are what each purpose holds, the largest first.
func (a *account) holdings() []device.Holding {
	var all []device.Holding
	for _, p := range device.Purposes() {
		if n := a.purposes[p].Load(); n > 0 {
			all = append(all, device.Holding{For: p, Bytes: n})
		}
	}
	slices.SortStableFunc(all, func(a, b device.Holding) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return all
}

// Usage is the memory held by buffers, weights and pages now, and at most so far.
func (d *Device) Usage() device.Usage {
	return device.Usage{Bytes: d.account.bytes.Load(), Peak: d.account.peak.Load()}
}

// Allocate returns a zeroed buffer.
func (d *Device) Allocate(p device.Purpose, t device.DType, n int) (device.Buffer, error) {
	if n < 0 {
		panic(fmt.Sprintf("device: Allocate: %d elements", n))
	}
	m := &memory{owner: d, use: p, dtype: t, length: n, bytes: int64(n) * int64(t.Size())}
	if err := d.reserve(p, m.bytes); err != nil {
		return device.Buffer{}, err
	}
	switch t {
	case device.F32:
		m.floats = alignedFloats(n)
	case device.I32:
		m.ints = make([]int32, n)
	default:
		m.halves = make([]uint16, n)
	}
	return device.NewBuffer(m, t, n), nil
}

// cacheLine is the size of what processors move at a time.
const cacheLine = 64

// alignedFloats are n zeros that begin at a cache line, so that no vector of a row of whole lines
// spans two.
func alignedFloats(n int) []float32 {
	const extra = cacheLine/4 - 1
	all := make([]float32, n+extra)
	skip := 0
	if past := uintptr(unsafe.Pointer(&all[0])) % cacheLine; past > 0 {
		skip = int(cacheLine-past) / 4
	}
	return all[skip : skip+n : skip+n]
}

// Free gives back an allocation. A slice of one, one of another device and one freed before are a
// programmer's error and panic.
func (d *Device) Free(b device.Buffer) {
	if b.Absent() {
		return
	}
	m := owned("Free", b)
	switch {
	case m.owner != d:
		panic("device: Free: the buffer belongs to another device of the same name")
	case b.Start() != 0 || b.Len() != m.length || b.DType() != m.dtype:
		panic(fmt.Sprintf("device: Free: want the allocation of %d elements, got %d from element %d", m.length, b.Len(), b.Start()))
	case m.floats == nil && m.ints == nil && m.halves == nil:
		panic(fmt.Sprintf("device: Free: the allocation of %d elements has been freed before", m.length))
	}
	m.floats, m.ints, m.halves = nil, nil, nil
	d.account.release(m.use, m.bytes)
}

// owned is the memory of a buffer of any cpu device.
func owned(operation string, b device.Buffer) *memory {
	m, ok := b.Memory().(*memory)
	if !ok {
		panic(fmt.Sprintf("device: %s: a buffer belongs to %s, want %s", operation, b.Memory().DeviceName(), name))
	}
	return m
}

// floats are the elements of a buffer of type F32; none when it is absent.
func floats(b device.Buffer) []float32 {
	if b.Absent() {
		return nil
	}
	m, ok := b.Memory().(*memory)
	if !ok {
		owned("operand", b)
	}
	if m.dtype != device.F32 {
		panic(fmt.Sprintf("device: %s computes on elements of %v, got %v", name, device.F32, m.dtype))
	}
	return m.floats[b.Start() : b.Start()+b.Len()]
}

// ints are the elements of a buffer of type I32; none when it is absent.
func ints(b device.Buffer) []int32 {
	if b.Absent() {
		return nil
	}
	m := owned("operand", b)
	return m.ints[b.Start() : b.Start()+b.Len()]
}

// halves are the elements of a buffer of a type of two bytes.
func halves(b device.Buffer) []uint16 {
	if b.Absent() {
		return nil
	}
	m := owned("operand", b)
	return m.halves[b.Start() : b.Start()+b.Len()]
}

// matrix is rows of float32 at a stride.
type matrix struct {
	data   []float32
	stride int
}

// view is the matrix of an operand.
func view(r device.Rows) matrix { return matrix{floats(r.Data), r.Stride} }

// row is the first width columns of a row.
func (m matrix) row(i, width int) []float32 { return m.data[i*m.stride : i*m.stride+width] }

// at is the matrix that begins at a row and a column.
func (m matrix) at(row, column int) matrix { return matrix{m.data[row*m.stride+column:], m.stride} }
