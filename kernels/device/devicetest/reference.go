package devicetest

import (
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Reference is a device in plain Go that computes through the oracle: float64 rounded once, except where
// the contract prescribes float32 sums in an order. It computes on F32 and BF16, does everything at
// once and is some hundred times slower than a processor can be. Use [NewReference].
type Reference struct {
	mu    sync.Mutex // guards usage
	usage device.Usage
}

var _ device.Device = (*Reference)(nil)

// NewReference is a reference device without memory.
func NewReference() *Reference { return &Reference{} }

// referenceMemory holds numbers as what their type rounded them to.
type referenceMemory struct {
	floats []float32
	ints   []int32
}

func (*referenceMemory) DeviceName() string { return "reference" }

// Name implements [device.Storage].
func (*Reference) Name() string { return "reference" }

// Supports implements [device.Storage].
func (*Reference) Supports(t device.DType) bool { return t == device.F32 || t == device.BF16 }

// Allocate implements [device.Storage].
func (r *Reference) Allocate(_ device.Purpose, t device.DType, n int) (device.Buffer, error) {
	if n < 0 {
		panic(fmt.Sprintf("device: Allocate: %d elements", n))
	}
	m := &referenceMemory{}
	if t == device.I32 {
		m.ints = make([]int32, n)
	} else {
		m.floats = make([]float32, n)
	}
	r.hold(int64(n) * int64(t.Size()))
	return device.NewBuffer(m, t, n), nil
}

// Free implements [device.Storage].
func (r *Reference) Free(b device.Buffer) { r.hold(-b.Bytes()) }

func (r *Reference) hold(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.usage.Bytes += bytes
	r.usage.Peak = max(r.usage.Peak, r.usage.Bytes)
}

// Usage implements [device.Storage].
func (r *Reference) Usage() device.Usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.usage
}

// Upload implements [device.Storage].
func (*Reference) Upload(dst device.Buffer, src []float32) {
	needLength("Upload", "dst", dst, len(src), device.F32, device.BF16, device.F16)
	to := floats(dst)
	for i, v := range src {
		to[i] = float32(round(dst.DType(), float64(v)))
	}
}

// UploadInts implements [device.Storage].
func (*Reference) UploadInts(dst device.Buffer, src []int32) {
	needLength("UploadInts", "dst", dst, len(src), device.I32)
	copy(ints(dst), src)
}

// Download implements [device.Storage].
func (*Reference) Download(dst []float32, src device.Buffer) error {
	needLength("Download", "src", src, len(dst), device.F32, device.BF16, device.F16)
	copy(dst, floats(src))
	return nil
}

// DownloadInts implements [device.Storage].
func (*Reference) DownloadInts(dst []int32, src device.Buffer) error {
	needLength("DownloadInts", "src", src, len(dst), device.I32)
	copy(dst, ints(src))
	return nil
}

// Copy implements [device.Storage].
func (r *Reference) Copy(dst, src device.Buffer) {
	if (dst.DType() == device.I32) != (src.DType() == device.I32) {
		panic(fmt.Sprintf("device: Copy: from %s to %s", src.DType(), dst.DType()))
	}
	needLength("Copy", "dst", dst, src.Len(), dst.DType())
	if dst.DType() == device.I32 {
		copy(ints(dst), ints(src))
		return
	}
	r.Upload(dst, floats(src))
}

// CopyRows implements [device.Storage].
func (*Reference) CopyRows(dst, src device.Rows, rows, width int) {
	needRows("CopyRows", "dst", dst, rows, width, dst.Data.DType())
	needRows("CopyRows", "src", src, rows, width, dst.Data.DType())
	store(dst, rows, width, load(src, rows, width))
}

// Zero implements [device.Storage].
func (*Reference) Zero(b device.Buffer) {
	if b.DType() == device.I32 {
		clear(ints(b))
		return
	}
	clear(floats(b))
}

// Sync implements [device.Storage].
func (*Reference) Sync() error { return nil }

// PassRows implements [device.Schedule].
func (*Reference) PassRows() int { return 64 }

// Cores implements [device.Schedule].
func (*Reference) Cores() int { return runtime.GOMAXPROCS(0) }

// Each implements [device.Schedule].
func (*Reference) Each(tasks int, run func(task int)) {
	var all sync.WaitGroup
	for task := range tasks {
		all.Go(func() { run(task) })
	}
	all.Wait()
}

func floats(b device.Buffer) []float32 {
	if b.Absent() {
		return nil
	}
	return b.Memory().(*referenceMemory).floats[b.Start():][:b.Len()]
}

func ints(b device.Buffer) []int32 {
	return b.Memory().(*referenceMemory).ints[b.Start():][:b.Len()]
}

// load is the dense copy of a matrix.
func load(r device.Rows, rows, width int) []float64 {
	out := make([]float64, 0, rows*width)
	for i := range rows {
		out = append(out, wide(floats(r.Data)[i*r.Stride:][:width])...)
	}
	return out
}

func store(r device.Rows, rows, width int, values []float64) {
	for i := range rows {
		row := floats(r.Data)[i*r.Stride:][:width]
		for j := range row {
			row[j] = float32(round(r.Data.DType(), values[i*width+j]))
		}
	}
}

// list is a vector as a matrix of one row.
func list(b device.Buffer) device.Rows { return device.Rows{Data: b, Stride: b.Len()} }

// needRows panics unless a matrix has room for the rows and one of the types.
func needRows(operation, name string, r device.Rows, rows, width int, types ...device.DType) {
	needType(operation, name, r.Data, types...)
	if rows < 0 || width < 0 {
		panic(fmt.Sprintf("device: %s: %d rows of %d", operation, rows, width))
	}
	if rows > 1 && r.Stride < width {
		panic(fmt.Sprintf("device: %s: %s: rows of %d elements with stride %d overlap", operation, name, width, r.Stride))
	}
	if rows > 0 && (rows-1)*r.Stride+width > r.Data.Len() {
		panic(fmt.Sprintf("device: %s: %s has %d elements, %d rows of %d with stride %d need %d", operation, name, r.Data.Len(), rows, width, r.Stride, (rows-1)*r.Stride+width))
	}
}

// needLength panics unless a buffer has the length and one of the types.
func needLength(operation, name string, b device.Buffer, n int, types ...device.DType) {
	needType(operation, name, b, types...)
	if b.Len() != n {
		panic(fmt.Sprintf("device: %s: %s has %d elements, want %d", operation, name, b.Len(), n))
	}
}

// needRoom panics unless a buffer has the length at least and one of the types.
func needRoom(operation, name string, b device.Buffer, n int, types ...device.DType) {
	needType(operation, name, b, types...)
	if n < 0 || b.Len() < n {
		panic(fmt.Sprintf("device: %s: %s has %d elements, want %d", operation, name, b.Len(), n))
	}
}

func needType(operation, name string, b device.Buffer, types ...device.DType) {
	if b.Absent() {
		panic(fmt.Sprintf("device: %s: %s is absent", operation, name))
	}
	for _, t := range types {
		if b.DType() == t {
			return
		}
	}
	panic(fmt.Sprintf("device: %s: %s is of type %s, want one of %v", operation, name, b.DType(), types))
}

// activation are the types that the reference computes on.
func activation() []device.DType { return []device.DType{device.F32, device.BF16} }

func finite(v float32) bool { return !math.IsInf(float64(v), 0) && v == v }
