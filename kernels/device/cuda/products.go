package cuda

// productInto queues y = x·wᵀ, or y += x·wᵀ, for w [out × in]. x has w's type, y that or float32. The caller holds
// mu, by enter.
func (d *Device) productInto(y, x, w operand, rows, out, in int, add bool) {
	if rows > 0 && out > 0 && in > 0 && d.fastProduct(y, x, w, rows, out, in, add) {
		return
	}
	d.multiply("product", true, y, x, w, rows, out, in, add)
}

// productBackInto queues dx = dy·w, or dx += dy·w, for w [out × in]. dy has w's type, dx that or float32. The caller
// holds mu, by enter.
func (d *Device) productBackInto(dx, dy, w operand, rows, out, in int, add bool) {
	if rows > 0 && out > 0 && in > 0 && d.fastProductBack(dx, dy, w, rows, out, in, add) {
		return
	}
	d.multiply("product_back", false, dx, dy, w, rows, in, out, add)
}

// productGradInto queues dw += dyᵀ·x for dw [out × in] in float32. dy has x's type. The caller holds mu, by enter.
func (d *Device) productGradInto(dw, dy, x operand, rows, out, in int) {
	if rows > 0 && out > 0 && in > 0 && d.fastProductGrad(dw, dy, x, rows, out, in) {
		return
	}
	d.multiply("product_grad", false, dw, dy, x, out, in, rows, true)
}

// productArgs is the struct of every kernel of a product.
type productArgs struct {
	result, left, right                   pointer
	resultStride, leftStride, rightStride int64
	rows, columns, steps, add             int32
}

// The tiles of products and the block of one with few rows: see products.cu.
const (
	smallTile, largeTile = 64, 128
	tileThreads          = 256
	fewRows, fewColumns  = 16, 32
	fewThreads           = 128
)

// multiply queues a product of so many rows and columns, each element of which is a chain of so many steps. few says
// that the form has a kernel for few rows. All kernels give the same bits.
func (d *Device) multiply(form string, few bool, result, left, right operand, rows, columns, steps int, add bool) {
	if rows == 0 || columns == 0 {
		return
	}
	a := productArgs{result: result.at, left: left.at, right: right.at,
		resultStride: int64(result.stride), leftStride: int64(left.stride), rightStride: int64(right.stride),
		rows: int32(rows), columns: int32(columns), steps: int32(steps)}
	if add {
		a.add = 1
	}
	types := suffix(right.t) + suffix(result.t)
	switch small := blocks(rows, smallTile) * blocks(columns, smallTile); {
	case blocks(rows, largeTile)*blocks(columns, largeTile) >= d.multiprocessors:
		launch(d, form+"_128"+types, line(blocks(rows, largeTile)*blocks(columns, largeTile)), tileThreads, a)
	case few && (rows <= fewRows || small < d.multiprocessors) && rows <= fewRows*maxGridY:
		launch(d, form+"_few"+types, grid{blocks(columns, fewColumns), blocks(rows, fewRows), 1}, fewThreads, a)
	default:
		launch(d, form+"_64"+types, line(small), tileThreads, a)
	}
}

// maxGridY is how many blocks a launch may have in its second dimension.
const maxGridY = 65535
