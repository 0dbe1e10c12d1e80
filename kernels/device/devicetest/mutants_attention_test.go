package devicetest

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

func attentionMutants() []mutant {
	r := NewReference
	return []mutant{
		{"Attend", "a row that does not see itself", attendBlind{r()}},
		{"Attend", "sequences that see the one before", attendMerged{r()}},
		{"Attend", "the wrong key heads", attendHeads{r()}},
		{"Attend", "the scale left out", attendScale{r()}},
		{"Attend", "shares that do not add up to one", attendUnnormalised{r()}},
		{"Attend", "bits that depend on the pass", attendCompany{r()}},
		{"Attend", "no largest score subtracted", attendOverflow{r()}},
		{"AttendBack", "the scale left out of dk", attendBackScale{r()}},
		{"AttendBack", "dv added instead of written", attendBackAdded{r()}},
		{"AttendBack", "key heads that hear one query head alone", attendBackHeads{r()}},
		{"AttendBack", "the mean of dP left out", attendBackMean{r()}},
		{"AttendPages", "positions that begin at the new rows", pagesForgetful{r()}},
		{"AttendPages", "one position too many", pagesMore{r()}},
		{"AttendPages", "every sequence with the first one's pages", pagesFirst{r()}},
		{"AttendPages", "one layer for all", pagesLayer{r()}},
		{"AttendPages", "keys and values swapped", pagesSwapped{r()}},
		{"AttendPages", "a chunk that does not see itself", pagesCausal{r()}},
		{"AttendPages", "bits that depend on the chunk", pagesCompany{r()}},
		{"CopyPage", "nothing copied", copyPageNot{r()}},
		{"CopyPage", "one layer copied", copyPageLayer{r()}},
		{"CopyPage", "destination and source swapped", copyPageSwapped{r()}},
	}
}

// rework applies a change to each row of attention, given the reference's.
func rework(d *Reference, out device.Rows, a device.Attended, change func(row, first int, values []float64)) {
	d.Attend(out, a)
	host := hostAttended("Attend", a)
	width := a.Heads * a.Dim
	values := load(out, host.total(), width)
	host.rows(func(row, first int) { change(row, first, part(values, row, row+1, width)) })
	store(out, host.total(), width, values)
}

type attendBlind struct{ *Reference }

func (d attendBlind) Attend(out device.Rows, a device.Attended) {
	host := hostAttended("Attend", a)
	rework(d.Reference, out, a, func(row, first int, values []float64) {
		if row == first {
			return
		}
		for h := range a.Heads { // the query of this row over the keys before it
			above := host.q[host.query(row-1, h):][:a.Dim]
			own := append([]float64(nil), above...)
			copy(above, host.q[host.query(row, h):][:a.Dim])
			p, _ := host.shares(row-1, first, h)
			copy(above, own)
			clear(values[h*a.Dim:][:a.Dim])
			for t, share := range p {
				for j, v := range host.v[host.key(first+t, h):][:a.Dim] {
					values[h*a.Dim+j] += share * v
				}
			}
		}
	})
}

type attendMerged struct{ *Reference }

func (d attendMerged) Attend(out device.Rows, a device.Attended) {
	a.Offsets.Host = []int32{0, int32(a.Offsets.Rows())}
	d.Reference.Attend(out, a)
}

type attendHeads struct{ *Reference }

func (d attendHeads) Attend(out device.Rows, a device.Attended) {
	// Query head h reads key head h mod KVHeads: the same as the contract with the query heads reordered.
	group, n := a.Heads/a.KVHeads, a.Offsets.Rows()
	order := make([]int, a.Heads)
	for h := range order {
		order[h] = h%a.KVHeads*group + h/a.KVHeads
	}
	own, _ := d.Allocate(device.ForWorkspace, device.F32, 2*n*a.Heads*a.Dim)
	defer d.Free(own)
	q, result := device.Dense(own, a.Heads*a.Dim), device.Dense(own, a.Heads*a.Dim).From(n)
	for h, to := range order {
		store(q.Columns(to*a.Dim), n, a.Dim, load(a.Q.Columns(h*a.Dim), n, a.Dim))
	}
	a.Q = q
	d.Reference.Attend(result, a)
	for h, from := range order {
		store(out.Columns(h*a.Dim), n, a.Dim, load(result.Columns(from*a.Dim), n, a.Dim))
	}
}

type attendScale struct{ *Reference }

func (d attendScale) Attend(out device.Rows, a device.Attended) {
	a.Scale = 1
	d.Reference.Attend(out, a)
}

type attendUnnormalised struct{ *Reference }

func (d attendUnnormalised) Attend(out device.Rows, a device.Attended) {
	rework(d.Reference, out, a, func(row, first int, values []float64) {
		for j := range values {
			values[j] *= 1 - 1e-4*float64(row-first)
		}
	})
}

type attendCompany struct{ *Reference }

func (d attendCompany) Attend(out device.Rows, a device.Attended) {
	rework(d.Reference, out, a, func(_, _ int, values []float64) {
		if a.Offsets.Sequences() > 1 {
			values[0] *= 1 + 1.0/(1<<23)
		}
	})
}

type attendOverflow struct{ *Reference }

func (d attendOverflow) Attend(out device.Rows, a device.Attended) {
	host := hostAttended("Attend", a)
	rework(d.Reference, out, a, func(row, first int, values []float64) {
		for h := range a.Heads {
			for t := first; t <= row; t++ {
				score := dot(host.q[host.query(row, h):][:a.Dim], host.k[host.key(t, h):][:a.Dim]) * host.scale
				if math.Exp(score) > math.MaxFloat32 {
					values[h*a.Dim] = math.NaN()
				}
			}
		}
	})
}

type attendBackScale struct{ *Reference }

func (d attendBackScale) AttendBack(dq, dk, dv, dOut, out device.Rows, a device.Attended) {
	d.Reference.AttendBack(dq, dk, dv, dOut, out, a)
	width := a.KVHeads * a.Dim
	values := load(dk, a.Offsets.Rows(), width)
	for i := range values {
		values[i] /= float64(a.Scale)
	}
	store(dk, a.Offsets.Rows(), width, values)
}

type attendBackAdded struct{ *Reference }

func (d attendBackAdded) AttendBack(dq, dk, dv, dOut, out device.Rows, a device.Attended) {
	rows, width := a.Offsets.Rows(), a.KVHeads*a.Dim
	before := load(dv, rows, width)
	d.Reference.AttendBack(dq, dk, dv, dOut, out, a)
	for i, v := range load(dv, rows, width) {
		before[i] += v
	}
	store(dv, rows, width, before)
}

type attendBackHeads struct{ *Reference }

func (d attendBackHeads) AttendBack(dq, dk, dv, dOut, out device.Rows, a device.Attended) {
	rows, width := a.Offsets.Rows(), a.Heads*a.Dim
	d.Reference.AttendBack(dq, dk, dv, dOut, out, a)
	values, own := load(dOut, rows, width), device.Rows{}
	for i := range rows {
		for h := range a.Heads {
			if h%(a.Heads/a.KVHeads) != 0 {
				clear(values[i*width+h*a.Dim:][:a.Dim])
			}
		}
	}
	b, _ := d.Allocate(device.ForWorkspace, device.F32, 2*rows*width)
	defer d.Free(b)
	own = device.Dense(b, width)
	store(own, rows, width, values)
	d.Reference.AttendBack(own.From(rows), dk, dv, own, out, a)
}

type attendBackMean struct{ *Reference }

func (d attendBackMean) AttendBack(dq, dk, dv, dOut, out device.Rows, a device.Attended) {
	d.Reference.AttendBack(dq, dk, dv, dOut, out, a)
	host, rows, width := hostAttended("AttendBack", a), a.Offsets.Rows(), a.Heads*a.Dim
	above, values := load(dOut, rows, width), make([]float64, rows*width)
	host.rows(func(row, first int) {
		for h := range a.Heads {
			p, _ := host.shares(row, first, h)
			for t, share := range p {
				dP := dot(above[host.query(row, h):][:a.Dim], host.v[host.key(first+t, h):][:a.Dim])
				for j := range a.Dim {
					values[host.query(row, h)+j] += share * dP * host.scale * host.k[host.key(first+t, h)+j]
				}
			}
		}
	})
	store(dq, rows, width, values)
}

// changed is a placement with its cached lengths and tables replaced.
func changed(at *device.Placement, change func(sequence int, cached int32, table []int32) (int32, []int32)) *device.Placement {
	own := &device.Placement{Offsets: at.Offsets}
	for s := range at.Sequences() {
		cached, table := change(s, at.Cached[s], at.Tables[s])
		own.Cached, own.Tables = append(own.Cached, cached), append(own.Tables, table)
	}
	return own
}

type pagesForgetful struct{ *Reference }

func (d pagesForgetful) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	d.Reference.AttendPages(out, q, p, layer, heads, scale, changed(at, func(_ int, _ int32, table []int32) (int32, []int32) { return 0, table }))
}

type pagesMore struct{ *Reference }

func (d pagesMore) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	d.Reference.AttendPages(out, q, p, layer, heads, scale, changed(at, func(s int, cached int32, table []int32) (int32, []int32) {
		if end := int(cached + at.Offsets[s+1] - at.Offsets[s]); end < len(table)*device.PageTokens {
			cached++
		}
		return cached, table
	}))
}

type pagesFirst struct{ *Reference }

func (d pagesFirst) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	longest := 0
	for s, table := range at.Tables {
		if len(table) > len(at.Tables[longest]) {
			longest = s
		}
	}
	d.Reference.AttendPages(out, q, p, layer, heads, scale, changed(at, func(_ int, cached int32, _ []int32) (int32, []int32) { return cached, at.Tables[longest] }))
}

type pagesLayer struct{ *Reference }

func (d pagesLayer) WritePages(p device.Pages, _ int, k, v device.Rows, at *device.Placement) {
	d.Reference.WritePages(p, 0, k, v, at)
}

func (d pagesLayer) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	d.Reference.AttendPages(out, q, p, min(layer, 1), heads, scale, at)
}

type pagesSwapped struct{ *Reference }

func (d pagesSwapped) WritePages(p device.Pages, layer int, k, v device.Rows, at *device.Placement) {
	d.Reference.WritePages(p, layer, v, k, at)
}

// pagesCausal writes the last row of a chunk too late.
type pagesCausal struct{ *Reference }

func (d pagesCausal) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	d.Reference.AttendPages(out, q, p, layer, heads, scale, at)
	for s := range at.Sequences() {
		if n := at.Offsets[s+1] - at.Offsets[s]; n > 1 { // the last row repeats what the one before saw
			last := int(at.Offsets[s+1]) - 1
			one := &device.Placement{Offsets: []int32{0, 1}, Cached: []int32{at.Cached[s] + n - 2}, Tables: [][]int32{at.Tables[s]}}
			d.Reference.AttendPages(out.From(last), q.From(last), p, layer, heads, scale, one)
		}
	}
}

type pagesCompany struct{ *Reference }

func (d pagesCompany) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	d.Reference.AttendPages(out, q, p, layer, heads, scale, at)
	if len(at.Cached) > 0 && at.Cached[0] > 0 && at.Offsets[1] > 0 {
		floats(out.Data)[0] = math.Nextafter32(floats(out.Data)[0], 0)
	}
}

type copyPageNot struct{ *Reference }

func (copyPageNot) CopyPage(device.Pages, int, int) {}

type copyPageLayer struct{ *Reference }

func (d copyPageLayer) CopyPage(p device.Pages, dst, src int) {
	pages := p.(*referencePages)
	size := int(pages.shape.Bytes()/4) / pages.shape.Layers
	copy(pages.rows[dst*size*pages.shape.Layers:][:size], pages.rows[src*size*pages.shape.Layers:][:size])
}

type copyPageSwapped struct{ *Reference }

func (d copyPageSwapped) CopyPage(p device.Pages, dst, src int) { d.Reference.CopyPage(p, src, dst) }
