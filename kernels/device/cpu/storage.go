package cpu

import "github.com/turnwise-rl/turnwise/kernels/device"

// Upload copies host values into dst, rounded to nearest even where dst is narrower.
func (d *Device) Upload(dst device.Buffer, src []float32) {
	device.CheckHost("Upload", dst, len(src), false)
	switch dst.DType() {
	case device.F32:
		copy(floats(dst), src)
	case device.BF16:
		narrowBF16(halves(dst), src)
	case device.F16:
		narrowF16(halves(dst), src)
	}
}

// UploadInts copies host values into dst.
func (d *Device) UploadInts(dst device.Buffer, src []int32) {
	device.CheckHost("UploadInts", dst, len(src), true)
	copy(ints(dst), src)
}

// Download copies src to the host, exactly. Its error is always nil.
func (d *Device) Download(dst []float32, src device.Buffer) error {
	device.CheckHost("Download", src, len(dst), false)
	switch src.DType() {
	case device.F32:
		copy(dst, floats(src))
	case device.BF16:
		widenBF16(dst, halves(src))
	case device.F16:
		widenF16(dst, halves(src))
	}
	return nil
}

// DownloadInts copies src to the host. Its error is always nil.
func (d *Device) DownloadInts(dst []int32, src device.Buffer) error {
	device.CheckHost("DownloadInts", src, len(dst), true)
	copy(dst, ints(src))
	return nil
}

// Copy copies src to dst; where the types differ it converts, rounding to nearest even.
func (d *Device) Copy(dst, src device.Buffer) {
	device.CheckCopy(dst, src)
	if dst.Len() == 0 {
		return
	}
	from, to := src.DType(), dst.DType()
	switch {
	case from == to && to == device.F32:
		copy(floats(dst), floats(src))
	case from == to && to == device.I32:
		copy(ints(dst), ints(src))
	case from == to:
		copy(halves(dst), halves(src))
	case from == device.F32 && to == device.BF16:
		narrowBF16(halves(dst), floats(src))
	case from == device.F32:
		narrowF16(halves(dst), floats(src))
	case to == device.F32 && from == device.BF16:
		widenBF16(floats(dst), halves(src))
	case to == device.F32:
		widenF16(floats(dst), halves(src))
	default:
		between(halves(dst), halves(src), from)
	}
}

// CopyRows copies rows of so many columns.
func (d *Device) CopyRows(dst, src device.Rows, rows, width int) {
	device.CheckCopyRows(dst, src, rows, width)
	if rows == 0 || width == 0 || dst == src {
		return
	}
	switch dst.Data.DType() {
	case device.F32:
		d.spreads.copyF32.overRows(copyWork[float32]{floats(dst.Data), floats(src.Data), dst.Stride, src.Stride, width}, rows, width)
	case device.I32:
		d.spreads.copyI32.overRows(copyWork[int32]{ints(dst.Data), ints(src.Data), dst.Stride, src.Stride, width}, rows, width)
	default:
		d.spreads.copyHalf.overRows(copyWork[uint16]{halves(dst.Data), halves(src.Data), dst.Stride, src.Stride, width}, rows, width)
	}
}

type copyWork[T any] struct {
	dst, src             []T
	dstStride, srcStride int
	width                int
}

func (w copyWork[T]) run(lo, hi int) {
	for i := lo; i < hi; i++ {
		copy(w.dst[i*w.dstStride:i*w.dstStride+w.width], w.src[i*w.srcStride:])
	}
}

// Zero sets every element to zero.
func (d *Device) Zero(b device.Buffer) {
	switch b.DType() {
	case device.F32:
		clear(floats(b))
	case device.I32:
		clear(ints(b))
	case device.BF16, device.F16:
		clear(halves(b))
	}
}
