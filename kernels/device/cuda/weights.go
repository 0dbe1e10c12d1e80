package cuda

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// weights is a matrix in the compute type, row-major, as it was when it was refreshed, or as it is.
type weights struct {
	owner   *core
	matrix  device.Buffer // what it is made from
	form    *block        // nil where the matrix is its own form
	address pointer       // of the form
	t       device.DType
	out, in int
	use     device.Use // 0 once freed
}

// Out is the number of rows of the matrix.
func (w *weights) Out() int { return w.out }

// In is the number of its columns.
func (w *weights) In() int { return w.in }

// DType is the compute type.
func (w *weights) DType() device.DType { return w.t }

// Table is the form.
func (w *weights) Table() device.Buffer {
	if w.form == nil {
		return w.matrix
	}
	return device.NewBuffer(w.form, w.t, w.out*w.in)
}

func (w *weights) operand() operand { return operand{w.address, w.t, w.in} }

// weights are the weights behind the interface, which have not been freed.
func (d *Device) weights(operation string, w device.Weights) *weights {
	p, ok := w.(*weights)
	if !ok || p.owner != d.core {
		panic(fmt.Sprintf("cuda: %s: weights of type %T are not of device %s", operation, w, d.name))
	}
	if p.use == 0 {
		panic(fmt.Sprintf("cuda: %s: weights of %d×%d have been freed", operation, p.out, p.in))
	}
	return p
}

// NewWeights copies the matrix in w, row-major [out × in], in the compute type. One that is BF16 already is read where it
// is.
func (d *Device) NewWeights(w device.Buffer, t device.DType, out, in int, use device.Use) (device.Weights, error) {
	device.CheckNewWeights(w, t, out, in, use)
	from := d.at("NewWeights", w)
	p := &weights{owner: d.core, matrix: w, t: t, out: out, in: in, use: use, address: from}
	if w.DType() == device.BF16 {
		return p, nil
	}
	err := d.ask("NewWeights", func() {
		var err error
		if p.form, err = d.reserve(device.ForWeights, int64(out)*int64(in)*int64(t.Size())); err != nil {
			d.fail("NewWeights", err)
			return
		}
		p.address = p.form.address
		if d.refresh("NewWeights", p, from); d.kept() != nil {
			d.give(p.form)
		}
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Refresh copies the matrix again.
func (d *Device) Refresh(w device.Weights) {
	p := d.weights("Refresh", w)
	from := d.at("Refresh", p.matrix)
	if p.form == nil || !d.enter("Refresh") {
		return
	}
	defer d.leave()
	d.refresh("Refresh", p, from)
}

// refresh queues the copy. The caller holds mu, by enter.
func (d *Device) refresh(operation string, p *weights, from pointer) {
	switch n := p.out * p.in; {
	case n == 0:
	case p.t == device.F32:
		d.fail(operation, d.driver.Within(p.form.address, from, p.form.bytes, d.stream))
	default:
		d.convert(p.form.address, from, p.t, device.F32, n)
	}
}

// FreeWeights gives the copy's memory back.
func (d *Device) FreeWeights(w device.Weights) {
	if w == nil {
		return
	}
	p := d.weights("FreeWeights", w)
	p.use = 0
	if p.form == nil || !d.enterToFree("FreeWeights") {
		return
	}
	defer d.leave()
	d.give(p.form)
}

// Product computes y = x·Wᵀ, or y += x·Wᵀ.
func (d *Device) Product(y, x device.Rows, rows int, w device.Weights, add bool) {
	p := d.weights("Product", w)
	device.CheckProduct(y, x, rows, p)
	to, from := d.operand("Product", y), d.operand("Product", x)
	if rows == 0 || p.out == 0 || !d.enter("Product") {
		return
	}
	defer d.leave()
	d.productInto(to, from, p.operand(), rows, p.out, p.in, add)
}

// ProductOnto computes y = base + x·Wᵀ.
func (d *Device) ProductOnto(y, base, x device.Rows, rows int, w device.Weights) {
	p := d.weights("ProductOnto", w)
	device.CheckProductOnto(y, base, x, rows, p)
	to, first, from := d.operand("ProductOnto", y), d.operand("ProductOnto", base), d.operand("ProductOnto", x)
	if rows == 0 || p.out == 0 || !d.enter("ProductOnto") {
		return
	}
	defer d.leave()
	d.productOnto(to, first, from, p.operand(), rows, p.out, p.in)
}

// ProductBack computes dx = dy·W, or dx += dy·W.
func (d *Device) ProductBack(dx, dy device.Rows, rows int, w device.Weights, add bool) {
	p := d.weights("ProductBack", w)
	if p.use != device.ForwardBack {
		panic(fmt.Sprintf("cuda: ProductBack: weights of %d×%d were made for Forward, want ForwardBack", p.out, p.in))
	}
	device.CheckProductBack(dx, dy, rows, p)
	to, from := d.operand("ProductBack", dx), d.operand("ProductBack", dy)
	if rows == 0 || p.in == 0 || !d.enter("ProductBack") {
		return
	}
	defer d.leave()
	d.productBackInto(to, from, p.operand(), rows, p.out, p.in, add)
}

// ProductGrad adds dyᵀ·x to dw.
func (d *Device) ProductGrad(dw device.Buffer, dy, x device.Rows, rows, out, in int) {
	device.CheckProductGrad(dw, dy, x, rows, out, in)
	to := d.operand("ProductGrad", device.Dense(dw, in))
	back, from := d.operand("ProductGrad", dy), d.operand("ProductGrad", x)
	if rows == 0 || out == 0 || in == 0 || !d.enter("ProductGrad") {
		return
	}
	defer d.leave()
	d.productGradInto(to, back, from, rows, out, in)
}
