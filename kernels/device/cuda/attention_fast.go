package cuda

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

const (
	// widestFastHead is the most columns of a head that the fast kernels of attention take.
	widestFastHead = 128
	// fastQueries is how many queries a block of fast_attend and of fast_attend_back_queries has, fastPositions how many
	// positions one of fast_attend_back_keys has.
	fastQueries   = 128
	fastPositions = 64
	// fastPassing is how many queries pass a block of fast_attend_back_keys at a time.
	fastPassing = 48
	// sixteen bytes are copied at once; rows of BF16 begin at multiples of so many elements.
	fastPiece = 8
)

type fastAttendArgs struct {
	out, q, k, v                         pointer
	offsets, kept                        pointer
	outStride, qStride, kStride, vStride int64
	sequences, keyHeads, share, dim      int32
	atOnce                               int32
	scale                                float32
}

type fastAttendBackArgs struct {
	dq, dk, dv                                                                     pointer
	dOut, out, q, k, v                                                             pointer
	offsets, kept, dots                                                            pointer
	dqStride, dkStride, dvStride, dOutStride, outStride, qStride, kStride, vStride int64
	sequences, keyHeads, share, dim                                                int32
	scale, factor                                                                  float32
	steps                                                                          passingSteps
}

// passingSteps say how queries pass a block of fast_attend_back_keys; see its source.
type passingSteps struct {
	q, qOver, dOut, dOutOver         int64
	heads, kept, keptOver, keptHeads int32
}

// passingBy returns the steps of queries whose heads are laid out for so many columns.
func passingBy(size, share, keyHeads, dim int, q, dOut operand) passingSteps {
	step := attentionThreads * fastPiece / size
	rows, heads := step/share, step%share
	return passingSteps{
		q: int64(rows)*int64(q.stride) + int64(heads*dim), qOver: int64(q.stride) - int64(share*dim),
		dOut: int64(rows)*int64(dOut.stride) + int64(heads*dim), dOutOver: int64(dOut.stride) - int64(share*dim),
		heads: int32(heads), kept: int32(fastPassing/share*keyHeads*share + fastPassing%share),
		keptOver: int32((keyHeads - 1) * share), keptHeads: int32(fastPassing % share),
	}
}

// attendsFast reports whether the fast kernels compute the attention of these queries, keys and values. It must not depend
// on anything else: then Attend has kept what AttendBack of the same operands reads.
func (d *Device) attendsFast(a device.Attended, q, k, v operand) bool {
	return !d.exact && q.t == device.BF16 && a.Dim%fastPiece == 0 && a.Dim <= widestFastHead && a.Scale > 0 && inPieces(q, k, v)
}

// inPieces reports whether rows of BF16 can be read and written 16 bytes at a time.
func inPieces(operands ...operand) bool {
	for _, o := range operands {
		if o.stride%fastPiece != 0 || o.at%16 != 0 {
			return false
		}
	}
	return true
}

// sizedFast is the name of the variant of a fast kernel for heads of so many columns, and the columns that it is laid out
// for.
func sizedFast(name string, dim int) (string, int) {
	size := 64
	if dim > size {
		size = widestFastHead
	}
	return fmt.Sprintf("%s_%d", name, size), size
}

// fastGrid has a block for each key head of each tile of each sequence, and some without work: see tiles_before in
// fast_attention.h.
func fastGrid(rows, share, tile, sequences, keyHeads int) grid {
	return line((rows*share/tile + sequences) * keyHeads)
}

// attendFast writes out, when it is not absent, and what is kept, when that is not.
func (d *Device) attendFast(out operand, a device.Attended, q, k, v operand, offsets, kept pointer) {
	const log2e = 1.4426950408889634
	rows, sequences, share := a.Offsets.Rows(), a.Offsets.Sequences(), a.Heads/a.KVHeads
	all := fastAttendArgs{
		out: out.at, q: q.at, k: k.at, v: v.at, offsets: offsets, kept: kept,
		outStride: int64(out.stride), qStride: int64(q.stride), kStride: int64(k.stride), vStride: int64(v.stride),
		sequences: int32(sequences), keyHeads: int32(a.KVHeads), share: int32(share), dim: int32(a.Dim), scale: float32(float64(a.Scale) * log2e),
	}
	if inPieces(out) {
		all.atOnce = 1
	}
	name, size := sizedFast("fast_attend", a.Dim)
	launchShared(d, name, fastGrid(rows, share, fastQueries, sequences, a.KVHeads), attentionThreads, (fastQueries+4*64)*size*2, all)
}

// attendBackFast is AttendBack by the fast kernels. Without kept it computes it again.
func (d *Device) attendBackFast(dq, dk, dv, dOut, out operand, a device.Attended, q, k, v operand, offsets, kept pointer) error {
	const log2e = 1.4426950408889634
	rows, sequences, share := a.Offsets.Rows(), a.Offsets.Sequences(), a.Heads/a.KVHeads
	numbers := 4 * int64(rows) * int64(a.Heads)
	room := numbers
	if kept == 0 {
		room += numbers
	}
	workspace, err := d.reserve(device.ForWorkspace, room)
	if err != nil {
		return err
	}
	defer d.give(workspace)
	if kept == 0 {
		kept = workspace.address + pointer(numbers)
		d.attendFast(operand{}, a, q, k, v, offsets, kept)
	}
	all := fastAttendBackArgs{
		dq: dq.at, dk: dk.at, dv: dv.at, dOut: dOut.at, out: out.at, q: q.at, k: k.at, v: v.at, offsets: offsets, kept: kept, dots: workspace.address,
		dqStride: int64(dq.stride), dkStride: int64(dk.stride), dvStride: int64(dv.stride), dOutStride: int64(dOut.stride), outStride: int64(out.stride),
		qStride: int64(q.stride), kStride: int64(k.stride), vStride: int64(v.stride),
		sequences: int32(sequences), keyHeads: int32(a.KVHeads), share: int32(share), dim: int32(a.Dim),
		scale: float32(float64(a.Scale) * log2e), factor: a.Scale,
	}
	name, size := sizedFast("fast_attend_back_queries", a.Dim)
	launchShared(d, name, fastGrid(rows, share, fastQueries, sequences, a.KVHeads), attentionThreads, (2*fastQueries+4*32)*size*2, all)
	name, size = sizedFast("fast_attend_back_keys", a.Dim)
	all.steps = passingBy(size, share, a.KVHeads, a.Dim, q, dOut)
	shared := (2*fastPositions+4*fastPassing)*size*2 + fastPositions*fastPassing*2
	launchShared(d, name, fastGrid(rows, 1, fastPositions, sequences, a.KVHeads), attentionThreads, shared, all)
	return nil
}
