package cuda

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Upload copies host values to dst, which rounds them where its type is narrower.
func (d *Device) Upload(dst device.Buffer, src []float32) {
	device.CheckHost("Upload", dst, len(src), false)
	to := d.at("Upload", dst)
	if len(src) == 0 || !d.enter("Upload") {
		return
	}
	defer d.leave()
	if dst.DType() == device.F32 {
		d.upload("Upload", to, bytesOf(src))
		return
	}
	d.through("Upload", len(src), d.staging.bytes/4, func(wide pointer, lo, hi int) {
		d.upload("Upload", wide, bytesOf(src[lo:hi]))
		d.convert(to+pointer(lo*dst.DType().Size()), wide, dst.DType(), device.F32, hi-lo)
	})
}

// UploadInts copies host integers to dst.
func (d *Device) UploadInts(dst device.Buffer, src []int32) {
	device.CheckHost("UploadInts", dst, len(src), true)
	to := d.at("UploadInts", dst)
	if len(src) == 0 || !d.enter("UploadInts") {
		return
	}
	defer d.leave()
	d.upload("UploadInts", to, bytesOf(src))
}

// Download copies src to the host.
func (d *Device) Download(dst []float32, src device.Buffer) error {
	device.CheckHost("Download", src, len(dst), false)
	from := d.at("Download", src)
	return d.ask("Download", func() {
		if src.DType() == device.F32 {
			d.download("Download", bytesOf(dst), from)
			return
		}
		d.through("Download", len(dst), d.staging.bytes, func(wide pointer, lo, hi int) {
			d.convert(wide, from+pointer(lo*src.DType().Size()), device.F32, src.DType(), hi-lo)
			d.download("Download", bytesOf(dst[lo:hi]), wide)
		})
	})
}

// DownloadInts copies src to the host.
func (d *Device) DownloadInts(dst []int32, src device.Buffer) error {
	device.CheckHost("DownloadInts", src, len(dst), true)
	from := d.at("DownloadInts", src)
	return d.ask("DownloadInts", func() { d.download("DownloadInts", bytesOf(dst), from) })
}

// through hands out device memory for n float32, at most so many at a time. The caller holds mu, by enter.
func (d *Device) through(operation string, n, most int, move func(wide pointer, lo, hi int)) {
	m, err := d.reserve(device.ForWorkspace, int64(min(n, most))*4)
	if err != nil {
		d.fail(operation, err)
		return
	}
	for lo := 0; lo < n; lo += most {
		move(m.address, lo, min(n, lo+most))
	}
	d.give(m)
}

// Copy copies src to dst, converting where the types differ.
func (d *Device) Copy(dst, src device.Buffer) {
	device.CheckCopy(dst, src)
	to, from := d.at("Copy", dst), d.at("Copy", src)
	if dst.Len() == 0 || to == from || !d.enter("Copy") {
		return
	}
	defer d.leave()
	if dst.DType() == src.DType() {
		d.fail("Copy", d.driver.Within(to, from, dst.Bytes(), d.stream))
		return
	}
	d.convert(to, from, dst.DType(), src.DType(), dst.Len())
}

type convertArgs struct {
	dst, src pointer
	n        int64
}

// convert queues a conversion. The caller holds mu, by enter.
func (d *Device) convert(dst, src pointer, to, from device.DType, n int) {
	launch(d, fmt.Sprintf("convert_%v_%v", from, to), d.over(n, 256), 256, convertArgs{dst, src, int64(n)})
}

type copyRowsArgs struct {
	dst, src             pointer
	dstStride, srcStride int64
	rows, width          int32
}

// CopyRows copies rows of so many columns.
func (d *Device) CopyRows(dst, src device.Rows, rows, width int) {
	device.CheckCopyRows(dst, src, rows, width)
	to, from := d.at("CopyRows", dst.Data), d.at("CopyRows", src.Data)
	if rows == 0 || width == 0 || to == from && dst.Stride == src.Stride || !d.enter("CopyRows") {
		return
	}
	defer d.leave()
	launch(d, fmt.Sprintf("copy_rows_%d", dst.Data.DType().Size()), line(min(rows, 32*d.multiprocessors)), 256,
		copyRowsArgs{to, from, int64(dst.Stride), int64(src.Stride), int32(rows), int32(width)})
}

// Zero sets every element to zero.
func (d *Device) Zero(b device.Buffer) {
	to := d.at("Zero", b)
	if b.Len() == 0 || !d.enter("Zero") {
		return
	}
	defer d.leave()
	d.fail("Zero", d.driver.Fill(to, 0, b.Bytes(), d.stream))
}
