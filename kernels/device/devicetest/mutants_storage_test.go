package devicetest

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

func storageMutants() []mutant {
	r := NewReference
	return []mutant{
		{"Allocate", "memory that is not zero", dirty{r()}},
		{"Allocate", "memory of the last owner", recycled{r(), map[int]device.Buffer{}}},
		{"Allocate", "usage that never falls", keeping{r()}},
		{"Allocate", "a peak that falls", peakless{r()}},
		{"Upload", "bf16 cut off instead of rounded", converting{r(), truncated}},
		{"Upload", "ties away from zero", converting{r(), tiesAway}},
		{"Upload", "f16 without subnormals", converting{r(), flushed}},
		{"Upload", "overflow to the largest number", converting{r(), saturated}},
		{"Upload", "views that begin at 0", startless{r()}},
		{"Copy", "bf16 cut off instead of rounded", copying{r(), truncated}},
		{"Copy", "nan to infinity", copying{r(), nanLost}},
		{"Copy", "one element too many", copyingMore{r()}},
		{"CopyRows", "a stride ignored", strideless{r()}},
		{"CopyRows", "the last row left out", rowless{r()}},
		{"Zero", "one element too many", zeroMore{r()}},
		{"Zero", "one element too few", zeroLess{r()}},
		{"Each", "a task left out", eachLess{r()}},
		{"Each", "a task done twice", eachTwice{r()}},
		{"Each", "returns early", eachEarly{r()}},
	}
}

type dirty struct{ *Reference }

func (d dirty) Allocate(p device.Purpose, t device.DType, n int) (device.Buffer, error) {
	b, err := d.Reference.Allocate(p, t, n)
	if t == device.F16 && n > 7 {
		floats(b)[n-1] = 1
	}
	return b, err
}

// recycled hands freed memory out again as it is. It is used by one goroutine at a time only where it fails.
type recycled struct {
	*Reference
	freed map[int]device.Buffer
}

func (d recycled) Allocate(p device.Purpose, t device.DType, n int) (device.Buffer, error) {
	b, err := d.Reference.Allocate(p, t, n)
	if old, ok := d.freed[n]; ok && t == device.F32 && n == 4099 {
		return old, err
	}
	return b, err
}

func (d recycled) Free(b device.Buffer) {
	d.Reference.Free(b)
	if b.DType() == device.F32 && b.Len() == 4099 {
		d.freed[b.Len()] = b
	}
}

type keeping struct{ *Reference }

func (keeping) Free(device.Buffer) {}

type peakless struct{ *Reference }

func (d peakless) Usage() device.Usage {
	u := d.Reference.Usage()
	u.Peak = u.Bytes
	return u
}

// converting rounds in its own way when it uploads.
type converting struct {
	*Reference
	to func(t device.DType, v float64) float64
}

func (d converting) Upload(dst device.Buffer, src []float32) {
	d.Reference.Upload(dst, src)
	convert(dst, src, d.to)
}

func convert(dst device.Buffer, src []float32, to func(t device.DType, v float64) float64) {
	for i, v := range src {
		floats(dst)[i] = float32(to(dst.DType(), float64(v)))
	}
}

type copying struct {
	*Reference
	to func(t device.DType, v float64) float64
}

func (d copying) Copy(dst, src device.Buffer) {
	d.Reference.Copy(dst, src)
	if dst.DType() != device.I32 {
		convert(dst, floats(src), d.to)
	}
}

func truncated(t device.DType, v float64) float64 {
	if t != device.BF16 || math.IsNaN(v) {
		return round(t, v)
	}
	return float64(math.Float32frombits(math.Float32bits(float32(v)) &^ 0xffff))
}

func tiesAway(t device.DType, v float64) float64 {
	if t == device.BF16 && !math.IsInf(v, 0) {
		return round(t, v*(1+1.0/(1<<30)))
	}
	return round(t, v)
}

func flushed(t device.DType, v float64) float64 {
	if r := round(t, v); t == device.F16 && math.Abs(r) < 6e-5 {
		return math.Copysign(0, v)
	}
	return round(t, v)
}

func saturated(t device.DType, v float64) float64 {
	if r := round(t, v); t == device.F16 && math.IsInf(r, 0) && !math.IsInf(v, 0) {
		return math.Copysign(65504, v)
	}
	return round(t, v)
}

func nanLost(t device.DType, v float64) float64 {
	if t == device.F16 && math.IsNaN(v) {
		return math.Inf(1)
	}
	return round(t, v)
}

type startless struct{ *Reference }

func (d startless) Download(dst []float32, src device.Buffer) error {
	if src.Start() > 0 {
		src = device.NewBuffer(src.Memory(), src.DType(), src.Len())
	}
	return d.Reference.Download(dst, src)
}

type copyingMore struct{ *Reference }

func (d copyingMore) Copy(dst, src device.Buffer) {
	d.Reference.Copy(dst, src)
	if all := dst.Memory().(*referenceMemory).floats; len(all) > dst.Start()+dst.Len() && dst.Len()%16 == 1 {
		all[dst.Start()+dst.Len()] = 0
	}
}

type strideless struct{ *Reference }

func (d strideless) CopyRows(dst, src device.Rows, rows, width int) {
	src.Stride = width
	d.Reference.CopyRows(dst, src, rows, width)
}

type rowless struct{ *Reference }

func (d rowless) CopyRows(dst, src device.Rows, rows, width int) {
	d.Reference.CopyRows(dst, src, max(0, rows-1), width)
}

type zeroMore struct{ *Reference }

func (d zeroMore) Zero(b device.Buffer) {
	d.Reference.Zero(b)
	if b.DType() == device.BF16 {
		b.Memory().(*referenceMemory).floats[b.Start()+b.Len()] = 0
	}
}

type zeroLess struct{ *Reference }

func (d zeroLess) Zero(b device.Buffer) {
	d.Reference.Zero(b.Slice(0, max(0, b.Len()-b.Len()%2)))
}

type eachLess struct{ *Reference }

func (d eachLess) Each(tasks int, run func(int)) { d.Reference.Each(min(tasks, 16), run) }

type eachTwice struct{ *Reference }

func (d eachTwice) Each(tasks int, run func(int)) {
	d.Reference.Each(tasks, run)
	if tasks == 3 {
		run(0)
	}
}

type eachEarly struct{ *Reference }

func (d eachEarly) Each(tasks int, run func(int)) {
	if tasks == 0 {
		return
	}
	d.Reference.Each(tasks-1, run)
}
