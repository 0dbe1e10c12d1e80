package cpu

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// headsWork are the operands of Rotate and RotateBack.
type headsWork struct {
	x, y          matrix
	positions     []int32
	cos, sin      []float32
	weight, roots []float32 // none without a norm
	count, dim    int
	eps           float32
}

func newHeadsWork(operation string, y device.Rows, h device.Heads) headsWork {
	w := headsWork{
		x: view(h.X), y: view(y), positions: ints(h.Positions)[:h.Rows], cos: floats(h.Cos), sin: floats(h.Sin),
		weight: floats(h.Weight), count: h.Count, dim: h.Dim, eps: h.Eps,
	}
	if w.weight != nil {
		w.roots = floats(h.Roots)
	}
	for i, p := range w.positions {
		if p < 0 || (int(p)+1)*(h.Dim/2) > len(w.cos) {
			panic(fmt.Sprintf("device: %s: Positions: want one of the %d positions of Cos, got %d in row %d",
				operation, len(w.cos)/(h.Dim/2), p, i))
		}
	}
	return w
}

// angles are the cosines and sines of a row's position.
func (w headsWork) angles(row int) (cos, sin []float32) {
	half := w.dim / 2
	from := int(w.positions[row]) * half
	return w.cos[from : from+half], w.sin[from : from+half]
}

// Rotate writes the heads of h.X, normalised where h has a norm and rotated by position, to y.
func (d *Device) Rotate(y device.Rows, h device.Heads) {
	device.CheckRotate(y, h)
	if h.Rows > 0 {
		d.spreads.heads.overRows(newHeadsWork("Rotate", y, h), h.Rows, h.Count*h.Dim)
	}
}

// RotateBoth is Rotate of q to yq and of k to yk.
func (d *Device) RotateBoth(yq, yk device.Rows, q, k device.Heads) {
	device.CheckRotateBoth(yq, yk, q, k)
	d.Rotate(yq, q)
	d.Rotate(yk, k)
}

func (w headsWork) run(lo, hi int) {
	for i := lo; i < hi; i++ {
		cos, sin := w.angles(i)
		x, y := w.x.row(i, w.count*w.dim), w.y.row(i, w.count*w.dim)
		if w.weight == nil {
			copy(y, x)
		} else {
			normHeads(y, x, w.weight, w.roots[i*w.count:(i+1)*w.count], w.eps)
		}
		Rotate(y, cos, sin)
	}
}

// normHeads is RMSNorm of each head of a row, without its checks.
func normHeads(y, x, weight, roots []float32, eps float32) {
	i, dim := running(), len(weight)
	for h := range roots {
		in, out := x[h*dim:(h+1)*dim], y[h*dim:(h+1)*dim]
		root := float32(1 / math.Sqrt(float64(i.dot(in, in))/float64(dim)+float64(eps)))
		i.scaleBy(out, in, weight, root)
		roots[h] = root
	}
}

// normHeadsBack writes the gradients through normHeads to dx and adds to dWeight.
func normHeadsBack(dx, dWeight, dy, x, weight, roots []float32) {
	i, dim := running(), len(weight)
	clear(dx)
	for h, root := range roots {
		from, to := h*dim, (h+1)*dim
		r := float64(root)
		slope := r * r * r * float64(i.dot3(dy[from:to], weight, x[from:to])) / float64(dim)
		i.rmsNormBackward(dx[from:to], dWeight, dy[from:to], x[from:to], weight, root, float32(slope))
	}
}

// RotateBack writes the gradient of h.X to dx and adds that of the norm's weight to dWeight, row by row
// and head by head. It overwrites dy.
func (d *Device) RotateBack(dx device.Rows, dWeight device.Buffer, dy device.Rows, h device.Heads) {
	device.CheckRotateBack(dx, dWeight, dy, h)
	if h.Rows == 0 {
		return
	}
	w, into := newHeadsWork("RotateBack", dy, h), view(dx)
	sum := floats(dWeight)
	if dWeight.Absent() {
		s := d.rows.take()
		defer d.rows.give(s)
		s.row = grown(s.row, h.Dim)
		sum = s.row
	}
	for i := range h.Rows {
		cos, sin := w.angles(i)
		x, dy, dx := w.x.row(i, w.count*w.dim), w.y.row(i, w.count*w.dim), into.row(i, w.count*w.dim)
		RotateBackward(dy, cos, sin)
		if w.weight == nil {
			copy(dx, dy)
			continue
		}
		normHeadsBack(dx, sum, dy, x, w.weight, w.roots[i*w.count:(i+1)*w.count])
	}
}
