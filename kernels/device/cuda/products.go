package cuda

// productInto queues y = x·wᵀ, or y += x·wᵀ, for w [out × in]. x has w's type, y that or float32. The caller holds
// mu, by enter.
func (d *Device) productInto(y, x, w operand, rows, out, in int, add bool) {
	if rows > 0 && out > 0 && in > 0 && d.fastProduct(y, x, w, rows, out, in, add) {
		return
	}
	d.multiply("product", y, x, w, rows, out, in, add)
}

// productOnto queues y = base + x·wᵀ, with base of y's type. The caller holds mu, by enter.
func (d *Device) productOnto(y, base, x, w operand, rows, out, in int) {
	if rows > 0 && out > 0 && in > 0 && d.fastProductOnto(y, base, x, w, rows, out, in) {
		return
	}
	d.multiplyOnto("product", y, base, x, w, rows, out, in)
}

// productBackInto queues dx = dy·w, or dx += dy·w, for w [out × in]. dy has w's type, dx that or float32. The caller
// holds mu, by enter.
func (d *Device) productBackInto(dx, dy, w operand, rows, out, in int, add bool) {
	if rows > 0 && out > 0 && in > 0 && d.fastProductBack(dx, dy, w, rows, out, in, add) {
		return
	}
	d.multiply("product_back", dx, dy, w, rows, in, out, add)
}

// productGradInto queues dw += dyᵀ·x for dw [out × in] in float32. dy has x's type. The caller holds mu, by enter.
func (d *Device) productGradInto(dw, dy, x operand, rows, out, in int) {
	if rows > 0 && out > 0 && in > 0 && d.fastProductGrad(dw, dy, x, rows, out, in) {
		return
	}
	d.multiply("product_grad", dw, dy, x, out, in, rows, true)
}

// productArgs is the struct of every kernel of a product.
type productArgs struct {
	result, base, left, right                         pointer // no base: sums begin with 0
	resultStride, baseStride, leftStride, rightStride int64
	rows, columns, steps, _                           int32
}

// part is what a block of one kernel of products computes: so many rows and columns of the result.
type part struct {
	name                   string
	rows, columns, threads int
}

// The parts: see products.cu. That of few rows is of productInto alone.
var (
	largeTile = part{"_128", 128, 128, 256}
	smallTile = part{"_64", 64, 64, 256}
	fewRows   = part{"_few", 16, 32, 128}
)

// blocks is how many blocks a result takes.
func (p part) blocks(rows, columns int) int { return blocks(rows, p.rows) * blocks(columns, p.columns) }

// partOf chooses a kernel: the largest part of which there is one for every multiprocessor, unless most of it would
// be beyond the result. All give the same bits.
func (d *Device) partOf(form string, rows, columns int) part {
	forFew := form == "product" && rows <= fewRows.rows*maxGridY
	switch {
	case forFew && rows <= 2*fewRows.rows:
		return fewRows
	case min(rows, columns) > smallTile.rows && largeTile.blocks(rows, columns) >= d.multiprocessors:
		return largeTile
	case forFew && smallTile.blocks(rows, columns) < d.multiprocessors:
		return fewRows
	default:
		return smallTile
	}
}

// maxGridY is how many blocks a launch may have in its second dimension.
const maxGridY = 65535

// multiply queues a product of so many rows and columns, each element of which is a chain of so many steps.
func (d *Device) multiply(form string, result, left, right operand, rows, columns, steps int, add bool) {
	var base operand
	if add {
		base = result
	}
	d.multiplyOnto(form, result, base, left, right, rows, columns, steps)
}

// multiplyOnto is multiply with sums that begin with the elements of base, or with 0 where it has no address.
func (d *Device) multiplyOnto(form string, result, base, left, right operand, rows, columns, steps int) {
	if rows > 0 && columns > 0 {
		d.multiplyBy(d.partOf(form, rows, columns), form, result, base, left, right, rows, columns, steps)
	}
}

func (d *Device) multiplyBy(p part, form string, result, base, left, right operand, rows, columns, steps int) {
	a := productArgs{result: result.at, base: base.at, left: left.at, right: right.at,
		resultStride: int64(result.stride), baseStride: int64(base.stride), leftStride: int64(left.stride), rightStride: int64(right.stride),
		rows: int32(rows), columns: int32(columns), steps: int32(steps)}
	g := line(p.blocks(rows, columns))
	if p == fewRows {
		g = grid{blocks(columns, p.columns), blocks(rows, p.rows), 1}
	}
	launch(d, form+p.name+suffix(right.t)+suffix(result.t), g, p.threads, a)
}
