package cpu

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// rowScratch is a row that an operation writes and nobody reads.
type rowScratch struct{ row []float32 }

// RMSNorm normalises each row of x into y.
func (d *Device) RMSNorm(y, x device.Rows, weight, roots device.Buffer, rows int, eps float32) {
	device.CheckRMSNorm(y, x, weight, roots, rows)
	if rows == 0 {
		return
	}
	d.spreads.norm.overRows(normWork{view(y), view(x), floats(weight), floats(roots), eps}, rows, weight.Len())
}

type normWork struct {
	y, x          matrix
	weight, roots []float32
	eps           float32
}

func (w normWork) run(lo, hi int) {
	width := len(w.weight)
	if width == 0 {
		return
	}
	for i := lo; i < hi; i++ {
		w.roots[i] = RMSNorm(w.y.row(i, width), w.x.row(i, width), w.weight, w.eps)
	}
}

// RMSNormBack adds the gradients of RMSNorm to dx and dWeight, and writes the norm's output over dy.
func (d *Device) RMSNormBack(dx device.Rows, dWeight device.Buffer, dy, x device.Rows, weight, roots device.Buffer, rows int) {
	device.CheckRMSNormBack(dx, dWeight, dy, x, weight, roots, rows)
	width := weight.Len()
	if rows == 0 || width == 0 {
		return
	}
	into, from, in, scale, inverse := view(dx), view(dy), view(x), floats(weight), floats(roots)
	sum := floats(dWeight)
	if dWeight.Absent() {
		s := d.rows.take()
		defer d.rows.give(s)
		s.row = grown(s.row, width)
		sum = s.row
	}
	for i := range rows {
		RMSNormBackward(into.row(i, width), sum, from.row(i, width), in.row(i, width), scale, inverse[i])
		running().scaleBy(from.row(i, width), in.row(i, width), scale, inverse[i])
	}
}

// SwiGLU computes y = silu(gate) ⊙ up.
func (d *Device) SwiGLU(y, gateUp device.Rows, rows, width int) {
	device.CheckSwiGLU(y, gateUp, rows, width)
	if rows > 0 && width > 0 {
		d.spreads.swiglu.overRows(swigluWork{view(y), view(gateUp), width}, rows, 2*width)
	}
}

type swigluWork struct {
	y, gateUp matrix
	width     int
}

func (w swigluWork) run(lo, hi int) {
	for i := lo; i < hi; i++ {
		both := w.gateUp.row(i, 2*w.width)
		SiLUMul(w.y.row(i, w.width), both[:w.width], both[w.width:])
	}
}

// SwiGLUBack writes the gradient of gateUp, and SwiGLU's output over dy.
func (d *Device) SwiGLUBack(dGateUp, dy, gateUp device.Rows, rows, width int) {
	device.CheckSwiGLUBack(dGateUp, dy, gateUp, rows, width)
	if rows > 0 && width > 0 {
		d.spreads.swigluBack.overRows(swigluBackWork{&d.rows, view(dGateUp), view(dy), view(gateUp), width}, rows, 4*width)
	}
}

type swigluBackWork struct {
	rows                *free[rowScratch]
	dGateUp, dy, gateUp matrix
	width               int
}

func (w swigluBackWork) run(lo, hi int) {
	s := w.rows.take()
	defer w.rows.give(s)
	s.row = grown(s.row, 3*w.width)
	again := s.row[2*w.width:]
	for i := lo; i < hi; i++ {
		both, to, dy := w.gateUp.row(i, 2*w.width), w.dGateUp.row(i, 2*w.width), w.dy.row(i, w.width)
		into := to
		if &to[0] == &both[0] {
			into = s.row[:2*w.width] // SiLUMulBackward uses it for its own work first
		}
		SiLUMul(again, both[:w.width], both[w.width:])
		SiLUMulBackward(into[:w.width], into[w.width:], dy, both[:w.width], both[w.width:])
		copy(dy, again)
		if &to[0] == &both[0] {
			copy(to, into)
		}
	}
}

// Gather copies row index[i] of table to row i of dst.
func (d *Device) Gather(dst, table device.Rows, index device.Buffer, rows, width int) {
	device.CheckGather(dst, table, index, rows, width)
	if rows == 0 || width == 0 {
		return
	}
	numbers := indices("Gather", index, rows, device.TableRows(table, width))
	d.spreads.gather.overRows(gatherWork{view(dst), view(table), numbers, width}, rows, width)
}

// indices are the first row numbers of an index, each below the limit.
func indices(operation string, index device.Buffer, rows, limit int) []int32 {
	numbers := ints(index)[:rows]
	for i, row := range numbers {
		if row < 0 || int(row) >= limit {
			panic(fmt.Sprintf("device: %s: index: want one of %d rows, got %d at %d", operation, limit, row, i))
		}
	}
	return numbers
}

type gatherWork struct {
	dst, table matrix
	index      []int32
	width      int
}

func (w gatherWork) run(lo, hi int) {
	for i := lo; i < hi; i++ {
		copy(w.dst.row(i, w.width), w.table.row(int(w.index[i]), w.width))
	}
}

// ScatterAdd adds row i of src to row index[i] of table, one after the other.
func (d *Device) ScatterAdd(table device.Rows, index device.Buffer, src device.Rows, rows, width int) {
	device.CheckScatterAdd(table, index, src, rows, width)
	if rows == 0 || width == 0 {
		return
	}
	into, from := view(table), view(src)
	for i, row := range indices("ScatterAdd", index, rows, device.TableRows(table, width)) {
		Axpy(1, from.row(i, width), into.row(int(row), width))
	}
}
