package cpu

import "github.com/turnwise-rl/turnwise/kernels/device"

// attentionScratch is what the attention of one key head of one sequence writes.
type attentionScratch struct {
	keys, values Packed    // op(B) of scores and of outputs
	keyRows      Packed    // op(B) = K, for dq
	valueColumns Packed    // op(B) = Vᵀ, for the gradient of probabilities
	scores       []float32 // of a tile: rows × the keys its last row sees
	dScores      []float32
}

// repack packs op(B) into the memory of p.
func (p *Packed) repack(transB bool, n, k int, b []float32, ldb int) {
	p.n, p.k = n, k
	p.data = grown(p.data, p.size())
	p.fillPanels(0, p.panels(), transB, b, ldb)
}

// attentionWork is attention by key heads of sequences: item i is key head i mod kvHeads of sequence
// i/kvHeads, with all the query heads that read it.
type attentionWork struct {
	device              *Device
	q, k, v, out        matrix
	dq, dk, dv, dOut    matrix // of the backward pass
	offsets             []int32
	kvHeads, share, dim int
	scale               float32
	back                bool
}

func newAttentionWork(d *Device, out device.Rows, a device.Attended) attentionWork {
	return attentionWork{
		device: d, q: view(a.Q), k: view(a.K), v: view(a.V), out: view(out), offsets: a.Offsets.Host,
		kvHeads: a.KVHeads, share: a.Heads / a.KVHeads, dim: a.Dim, scale: a.Scale,
	}
}

// spread runs the items, several at once where cores are free and there is enough to do.
func (w attentionWork) spread() {
	items := (len(w.offsets) - 1) * w.kvHeads
	rows := int(w.offsets[len(w.offsets)-1])
	if rows*w.kvHeads*w.share*w.dim < sharedElements/4 || alone() {
		w.run(0, items)
		return
	}
	w.device.spreads.attention.run(w, items, 1)
}

func (w attentionWork) run(lo, hi int) {
	s := w.device.attention.take()
	defer w.device.attention.give(s)
	for i := lo; i < hi; i++ {
		sequence, kv := i/w.kvHeads, i%w.kvHeads
		from, to := int(w.offsets[sequence]), int(w.offsets[sequence+1])
		switch {
		case from == to:
		case w.back:
			w.headBack(s, kv, from, to)
		default:
			w.head(s, kv, from, to)
		}
	}
}

// KeptWidth is 0: AttendBack computes what it needs of each strip again.
func (*Device) KeptWidth(device.DType, int) int { return 0 }

// Attend writes softmax(scale·q·kᵀ)·v of each query head to out.
func (d *Device) Attend(out device.Rows, a device.Attended) {
	device.CheckAttend(out, a, 0)
	if a.Offsets.Rows() > 0 {
		newAttentionWork(d, out, a).spread()
	}
}

// AttendBack writes the gradients of q, k and v, given out and its gradient.
func (d *Device) AttendBack(dq, dk, dv, dOut, out device.Rows, a device.Attended) {
	device.CheckAttendBack(dq, dk, dv, dOut, out, a, 0)
	if a.Offsets.Rows() == 0 {
		return
	}
	w := newAttentionWork(d, out, a)
	w.dq, w.dk, w.dv, w.dOut, w.back = view(dq), view(dk), view(dv), view(dOut), true
	w.spread()
}

// A strip is the query rows that one kernel computes. It computes the scores of all keys that its last
// row sees, and zeros stand for those that its earlier rows do not see.

// head computes the outputs of rows [from, to), one sequence, for the query heads of a key head.
func (w attentionWork) head(s *attentionScratch, kv, from, to int) {
	n := to - from
	v := w.v.at(from, kv*w.dim)
	s.keys.repack(true, n, w.dim, w.k.at(from, kv*w.dim).data, w.k.stride)
	s.values.repack(false, w.dim, n, v.data, v.stride)
	strip := running().tileRows()
	if !allFinite(s.values.data) {
		strip = 1 // the zeros would spread NaN to rows that do not see it
	}
	s.scores = grown(s.scores, strip*n)
	for h := kv * w.share; h < (kv+1)*w.share; h++ {
		for first := 0; first < n; first += strip {
			count := min(strip, n-first)
			scores := matrix{s.scores, first + count}
			w.probabilities(&s.keys, scores, w.q.at(from+first, h*w.dim), first, count)
			multiplyHere(count, first+count, scores, &s.values, w.out.at(from+first, h*w.dim))
		}
	}
}

// probabilities fills scores with the attention of a strip of rows [first, first+count) of a sequence to
// its first+count first keys.
func (w attentionWork) probabilities(keys *Packed, scores, q matrix, first, count int) {
	w.products(keys, scores, q, first+count, count)
	for i := range count {
		row := scores.row(i, first+count)
		visible := first + i + 1
		SoftmaxScaled(row[:visible], w.scale)
		clear(row[visible:])
	}
}

// products fills dst with the products of rows with the first packed columns.
func (w attentionWork) products(b *Packed, dst, rows matrix, columns, count int) {
	p := product{m: count, n: columns, k: w.dim, a: rows.data, rowStride: rows.stride, stepStride: 1, c: dst.data, ldc: dst.stride}
	p.usePacked(b)
	p.strips(running())
}

// multiplyHere computes C = A·B with the first steps of a packed B, on this goroutine.
func multiplyHere(rows, steps int, a matrix, b *Packed, c matrix) {
	p := product{m: rows, n: b.n, k: steps, a: a.data, rowStride: a.stride, stepStride: 1, c: c.data, ldc: c.stride}
	p.usePacked(b)
	p.strips(running())
}

// allFinite reports whether no value is infinite or not a number.
func allFinite(x []float32) bool {
	square := SquaredNorm(x)
	return square-square == 0
}

// tileStrips is the number of strips of a tile of the backward pass, whose rows are the terms of a sum over
// queries: enough of them to make reading and writing the sum cheap.
const tileStrips = 4

// headBack computes the gradients of rows [from, to), one sequence, for a key head and the query heads
// that read it. With P the probabilities, o = P·v and s = scale·q·kᵀ: dv = Pᵀ·do,
// ds = P ⊙ (do·vᵀ − rowsum(do ⊙ o)), dq = scale·ds·k, dk = scale·dsᵀ·q, summed by query heads and rows
// in ascending order.
func (w attentionWork) headBack(s *attentionScratch, kv, from, to int) {
	n, d := to-from, w.dim
	k, v := w.k.at(from, kv*d), w.v.at(from, kv*d)
	dk, dv := w.dk.at(from, kv*d), w.dv.at(from, kv*d)
	for i := range n {
		clear(dk.row(i, d))
		clear(dv.row(i, d))
	}
	s.keys.repack(true, n, d, k.data, k.stride)
	s.keyRows.repack(false, d, n, k.data, k.stride)
	s.valueColumns.repack(true, n, d, v.data, v.stride)
	strip := running().tileRows()
	tile := tileStrips * strip
	s.scores, s.dScores = grown(s.scores, tile*n), grown(s.dScores, tile*n)
	for h := kv * w.share; h < (kv+1)*w.share; h++ {
		for first := 0; first < n; first += tile {
			count := min(tile, n-first)
			columns := first + count
			scores, dScores := matrix{s.scores, columns}, matrix{s.dScores, columns}
			for lo := 0; lo < count; lo += strip {
				w.stripBack(s, scores.at(lo, 0), dScores.at(lo, 0), h, from, first+lo, min(strip, count-lo))
			}
			addTriangle(first, count, d, strip, scores, w.dOut.at(from+first, h*d), dv)
			addTriangle(first, count, d, strip, dScores, w.q.at(from+first, h*d), dk)
		}
	}
}

// stripBack fills scores and dScores with the probabilities of a strip of rows and the gradient of its scores, and
// writes that of its queries.
func (w attentionWork) stripBack(s *attentionScratch, scores, dScores matrix, h, from, first, count int) {
	d, columns := w.dim, first+count
	row := from + first
	out, dOut := w.out.at(row, h*d), w.dOut.at(row, h*d)
	w.probabilities(&s.keys, scores, w.q.at(row, h*d), first, count)
	w.products(&s.valueColumns, dScores, dOut, columns, count)
	for i := range count {
		visible := first + i + 1
		gradient := dScores.row(i, columns)
		SoftmaxBackward(gradient[:visible], scores.row(i, visible), Dot(dOut.row(i, d), out.row(i, d)), w.scale)
		clear(gradient[visible:])
	}
	multiplyHere(count, columns, dScores, &s.keyRows, w.dq.at(row, h*d))
}

// addTriangle adds Aᵀ·B to C, for rows [first, first+count) of A that end, strip by strip, with what the strip's
// last row sees.
func addTriangle(first, count, d, strip int, a, b, c matrix) {
	addTransposedHere(first, d, count, a, b, c)
	for lo := 0; lo < count; lo += strip {
		addTransposedHere(min(strip, count-lo), d, count-lo, a.at(lo, first+lo), b.at(lo, 0), c.at(first+lo, 0))
	}
}
