package cpu

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// weights is a matrix packed for the products that read it.
type weights struct {
	owner   *Device
	matrix  device.Buffer
	out, in int
	forward Packed // op(B) = Wᵀ
	back    Packed // op(B) = W; empty for a network that is not trained
	use     device.Use
	bytes   int64
}

// Out is the number of rows of the matrix.
func (w *weights) Out() int { return w.out }

// In is the number of its columns.
func (w *weights) In() int { return w.in }

// DType is float32.
func (w *weights) DType() device.DType { return device.F32 }

// NewWeights packs the matrix in w, row-major [out × in], for the products of the use.
func (d *Device) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	device.CheckNewWeights(w, t, out, in, use)
	if err := device.ComputesIn(d, t); err != nil {
		return nil, fmt.Errorf("packing a matrix of %d×%d: %w", out, in, err)
	}
	p := &weights{owner: d, matrix: w, out: out, in: in, use: use, forward: Packed{n: out, k: in}}
	size := p.forward.size()
	if use == device.ForwardBack {
		p.back = Packed{n: in, k: out}
		size += p.back.size()
	}
	p.bytes = 4 * int64(size)
	if err := d.reserve(device.ForWeights, p.bytes); err != nil {
		return nil, err
	}
	data := alignedFloats(size)
	p.forward.data, p.back.data = data[:p.forward.size()], data[p.forward.size():]
	d.Refresh(p)
	return p, nil
}

// packedWeights are the weights behind the interface, which have not been freed.
func packedWeights(operation string, w device.Weights) *weights {
	p, ok := w.(*weights)
	if !ok {
		panic(fmt.Sprintf("device: %s: weights of type %T are not of %s", operation, w, name))
	}
	if p.use == 0 {
		panic(fmt.Sprintf("device: %s: weights of %d×%d have been freed", operation, p.out, p.in))
	}
	return p
}

// Refresh packs the matrix again.
func (d *Device) Refresh(w device.Weights) {
	p := packedWeights("Refresh", w)
	values := floats(p.matrix)
	p.forward.refill(true, values, p.in)
	if p.use == device.ForwardBack {
		p.back.refill(false, values, p.in)
	}
}

// refill packs op(B), on this goroutine where the others are busy.
func (p *Packed) refill(transB bool, b []float32, ldb int) {
	switch {
	case p.size() == 0:
	case alone():
		p.fillPanels(0, p.panels(), transB, b, ldb)
	default:
		p.fill(transB, b, ldb)
	}
}

// FreeWeights gives back the memory of the packed form.
func (d *Device) FreeWeights(w device.Weights) {
	if w == nil {
		return
	}
	p := packedWeights("FreeWeights", w)
	if p.owner != d {
		panic("device: FreeWeights: the weights belong to another device of the same name")
	}
	p.forward, p.back, p.use = Packed{}, Packed{}, 0
	d.account.release(device.ForWeights, p.bytes)
}

// Product computes y = x·Wᵀ, or y += x·Wᵀ.
func (d *Device) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	p := packedWeights("Product", w)
	device.CheckProduct(y, x, rows, p)
	if rows > 0 {
		multiply(rows, view(x), &p.forward, view(y), add)
	}
}

// ProductOnto computes y = base + x·Wᵀ.
func (d *Device) ProductOnto(y, base, x device.Rows, rows int, w device.Weights) {
	p := packedWeights("ProductOnto", w)
	device.CheckProductOnto(y, base, x, rows, p)
	d.CopyRows(y, base, rows, p.out)
	if rows > 0 {
		multiply(rows, view(x), &p.forward, view(y), true)
	}
}

// ProductBack computes dx = dy·W, or dx += dy·W.
func (d *Device) ProductBack(dx, dy device.Rows, rows int, w device.Weights, add bool) {
	p := packedWeights("ProductBack", w)
	if p.use != device.ForwardBack {
		panic(fmt.Sprintf("device: ProductBack: weights of %d×%d were made for Forward, want ForwardBack", p.out, p.in))
	}
	device.CheckProductBack(dx, dy, rows, p)
	if rows > 0 {
		multiply(rows, view(dy), &p.back, view(dx), add)
	}
}

// ProductGrad adds dyᵀ·x to dw.
func (d *Device) ProductGrad(dw device.Buffer, dy, x device.Rows, rows, out, in int) {
	device.CheckProductGrad(dw, dy, x, rows, out, in)
	if rows > 0 {
		addTransposed(out, in, rows, view(dy), view(x), matrix{floats(dw), in})
	}
}

// multiply computes C = A·B, or C += A·B, for so many rows.
func multiply(rows int, a matrix, b *Packed, c matrix, add bool) {
	if rows == 0 || b.n == 0 {
		return
	}
	p := product{m: rows, n: b.n, k: b.k, a: a.data, rowStride: a.stride, stepStride: 1, c: c.data, ldc: c.stride, accumulate: add}
	p.usePacked(b)
	p.share()
}

// addTransposed adds Aᵀ·B to C for A of steps×m and B of steps×n.
func addTransposed(m, n, steps int, a, b, c matrix) {
	if !readsUnpacked(n) {
		Gemm(true, false, m, n, steps, a.data, a.stride, b.data, b.stride, c.data, c.stride, true)
		return
	}
	if m > 0 && n > 0 {
		p := transposedProduct(m, n, steps, a, b, c)
		p.share()
	}
}

// addTransposedHere is addTransposed for few steps, on this goroutine.
func addTransposedHere(m, n, steps int, a, b, c matrix) {
	if !readsUnpacked(n) {
		Gemm(true, false, m, n, steps, a.data, a.stride, b.data, b.stride, c.data, c.stride, true)
		return
	}
	if m > 0 && n > 0 {
		p := transposedProduct(m, n, steps, a, b, c)
		p.strips(running())
	}
}

func transposedProduct(m, n, steps int, a, b, c matrix) product {
	return product{m: m, n: n, k: steps, a: a.data, rowStride: 1, stepStride: a.stride, b: b.data, bStep: b.stride, panelStride: panelColumns,
		c: c.data, ldc: c.stride, accumulate: true, stepBlock: directStepBlock}
}

// share computes the product on several cores where it is large and they are free.
func (p *product) share() {
	if alone() {
		p.inline()
		return
	}
	p.run()
}

// inline computes the product on this goroutine.
func (p *product) inline() {
	i := running()
	maxRows := i.tileRows()
	strips := (p.m + maxRows - 1) / maxRows
	width := i.groupColumns((p.m + strips - 1) / strips)
	p.block(i, strips, width, 0, strips, 0, (p.n+width-1)/width)
}

// AddBias adds bias to each row of y.
func (d *Device) AddBias(y device.Rows, bias device.Buffer, rows int) {
	device.CheckAddBias(y, bias, rows)
	if width := bias.Len(); rows > 0 && width > 0 {
		d.spreads.bias.overRows(biasWork{view(y), floats(bias)}, rows, width)
	}
}

type biasWork struct {
	y    matrix
	bias []float32
}

func (w biasWork) run(lo, hi int) {
	for i := lo; i < hi; i++ {
		Axpy(1, w.bias, w.y.row(i, len(w.bias)))
	}
}

// BiasGrad adds the sum of the rows of dy to dBias, row by row.
func (d *Device) BiasGrad(dBias device.Buffer, dy device.Rows, rows int) {
	device.CheckBiasGrad(dBias, dy, rows)
	sum, from := floats(dBias), view(dy)
	for i := range rows {
		Axpy(1, from.row(i, len(sum)), sum)
	}
}
