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
	shared := w // escapes to the closure, where w need not
	Parallel(items, 1, func(lo, hi int) { shared.run(lo, hi) })
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

// Attend writes softmax(scale·q·kᵀ)·v of each query head to out.
func (d *Device) Attend(out device.Rows, a device.Attended) {
	device.CheckAttend(out, a)
	if a.Offsets.Rows() > 0 {
		newAttentionWork(d, out, a).spread()
	}
}

// AttendBack writes the gradients of q, k and v, given out and its gradient.
func (d *Device) AttendBack(dq, dk, dv, dOut, out device.Rows, a device.Attended) {
	device.CheckAttendBack(dq, dk, dv, dOut, out, a)
	if a.Offsets.Rows() == 0 {
		return
	}
	w := newAttentionWork(d, out, a)
	w.dq, w.dk, w.dv, w.dOut, w.back = view(dq), view(dk), view(dv), view(dOut), true
	w.spread()
}

// queryRows is how many query rows share a product. A tile computes the scores of all keys that its
// last row sees, which are wasted on its earlier rows, so few, but enough to keep products efficient.
const queryRows = 56

// head computes the outputs of rows [from, to), one sequence, for the query heads of a key head.
func (w attentionWork) head(s *attentionScratch, kv, from, to int) {
	n := to - from
	v := w.v.at(from, kv*w.dim)
	s.keys.repack(true, n, w.dim, w.k.at(from, kv*w.dim).data, w.k.stride)
	s.values.repack(false, w.dim, n, v.data, v.stride)
	rows := queryRows
	if !allFinite(s.values.data) {
		rows = 1 // the zeros of a shared product would spread NaN to rows that do not see it
	}
	for h := kv * w.share; h < (kv+1)*w.share; h++ {
		for first := 0; first < n; first += rows {
			count := min(rows, n-first)
			q, out := w.q.at(from+first, h*w.dim), w.out.at(from+first, h*w.dim)
			columns := first + count
			w.probabilities(s, q, first, count)
			p := product{m: count, n: w.dim, k: columns, a: s.scores, rowStride: columns, stepStride: 1, c: out.data, ldc: out.stride}
			p.usePacked(&s.values)
			p.share()
		}
	}
}

// probabilities fills s.scores with the attention of rows [first, first+count) of a sequence, 0 for keys
// that a row does not see.
func (w attentionWork) probabilities(s *attentionScratch, q matrix, first, count int) {
	columns := first + count
	s.scores = grown(s.scores, count*columns)
	p := product{m: count, n: columns, k: w.dim, a: q.data, rowStride: q.stride, stepStride: 1, c: s.scores, ldc: columns}
	p.usePacked(&s.keys)
	p.share()
	for i := range count {
		row := s.scores[i*columns : (i+1)*columns]
		visible := first + i + 1
		SoftmaxScaled(row[:visible], w.scale)
		clear(row[visible:])
	}
}

// allFinite reports whether no value is infinite or not a number.
func allFinite(x []float32) bool {
	square := SquaredNorm(x)
	return square-square == 0
}

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
	for h := kv * w.share; h < (kv+1)*w.share; h++ {
		for first := 0; first < n; first += queryRows {
			count := min(queryRows, n-first)
			columns := first + count
			q, dq := w.q.at(from+first, h*d), w.dq.at(from+first, h*d)
			out, dOut := w.out.at(from+first, h*d), w.dOut.at(from+first, h*d)
			w.probabilities(s, q, first, count)
			addTransposed(columns, d, count, matrix{s.scores, columns}, dOut, dv)
			s.dScores = grown(s.dScores, count*columns)
			p := product{m: count, n: columns, k: d, a: dOut.data, rowStride: dOut.stride, stepStride: 1, c: s.dScores, ldc: columns}
			p.usePacked(&s.valueColumns)
			p.share()
			for i := range count {
				visible := first + i + 1
				row := s.dScores[i*columns : (i+1)*columns]
				SoftmaxBackward(row[:visible], s.scores[i*columns:i*columns+visible], Dot(dOut.row(i, d), out.row(i, d)), w.scale)
				clear(row[visible:])
			}
			p = product{m: count, n: d, k: columns, a: s.dScores, rowStride: columns, stepStride: 1, c: dq.data, ldc: dq.stride}
			p.usePacked(&s.keyRows)
			p.share()
			addTransposed(columns, d, count, matrix{s.dScores, columns}, q, dk)
		}
	}
}
