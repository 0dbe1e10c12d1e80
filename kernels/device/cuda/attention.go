package cuda

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

const (
	// attentionTile is how many positions, or query heads of rows, a tile of attention has.
	attentionTile = device.PageTokens
	// attentionPart is how many positions' softmax is computed on its own before the parts are joined.
	attentionPart    = 8 * attentionTile
	attentionThreads = 128
	// widestHead is the most columns of a head.
	widestHead = 256
)

type attendArgs struct {
	out, q, k, v                         pointer
	offsets                              pointer
	cached, starts, tables               pointer
	outStride, qStride, kStride, vStride int64
	head, page                           int64
	sequences, share, dim                int32
	skipOnes                             int32
	fours                                int32
	scale                                float32
}

// KeptWidth is a number for each query head in the fast mode, of heads in BF16: the logarithm of the sum that the softmax
// divides by. In the exact mode it is 0: AttendBack computes the shares again.
func (d *Device) KeptWidth(t device.DType, heads int) int {
	if d.exact || t != device.BF16 {
		return 0
	}
	return heads
}

// Attend writes softmax(scale·q·kᵀ)·v of each query head to out. In the fast mode, tensor cores compute heads of BF16 whose width
// is a multiple of 8, at most 128, and whose rows begin at multiples of 16 bytes; nothing is kept of others. What is not a
// number in a key or value of a row then spreads to rows before it, of its own sequence alone.
func (d *Device) Attend(out device.Rows, a device.Attended) {
	const name = "Attend"
	device.CheckAttend(out, a, d.KeptWidth(a.Q.Data.DType(), a.Heads))
	checkHead(name, a.Dim)
	o, q, k, v := d.operand(name, out), d.operand(name, a.Q), d.operand(name, a.K), d.operand(name, a.V)
	offsets, kept := d.at(name, a.Offsets.Device), d.at(name, a.Kept)
	if a.Offsets.Rows() == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	if d.attendsFast(a, q, k, v) {
		d.attendFast(o, a, q, k, v, offsets, kept)
		return
	}
	share := a.Heads / a.KVHeads
	launch(d, wide("attend", a.Dim, q.t), attentionGrid(a.Offsets.Rows(), a.Offsets.Sequences(), share, a.KVHeads), attentionThreads, attendArgs{
		out: o.at, q: q.at, k: k.at, v: v.at, offsets: offsets,
		outStride: int64(o.stride), qStride: int64(q.stride), kStride: int64(k.stride), vStride: int64(v.stride), head: int64(a.Dim),
		sequences: int32(a.Offsets.Sequences()), share: int32(share), dim: int32(a.Dim), fours: inFours(a.Dim, q, k, v), scale: a.Scale,
	})
}

// checkHead refuses heads that kernels have no registers for.
func checkHead(operation string, dim int) {
	if dim > widestHead {
		panic(fmt.Sprintf("cuda: %s: want heads of at most %d columns, got %d", operation, widestHead, dim))
	}
}

// wide is the name of the variant of a kernel for heads of so many columns.
func wide(name string, dim int, t device.DType) string {
	variant := 64
	for variant < dim {
		variant *= 2
	}
	return fmt.Sprintf("%s_%d%s", name, variant, suffix(t))
}

// attentionGrid has, for each key head, a block for each tile of the queries of each sequence, and some without work:
// see tiles_before in attention.h.
func attentionGrid(rows, sequences, share, keyHeads int) grid {
	return grid{rows*share/attentionTile + sequences, keyHeads, 1}
}

// inFours reports, as kernels take it, whether four elements of a head can be read at once from every operand.
func inFours(dim int, operands ...operand) int32 {
	for _, o := range operands {
		if dim%4 != 0 || o.stride%4 != 0 || int(o.at)%(4*o.t.Size()) != 0 {
			return 0
		}
	}
	return 1
}
