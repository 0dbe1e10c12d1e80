package devicetest

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// KeptWidth implements [device.Attention].
func (*Reference) KeptWidth(device.DType, int) int { return 0 }

// Attend implements [device.Attention].
func (*Reference) Attend(out device.Rows, a device.Attended) {
	host := hostAttended("Attend", a)
	needRows("Attend", "out", out, a.Offsets.Rows(), a.Heads*a.Dim, a.Q.Data.DType())
	store(out, a.Offsets.Rows(), a.Heads*a.Dim, attend(host).value)
}

// AttendBack implements [device.Attention].
func (*Reference) AttendBack(dq, dk, dv, dOut, out device.Rows, a device.Attended) {
	host := hostAttended("AttendBack", a)
	rows := a.Offsets.Rows()
	wideRow, narrowRow := a.Heads*a.Dim, a.KVHeads*a.Dim
	needRows("AttendBack", "dq", dq, rows, wideRow, a.Q.Data.DType())
	needRows("AttendBack", "dk", dk, rows, narrowRow, a.Q.Data.DType())
	needRows("AttendBack", "dv", dv, rows, narrowRow, a.Q.Data.DType())
	needRows("AttendBack", "dOut", dOut, rows, wideRow, a.Q.Data.DType())
	needRows("AttendBack", "out", out, rows, wideRow, a.Q.Data.DType())
	q, k, v := attendBack(load(dOut, rows, wideRow), host)
	store(dq, rows, wideRow, q.value)
	store(dk, rows, narrowRow, k.value)
	store(dv, rows, narrowRow, v.value)
}

func hostAttended(operation string, a device.Attended) attended {
	if a.Heads <= 0 || a.KVHeads <= 0 || a.Heads%a.KVHeads != 0 || a.Dim <= 0 {
		panic(fmt.Sprintf("device: %s: %d heads of %d elements over %d key heads", operation, a.Heads, a.Dim, a.KVHeads))
	}
	rows := a.Offsets.Rows()
	needRows(operation, "Q", a.Q, rows, a.Heads*a.Dim, activation()...)
	needRows(operation, "K", a.K, rows, a.KVHeads*a.Dim, a.Q.Data.DType())
	needRows(operation, "V", a.V, rows, a.KVHeads*a.Dim, a.Q.Data.DType())
	return attended{q: load(a.Q, rows, a.Heads*a.Dim), k: load(a.K, rows, a.KVHeads*a.Dim), v: load(a.V, rows, a.KVHeads*a.Dim),
		offsets: a.Offsets.Host, heads: a.Heads, kvHeads: a.KVHeads, dim: a.Dim, scale: float64(a.Scale)}
}

// referencePages hold, for each page, layer and position, the keys and then the values of all heads.
type referencePages struct {
	shape device.PageShape
	rows  []float64
}

// Shape implements [device.Pages].
func (p *referencePages) Shape() device.PageShape { return p.shape }

// row is where the keys of a position stand; the values follow.
func (p *referencePages) row(page int32, layer, slot int) []float64 {
	width := 2 * p.shape.KVHeads * p.shape.Dim
	return p.rows[((int(page)*p.shape.Layers+layer)*device.PageTokens+slot)*width:][:width]
}

// NewPages implements [device.Cache].
func (r *Reference) NewPages(shape device.PageShape) (device.Pages, error) {
	if !slices.Contains(activation(), shape.DType) || shape.Layers <= 0 || shape.KVHeads <= 0 || shape.Dim <= 0 || shape.Pages <= 0 {
		panic(fmt.Sprintf("device: NewPages: %+v", shape))
	}
	r.hold(shape.Bytes() * int64(shape.Pages))
	return &referencePages{shape: shape, rows: make([]float64, shape.Bytes()/int64(shape.DType.Size())*int64(shape.Pages))}, nil
}

// FreePages implements [device.Cache].
func (r *Reference) FreePages(p device.Pages) {
	if pages, ok := p.(*referencePages); ok {
		r.hold(-pages.shape.Bytes() * int64(pages.shape.Pages))
	}
}

// Place implements [device.Cache].
func (*Reference) Place(at *device.Placement) { device.CheckPlace(at) }

func needPlacement(operation string, at *device.Placement) {
	n := at.Sequences()
	if len(at.Cached) != n || len(at.Tables) != n {
		panic(fmt.Sprintf("device: %s: %d sequences, %d cached lengths, %d page tables", operation, n, len(at.Cached), len(at.Tables)))
	}
	for s := range n {
		end := int(at.Cached[s] + at.Offsets[s+1] - at.Offsets[s])
		if len(at.Tables[s])*device.PageTokens < end {
			panic(fmt.Sprintf("device: %s: sequence %d has %d pages for %d positions", operation, s, len(at.Tables[s]), end))
		}
	}
}

// WritePages implements [device.Cache].
func (*Reference) WritePages(p device.Pages, layer int, k, v device.Rows, at *device.Placement) {
	pages := p.(*referencePages)
	rows, width := placed("WritePages", pages, layer, at), pages.shape.KVHeads*pages.shape.Dim
	needRows("WritePages", "k", k, rows, width, pages.shape.DType)
	needRows("WritePages", "v", v, rows, width, pages.shape.DType)
	for s := range at.Sequences() {
		for row := at.Offsets[s]; row < at.Offsets[s+1]; row++ {
			position := int(at.Cached[s] + row - at.Offsets[s])
			dst := pages.row(at.Tables[s][position/device.PageTokens], layer, position%device.PageTokens)
			copy(dst[:width], load(k.From(int(row)), 1, width))
			copy(dst[width:], load(v.From(int(row)), 1, width))
		}
	}
}

// placed checks what WritePages and AttendPages have in common and returns the number of rows.
func placed(operation string, pages *referencePages, layer int, at *device.Placement) int {
	if layer < 0 || layer >= pages.shape.Layers {
		panic(fmt.Sprintf("device: %s: layer %d of %d", operation, layer, pages.shape.Layers))
	}
	needPlacement(operation, at)
	for s, table := range at.Tables {
		for _, page := range table {
			if page < 0 || int(page) >= pages.shape.Pages {
				panic(fmt.Sprintf("device: %s: sequence %d has page %d of %d", operation, s, page, pages.shape.Pages))
			}
		}
	}
	return int(at.Offsets[len(at.Offsets)-1])
}

// AttendPages implements [device.Cache].
func (*Reference) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	pages := p.(*referencePages)
	rows, kvHeads, dim := placed("AttendPages", pages, layer, at), pages.shape.KVHeads, pages.shape.Dim
	if heads <= 0 || heads%kvHeads != 0 {
		panic(fmt.Sprintf("device: AttendPages: %d heads over %d key heads", heads, kvHeads))
	}
	needRows("AttendPages", "out", out, rows, heads*dim, pages.shape.DType)
	needRows("AttendPages", "q", q, rows, heads*dim, pages.shape.DType)
	for s := range at.Sequences() {
		first, n, cached := int(at.Offsets[s]), int(at.Offsets[s+1]-at.Offsets[s]), int(at.Cached[s])
		if n == 0 {
			continue
		}
		// The sequence as a whole; the cached rows ask for nothing.
		a := attended{q: make([]float64, cached*heads*dim), offsets: []int32{0, int32(cached + n)}, heads: heads, kvHeads: kvHeads, dim: dim, scale: float64(scale)}
		a.q = append(a.q, load(q.From(first), n, heads*dim)...)
		for position := range cached + n {
			row := pages.row(at.Tables[s][position/device.PageTokens], layer, position%device.PageTokens)
			a.k = append(a.k, row[:kvHeads*dim]...)
			a.v = append(a.v, row[kvHeads*dim:]...)
		}
		store(out.From(first), n, heads*dim, attend(a).value[cached*heads*dim:])
	}
}

// CopyPage implements [device.Cache].
func (*Reference) CopyPage(p device.Pages, dst, src int) {
	pages := p.(*referencePages)
	if dst < 0 || src < 0 || dst >= pages.shape.Pages || src >= pages.shape.Pages {
		panic(fmt.Sprintf("device: CopyPage: from %d to %d of %d pages", src, dst, pages.shape.Pages))
	}
	size := int(pages.shape.Bytes()) / pages.shape.DType.Size()
	copy(pages.rows[dst*size:][:size], pages.rows[src*size:][:size])
}
