package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

// The methods below are being written, each in the file named; whoever writes one deletes it here.

// layers.go, rotate.go

func (d *Device) RMSNorm(y, x device.Rows, weight, roots device.Buffer, rows int, eps float32) {
	panic("pending")
}
func (d *Device) RMSNormBack(dx device.Rows, dWeight device.Buffer, dy, x device.Rows, weight, roots device.Buffer, rows int) {
	panic("pending")
}
func (d *Device) SwiGLU(y, gateUp device.Rows, rows, width int)               { panic("pending") }
func (d *Device) SwiGLUBack(dGateUp, dy, gateUp device.Rows, rows, width int) { panic("pending") }
func (d *Device) Rotate(y device.Rows, h device.Heads)                        { panic("pending") }
func (d *Device) RotateBack(dx device.Rows, dWeight device.Buffer, dy device.Rows, h device.Heads) {
	panic("pending")
}
func (d *Device) Gather(dst, table device.Rows, index device.Buffer, rows, width int) {
	panic("pending")
}
func (d *Device) ScatterAdd(table device.Rows, index device.Buffer, src device.Rows, rows, width int) {
	panic("pending")
}

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

// head.go, sample.go

func (d *Device) Score(s device.Scored) { panic("pending") }
func (d *Device) ScoreBack(dx device.Rows, dHead, dLogProbs, dEntropies device.Buffer, s device.Scored) {
	panic("pending")
}
func (d *Device) Sample(dst []device.Sampled, logits device.Rows, vocabulary int, how []device.Sampling) error {
	panic("pending")
}

// optimizer.go

func (d *Device) AdamW(s device.AdamWStep)                     { panic("pending") }
func (d *Device) SquaredNorm(b device.Buffer) (float64, error) { panic("pending") }
func (d *Device) Scale(b device.Buffer, factor float32)        { panic("pending") }
func (d *Device) Add(dst, src device.Buffer, factor float32)   { panic("pending") }
func (d *Device) FirstNonFinite(b device.Buffer) (int, error)  { panic("pending") }
