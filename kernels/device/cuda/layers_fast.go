package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

type fastNormArgs struct {
	y, x, weight, roots pointer
	yStride, xStride    int64
	rows, width         int32
	eps                 float32
	_                   int32
}

type fastNormBackArgs struct {
	dx, dy, x, weight, roots, terms pointer
	dxStride, dyStride, xStride     int64
	rows, width                     int32
}

// turnedArgs are heads that fast_rotate turns.
type turnedArgs struct {
	y, x, weight, roots pointer
	yStride, xStride    int64
	count, _            int32
}

type fastRotateArgs struct {
	first, second               turnedArgs
	positions, cos, sin, status pointer
	rows, dim, limit            int32
	eps                         float32
}

type fastRotateBackArgs struct {
	dx, dy, x, positions, cos, sin, weight, roots, terms, status pointer
	dxStride, dyStride, xStride                                  int64
	rows, count, dim, limit                                      int32
}

const (
	// widestFastNorm is the most columns of a row that the fast norms hold in registers.
	widestFastNorm = 4096
	// fastNormRows and fastRotateRows are how many rows a block of fast_rms_norm_back and of fast_rotate_back has.
	fastNormRows, fastRotateRows = 64, 32
	// fastHeads is how many heads a lane of the fast rotations has.
	fastHeads = 4
)

// inEights reports whether the fast kernels of layers take rows of so many columns, with numbers of float32 beside them:
// where all can be read 16 bytes at a time. It must not depend on anything else, so that a row's bits do not.
func (d *Device) inEights(width int, numbers []pointer, operands ...operand) bool {
	if d.exact || width%fastPiece != 0 || !inPieces(operands...) {
		return false
	}
	for _, o := range operands {
		if o.t != device.BF16 {
			return false
		}
	}
	for _, n := range numbers {
		if n%16 != 0 {
			return false
		}
	}
	return true
}

// fastNorm is RMSNorm by the fast kernels; it reports whether they do it. The caller holds mu, by enter.
func (d *Device) fastNorm(y, x operand, weight, roots pointer, rows, width int, eps float32) bool {
	if width > widestFastNorm || !d.inEights(width, []pointer{weight}, y, x) {
		return false
	}
	name := "fast_rms_norm_1024"
	switch {
	case width > 2048:
		name = "fast_rms_norm_4096"
	case width > 1024:
		name = "fast_rms_norm_2048"
	}
	launch(d, name, line(blocks(rows, 4)), 128, fastNormArgs{y: y.at, x: x.at, weight: weight, roots: roots,
		yStride: int64(y.stride), xStride: int64(x.stride), rows: int32(rows), width: int32(width), eps: eps})
	return true
}

// fastNormBack is RMSNormBack by the fast kernels; it reports whether they do it. What each block's rows add to the
// gradient of the weight is summed in the order of the blocks. The caller holds mu, by enter.
func (d *Device) fastNormBack(dx, dy, x operand, sum, weight, roots pointer, rows, width int) bool {
	if width > widestFastNorm || !d.inEights(width, []pointer{weight}, dx, dy, x) {
		return false
	}
	parts := blocks(rows, fastNormRows)
	d.withTerms("RMSNormBack", sum, parts, width, func(terms pointer) {
		launch(d, "fast_rms_norm_back", line(parts), 32*blocks(width, 32*fastPiece), fastNormBackArgs{dx: dx.at, dy: dy.at, x: x.at, weight: weight, roots: roots, terms: terms,
			dxStride: int64(dx.stride), dyStride: int64(dy.stride), xStride: int64(x.stride), rows: int32(rows), width: int32(width)})
	})
	return true
}

// withTerms lets work leave rows of terms and adds them to sum, row by row. Without a sum there are no terms.
func (d *Device) withTerms(operation string, sum pointer, rows, width int, work func(terms pointer)) {
	if sum == 0 {
		work(0)
		return
	}
	terms, err := d.reserve(device.ForWorkspace, int64(rows)*int64(width)*4)
	if err != nil {
		d.fail(operation, err)
		return
	}
	defer d.give(terms)
	work(terms.address)
	launch(d, "rotate_weight_grad", line(blocks(width, sumColumns)), sumThreads, rotateWeightGradArgs{sum, terms.address, int32(rows), int32(width)})
}

// eightsGrid is that of the fast kernels of SwiGLU: a block has 1024 columns of a row.
func eightsGrid(rows, width int) grid { return grid{rows, blocks(width, 128*fastPiece), 1} }

// turnsFast reports whether the fast kernels turn these heads.
func (d *Device) turnsFast(on headsOnDevice, operands ...operand) bool {
	lanes := on.half / fastPiece
	return on.half%fastPiece == 0 && lanes <= 32 && lanes&(lanes-1) == 0 &&
		d.inEights(on.dim, []pointer{on.cos, on.sin, on.weight}, on.x) && d.inEights(on.dim, nil, operands...)
}

// fastRotate is Rotate by the fast kernel; it reports whether that does it. The caller holds mu, by enter.
func (d *Device) fastRotate(y operand, on headsOnDevice, eps float32) bool {
	if !d.turnsFast(on, y) {
		return false
	}
	d.turn(on, on.turned(y), turnedArgs{}, eps)
	return true
}

// fastRotateBoth is RotateBoth by one launch of the fast kernel; it reports whether that does it, whose bits are those of two
// launches. The caller holds mu, by enter.
func (d *Device) fastRotateBoth(yq, yk operand, q, k headsOnDevice, eps float32) bool {
	if (q.weight == 0) != (k.weight == 0) || !d.turnsFast(q, yq) || !d.turnsFast(k, yk) {
		return false
	}
	d.turn(q, q.turned(yq), k.turned(yk), eps)
	return true
}

func (on headsOnDevice) turned(y operand) turnedArgs {
	return turnedArgs{y: y.at, x: on.x.at, weight: on.weight, roots: on.roots, yStride: int64(y.stride), xStride: int64(on.x.stride), count: int32(on.count)}
}

// turn queues fast_rotate.
func (d *Device) turn(on headsOnDevice, first, second turnedArgs, eps float32) {
	units := on.rows * (blocks(int(first.count), fastHeads) + blocks(int(second.count), fastHeads))
	launch(d, "fast_rotate", line(blocks(units*on.half/fastPiece, 128)), 128, fastRotateArgs{first: first, second: second,
		positions: on.positions, cos: on.cos, sin: on.sin, status: d.status, rows: int32(on.rows), dim: int32(on.dim), limit: int32(on.limit), eps: eps})
}

// fastRotateBack is RotateBack by the fast kernel; it reports whether that does it. The caller holds mu, by enter.
func (d *Device) fastRotateBack(dx, dy operand, sum pointer, on headsOnDevice) bool {
	if !d.turnsFast(on, dx, dy) {
		return false
	}
	parts := blocks(on.rows, fastRotateRows)
	d.withTerms("RotateBack", sum, parts, on.dim, func(terms pointer) {
		launch(d, "fast_rotate_back", line(parts), 128, fastRotateBackArgs{dx: dx.at, dy: dy.at, x: on.x.at, positions: on.positions, cos: on.cos, sin: on.sin,
			weight: on.weight, roots: on.roots, terms: terms, status: d.status,
			dxStride: int64(dx.stride), dyStride: int64(dy.stride), xStride: int64(on.x.stride),
			rows: int32(on.rows), count: int32(on.count), dim: int32(on.dim), limit: int32(on.limit)})
	})
	return true
}
