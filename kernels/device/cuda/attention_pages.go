package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

// rowShare is the most query heads of a key head that the attention of single rows takes.
const rowShare = 8

// pagesWork is one call of AttendPages.
type pagesWork struct {
	out, q operand
	pages  *pages
	layer  int
	share  int
	scale  float32
	at     *device.Placement
	on     placed
}

// AttendPages is Attend of the placed rows over the pages of their sequences. Sequences of a single row, which is what
// decoding has, are computed part by part: by the exact mode's kernels where memory for that is left, since the bits are the
// same, and by the fast ones always. What company a row has, and with whom it shares pages, changes no bit.
func (d *Device) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	const name = "AttendPages"
	c := d.cache(name, p)
	device.CheckAttendPages(out, q, c, layer, heads, at)
	w := pagesWork{out: d.operand(name, out), q: d.operand(name, q), pages: c, layer: layer, share: heads / c.shape.KVHeads, scale: scale, at: at}
	if at.Rows() == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	w.on = d.placement(name, at)
	attendRows, attendTiles := d.attendRows, d.attendTiles
	if w.fast(d) {
		attendRows, attendTiles = d.attendRowsFast, d.attendTilesFast
	}
	alone := w.on.ones > 0 && attendRows(w)
	if !alone || w.on.others > 0 {
		attendTiles(w, alone)
	}
}

// fours reports whether four elements can be read at once. Pages begin at multiples of 16 bytes if their heads do.
func (w pagesWork) fours() int32 {
	return inFours(w.pages.shape.Dim, w.q, operand{at: w.pages.memory.address, t: w.q.t})
}

// attendTiles computes all sequences, or those of more than one row.
func (d *Device) attendTiles(w pagesWork, skipOnes bool) {
	shape, size := w.pages.shape, w.q.t.Size()
	a := attendArgs{
		out: w.out.at, q: w.q.at, k: w.pages.layer(w.layer), v: w.pages.layer(w.layer) + pointer(w.pages.half()*size),
		offsets: w.on.offsets, cached: w.on.cached, starts: w.on.starts, tables: w.on.tables,
		outStride: int64(w.out.stride), qStride: int64(w.q.stride), kStride: int64(shape.Dim), vStride: int64(shape.Dim),
		head: int64(2 * w.pages.half()), page: int64(w.pages.page()),
		sequences: int32(w.at.Sequences()), share: int32(w.share), dim: int32(shape.Dim), fours: w.fours(), scale: w.scale,
	}
	if skipOnes {
		a.skipOnes = 1
	}
	launch(d, wide("attend", shape.Dim, w.q.t), attentionGrid(w.at.Rows(), w.at.Sequences(), w.share, shape.KVHeads), attentionThreads, a)
}

type attendRowArgs struct {
	parts, q, k, v                               pointer
	offsets, cached, starts, partsBefore, tables pointer
	qStride, head, page                          int64
	sequences, keyHeads, share, dim              int32
	fours                                        int32
	scale                                        float32
}

type attendJoinArgs struct {
	out, parts, offsets, partsBefore pointer
	outStride                        int64
	sequences, heads, dim            int32
	_                                int32
}

// attendRows computes the sequences of a single row. It reports false, and has done nothing, when no memory is left for
// the parts, or too many query heads share a key head.
func (d *Device) attendRows(w pagesWork) bool {
	if w.share > rowShare {
		return false
	}
	shape, size, n := w.pages.shape, w.q.t.Size(), w.at.Sequences()
	heads := shape.KVHeads * w.share
	parts, err := d.reserve(device.ForWorkspace, 4*int64(w.on.parts)*int64(heads)*int64(shape.Dim+2))
	if err != nil {
		return false
	}
	launch(d, "attend_row"+suffix(w.q.t), grid{w.on.parts, shape.KVHeads, 1}, attentionThreads, attendRowArgs{
		parts: parts.address, q: w.q.at, k: w.pages.layer(w.layer), v: w.pages.layer(w.layer) + pointer(w.pages.half()*size),
		offsets: w.on.offsets, cached: w.on.cached, starts: w.on.starts, partsBefore: w.on.partsBefore, tables: w.on.tables,
		qStride: int64(w.q.stride), head: int64(2 * w.pages.half()), page: int64(w.pages.page()),
		sequences: int32(n), keyHeads: int32(shape.KVHeads), share: int32(w.share), dim: int32(shape.Dim), fours: w.fours(), scale: w.scale,
	})
	launch(d, "attend_join"+suffix(w.q.t), grid{n, heads, 1}, attentionThreads, attendJoinArgs{
		out: w.out.at, parts: parts.address, offsets: w.on.offsets, partsBefore: w.on.partsBefore,
		outStride: int64(w.out.stride), sequences: int32(n), heads: int32(heads), dim: int32(shape.Dim),
	})
	d.give(parts)
	return true
}
