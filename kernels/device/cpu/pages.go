package cpu

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// pages is a cache. A page holds, for each layer and key head, the keys transposed, Dim × PageTokens,
// which is a packed panel of the product with queries; and behind them the values, PageTokens × Dim.
type pages struct {
	owner *Device
	shape device.PageShape
	data  []float32
	block int // elements of the keys, or the values, of one page, layer and key head
	bytes int64
	freed bool
}

// A page is one panel of the kernels.
var _ [device.PageTokens]struct{} = [PagePositions]struct{}{}

// Shape is what the cache was made with.
func (p *pages) Shape() device.PageShape { return p.shape }

// NewPages allocates the pages of a cache.
func (d *Device) NewPages(shape device.PageShape) (device.Pages, error) {
	device.CheckNewPages(shape)
	if err := device.ComputesIn(d, shape.DType); err != nil {
		return nil, fmt.Errorf("cache of %d pages: %w", shape.Pages, err)
	}
	p := &pages{owner: d, shape: shape, block: shape.Dim * device.PageTokens, bytes: int64(shape.Pages) * shape.Bytes()}
	if err := d.reserve(device.ForCache, p.bytes); err != nil {
		return nil, err
	}
	p.data = alignedFloats(int(p.bytes / 4))
	return p, nil
}

// cachePages are the pages behind the interface, which have not been freed.
func cachePages(operation string, p device.Pages) *pages {
	c, ok := p.(*pages)
	if !ok {
		panic(fmt.Sprintf("device: %s: pages of type %T are not of %s", operation, p, name))
	}
	if c.freed {
		panic(fmt.Sprintf("device: %s: the pages have been freed", operation))
	}
	return c
}

// FreePages gives the memory of a cache back.
func (d *Device) FreePages(p device.Pages) {
	if p == nil {
		return
	}
	c := cachePages("FreePages", p)
	if c.owner != d {
		panic("device: FreePages: the pages belong to another device of the same name")
	}
	c.data, c.freed = nil, true
	d.account.release(device.ForCache, c.bytes)
}

// head is the keys, or the values, of a key head in a layer.
func (p *pages) head(layer, kv int, values bool, table []int32) PagesOfHead {
	stride := p.shape.KVHeads * 2 * p.block
	from := layer*p.shape.Pages*stride + kv*2*p.block
	if values {
		from += p.block
	}
	return PagesOfHead{Pool: p.data[from:], Stride: stride, Numbers: table, HeadDim: p.shape.Dim}
}

// page is all that a page holds in a layer.
func (p *pages) page(layer int, number int32) []float32 {
	stride := p.shape.KVHeads * 2 * p.block
	return p.data[(layer*p.shape.Pages+int(number))*stride:][:stride]
}

// Place checks the placement; the processor reads the host's numbers.
func (d *Device) Place(at *device.Placement) { device.CheckPlace(at) }

// WritePages stores the keys and values of the placed rows in a layer's pages.
func (d *Device) WritePages(p device.Pages, layer int, k, v device.Rows, at *device.Placement) {
	c := cachePages("WritePages", p)
	device.CheckWritePages(c, layer, k, v, at)
	keys, values, dim := view(k), view(v), c.shape.Dim
	for i := range at.Sequences() {
		for row := int(at.Offsets[i]); row < int(at.Offsets[i+1]); row++ {
			position := int(at.Cached[i]) + row - int(at.Offsets[i])
			page, slot := at.Tables[i][position/device.PageTokens], position%device.PageTokens
			for kv := range c.shape.KVHeads {
				into := c.page(layer, page)[kv*2*c.block:]
				for e, x := range keys.at(row, kv*dim).data[:dim] {
					into[e*device.PageTokens+slot] = x
				}
				copy(into[c.block+slot*dim:], values.at(row, kv*dim).data[:dim])
			}
		}
	}
}

// CopyPage copies a page in all layers.
func (d *Device) CopyPage(p device.Pages, dst, src int) {
	c := cachePages("CopyPage", p)
	device.CheckCopyPage(c, dst, src)
	if dst == src {
		return
	}
	for layer := range c.shape.Layers {
		copy(c.page(layer, int32(dst)), c.page(layer, int32(src)))
	}
}

// pagesWork is attention over pages by key heads of sequences, in the order of attentionWork.
type pagesWork struct {
	device *Device
	q, out matrix
	pages  *pages
	layer  int
	share  int
	scale  float32
	at     *device.Placement
}

// AttendPages is Attend of the placed rows over the pages of their sequences.
func (d *Device) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	c := cachePages("AttendPages", p)
	device.CheckAttendPages(out, q, c, layer, heads, at)
	items := at.Sequences() * c.shape.KVHeads
	if items == 0 || at.Offsets[at.Sequences()] == 0 {
		return
	}
	w := pagesWork{device: d, q: view(q), out: view(out), pages: c, layer: layer, share: heads / c.shape.KVHeads, scale: scale, at: at}
	if w.operations() < sharedOperations || alone() {
		w.run(0, items)
		return
	}
	d.spreads.pages.run(w, items, 1)
}

// operations is about how many multiply-adds there are to do.
func (w pagesWork) operations() (total int) {
	for i, cached := range w.at.Cached {
		rows := int(w.at.Offsets[i+1] - w.at.Offsets[i])
		total += rows * (int(cached) + rows)
	}
	return total * 2 * w.share * w.pages.shape.KVHeads * w.pages.shape.Dim
}

// farBytes is how much all layers of a pass read of a cache that is too large to stay near the core. On a core
// with 1 MiB of its own, the instructions that fetch cost attention 5 % at 2.6 MB, between products with 3 MB
// of weights, and save 25 % at 3.9 MB, between products with 19 MB.
const farBytes = 7 << 19

// far reports whether the keys and values of a pass come from far away. It decides about time only.
func (w pagesWork) far() bool {
	return w.operations()/w.share*4*w.pages.shape.Layers > farBytes
}

func (w pagesWork) run(lo, hi int) {
	s := w.device.attention.take()
	defer w.device.attention.give(s)
	kvHeads, dim, far := w.pages.shape.KVHeads, w.pages.shape.Dim, w.far()
	for i := lo; i < hi; i++ {
		sequence, kv := i/kvHeads, i%kvHeads
		from, to := int(w.at.Offsets[sequence]), int(w.at.Offsets[sequence+1])
		cached, table := int(w.at.Cached[sequence]), w.at.Tables[sequence]
		t := pagesTile{keys: w.pages.head(w.layer, kv, false, table), values: w.pages.head(w.layer, kv, true, table), scale: w.scale}
		column := kv * w.share * dim
		if to-from == 1 { // the query heads that share keys are the rows of one product
			t.rows, t.visible = w.share, cached+1
			t.q, t.out = w.q.at(from, column), w.out.at(from, column)
			t.q.stride, t.out.stride = dim, dim
			if i+1 < hi && kv+1 < kvHeads {
				i++
				t.attendTwo(s, w.pages.block, far, w.keys(i+1, hi))
			} else {
				t.attend(s)
			}
			continue
		}
		rows := running().tileRows()
		if !w.finite(sequence, kv) {
			rows = 1
		}
		t.grow = 1
		for h := range w.share {
			for row := from; row < to; row += rows {
				t.rows, t.visible = min(rows, to-row), cached+row-from+1
				t.q, t.out = w.q.at(row, column+h*dim), w.out.at(row, column+h*dim)
				t.attend(s)
			}
		}
	}
}

// keys are those that item i of the first hi reads; none behind the last.
func (w pagesWork) keys(i, hi int) PagesOfHead {
	if i >= hi {
		return PagesOfHead{}
	}
	sequence, kv := i/w.pages.shape.KVHeads, i%w.pages.shape.KVHeads
	table := w.at.Tables[sequence]
	return w.pages.head(w.layer, kv, false, table[:min(int(w.at.Cached[sequence])/device.PageTokens+1, len(table))])
}

// finite reports whether the values of a sequence's new rows, which the rows of a shared product see the
// zeros of, are all finite.
func (w pagesWork) finite(sequence, kv int) bool {
	dim, at := w.pages.shape.Dim, kv*2*w.pages.block+w.pages.block
	position := int(w.at.Cached[sequence])
	end := position + int(w.at.Offsets[sequence+1]-w.at.Offsets[sequence])
	for position < end {
		slot := position % device.PageTokens
		n := min(device.PageTokens-slot, end-position)
		values := w.pages.page(w.layer, w.at.Tables[sequence][position/device.PageTokens])[at:]
		if !allFinite(values[slot*dim : (slot+n)*dim]) {
			return false
		}
		position += n
	}
	return true
}

// pagesTile is the attention of a few query rows over the pages of a key head.
type pagesTile struct {
	keys, values PagesOfHead
	scale        float32
	rows         int
	visible      int // keys the first row sees
	grow         int // how many more each further row sees: 1 for successive tokens, 0 for heads of one token
	q, out       matrix
}

// attend computes the tile. A score is one chain over the head, whatever the page, and an output is one
// chain over the keys from page to page.
func (t *pagesTile) attend(s *attentionScratch) {
	positions := t.visible + (t.rows-1)*t.grow
	width := t.reach(s, positions, t.rows)
	t.keys.Scores(s.scores, width, t.q.data, t.q.stride, t.rows)
	t.softmax(s.scores, width, t.rows)
	t.values.Mix(t.out.data, t.out.stride, s.scores, width, t.rows, positions)
}

// attendTwo is attend of one token to this key head and the one behind it, whose rows follow, with the same
// bits. Keys and values of a page are block elements apart. Where they are far, it fetches the values
// early, and then the next keys.
func (t *pagesTile) attendTwo(s *attentionScratch, block int, far bool, next PagesOfHead) {
	width, ahead := t.reach(s, t.visible, 2*t.rows), block
	if !far {
		ahead, next = 0, PagesOfHead{}
	}
	twoHeads{t.keys, 2 * block}.scores(s.scores, width, t.q.data, t.q.stride, t.rows, t.visible, ahead)
	t.softmax(s.scores, width, 2*t.rows)
	twoHeads{t.values, 2 * block}.mix(t.out.data, t.out.stride, s.scores, width, t.rows, t.visible, next)
}

// reach takes the pages that hold so many positions, and makes room for the scores of some rows. It returns
// how many scores a row has.
func (t *pagesTile) reach(s *attentionScratch, positions, rows int) (width int) {
	used := (positions + device.PageTokens - 1) / device.PageTokens
	t.keys.Numbers = t.keys.Numbers[:used]
	s.scores = grown(s.scores, rows*used*device.PageTokens)
	return used * device.PageTokens
}

// softmax turns rows of scores into weights: zeros beyond what a row sees.
func (t *pagesTile) softmax(scores []float32, width, rows int) {
	for r := range rows {
		visible := t.visible + r*t.grow
		SoftmaxScaled(scores[r*width:r*width+visible], t.scale)
		clear(scores[r*width+visible : (r+1)*width])
	}
}
