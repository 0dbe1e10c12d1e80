package device

import "fmt"

// DType is the type of a buffer's elements.
type DType uint8

// The element types. Arithmetic is float32 or, where a device supports it, BF16 with float32 sums;
// F16 is a storage format of checkpoints; I32 holds token ids, positions and row numbers.
const (
	F32 DType = iota + 1
	BF16
	F16
	I32
)

// ComputesIn is nil for a device whose operations compute on elements of the type, and else the error of what
// needs them to.
func ComputesIn(d Storage, t DType) error {
	if d.Supports(t) {
		return nil
	}
	var supported []DType
	for _, s := range []DType{F32, BF16} {
		if d.Supports(s) {
			supported = append(supported, s)
		}
	}
	return fmt.Errorf("%s computes in %s, not in %v", d.Name(), either(supported), t)
}

// Size is the number of bytes of one element.
func (t DType) Size() int {
	switch t {
	case F32, I32:
		return 4
	case BF16, F16:
		return 2
	default:
		panic(fmt.Sprintf("device: no element type %d", t))
	}
}

// String is the name used in configs and errors.
func (t DType) String() string {
	switch t {
	case F32:
		return "f32"
	case BF16:
		return "bf16"
	case F16:
		return "f16"
	case I32:
		return "i32"
	default:
		return fmt.Sprintf("dtype(%d)", uint8(t))
	}
}

// Memory is one allocation in the hands of the device that made it.
type Memory interface {
	// DeviceName is the Name of the device that the memory belongs to.
	DeviceName() string
}

// Buffer is a run of elements in a device's memory. It is a view: copies of it share the elements. The
// zero Buffer is absent: operations whose comment allows that leave the part out.
type Buffer struct {
	memory Memory
	dtype  DType
	start  int
	length int
}

// NewBuffer is a view of the first n elements of an allocation, for devices to hand out.
func NewBuffer(m Memory, t DType, n int) Buffer { return Buffer{memory: m, dtype: t, length: n} }

// Memory is the allocation that the buffer is a view of; nil when the buffer is absent.
func (b Buffer) Memory() Memory { return b.memory }

// DType is the type of the elements.
func (b Buffer) DType() DType { return b.dtype }

// Start is the index, within the allocation, of the buffer's first element.
func (b Buffer) Start() int { return b.start }

// Len is the number of elements.
func (b Buffer) Len() int { return b.length }

// Bytes is the size of the elements in memory.
func (b Buffer) Bytes() int64 {
	if b.length == 0 {
		return 0
	}
	return int64(b.length) * int64(b.dtype.Size())
}

// Absent reports whether the buffer is the zero Buffer.
func (b Buffer) Absent() bool { return b.memory == nil }

// Slice is the view of elements [from, to).
func (b Buffer) Slice(from, to int) Buffer {
	if from < 0 || to < from || to > b.length {
		panic(fmt.Sprintf("device: elements [%d, %d) of a buffer of %d", from, to, b.length))
	}
	b.start += from
	b.length = to - from
	return b
}

// Rows is a matrix in a buffer: row i begins at element i·Stride. Its width is what the operation says.
type Rows struct {
	Data   Buffer
	Stride int
}

// Dense is the matrix whose rows follow each other without gaps.
func Dense(b Buffer, width int) Rows { return Rows{Data: b, Stride: width} }

// From is the matrix without its first rows.
func (r Rows) From(row int) Rows {
	r.Data = r.Data.Slice(min(row*r.Stride, r.Data.Len()), r.Data.Len())
	return r
}

// Columns is the matrix without the first columns of each row; the stride stays.
func (r Rows) Columns(from int) Rows {
	r.Data = r.Data.Slice(min(from, r.Data.Len()), r.Data.Len())
	return r
}
