package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

// The methods below are being written, each in the file named; whoever writes one deletes it here.

// attention.go, attention_back.go

func (d *Device) Attend(out device.Rows, a device.Attended)                       { panic("pending") }
func (d *Device) AttendBack(dq, dk, dv, dOut, out device.Rows, a device.Attended) { panic("pending") }

// pages.go

func (d *Device) NewPages(shape device.PageShape) (device.Pages, error) { panic("pending") }
func (d *Device) FreePages(p device.Pages)                              { panic("pending") }
func (d *Device) Place(at *device.Placement)                            { panic("pending") }
func (d *Device) WritePages(p device.Pages, layer int, k, v device.Rows, at *device.Placement) {
	panic("pending")
}
func (d *Device) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	panic("pending")
}
func (d *Device) CopyPage(p device.Pages, dst, src int) { panic("pending") }
