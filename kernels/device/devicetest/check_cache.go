package devicetest

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// decoding feeds sequences to a cache of several layers, chunk by chunk, and collects what AttendPages
// makes of them.
type decoding struct {
	c     *check
	what  string
	pages device.Pages
	// layers hold the operands of each layer; all have the same offsets.
	layers []attention
	tables [][]int32
	cached []int32
	// out is what has been computed so far, for each layer, as packed rows.
	out [][]float32
}

// layered draws operands of several layers for the same sequences, with queries and keys of a size.
func (c *check) layered(shape [3]int, offsets []int32, size float64) []attention {
	const layers = 2
	var all []attention
	for range layers {
		a := attention{heads: shape[0], kvHeads: shape[1], dim: shape[2], scale: 0.3, offsets: offsets}
		c.fillAttention(&a, size)
		all = append(all, a)
	}
	return all
}

// newDecoding makes a cache whose every number is NaN: contents are unspecified until written.
func (c *check) newDecoding(layers []attention, tables [][]int32, pages int) *decoding {
	a := layers[0]
	shape := device.PageShape{DType: c.dtype, Layers: len(layers), KVHeads: a.kvHeads, Dim: a.dim, Pages: pages}
	p, err := c.device.NewPages(shape)
	c.must(err)
	d := &decoding{c: c, what: a.what, pages: p, layers: layers, tables: tables, cached: make([]int32, len(tables))}
	for range layers {
		out := make([]float32, a.rows()*a.heads*a.dim)
		for i := range out {
			out[i] = poison
		}
		d.out = append(d.out, out)
	}
	for page := range pages {
		at := &device.Placement{Offsets: []int32{0, device.PageTokens}, Cached: []int32{0}, Tables: [][]int32{{int32(page)}}}
		c.device.Place(at)
		for layer := range layers {
			s := c.scene(uint64(page), "%s, page %d of layer %d written with NaN", d.what, page, layer)
			k, v := s.lay("k", c.dtype, nil, device.PageTokens, a.kvHeads*a.dim, poison), s.lay("v", c.dtype, nil, device.PageTokens, a.kvHeads*a.dim, poison)
			c.device.WritePages(p, layer, k.matrix(), v.matrix(), at)
			s.finish()
		}
		c.device.Free(at.Device)
	}
	return d
}

// pass feeds the next rows of some sequences, in the order given.
func (d *decoding) pass(sequences []int, chunks []int) {
	at := &device.Placement{Offsets: []int32{0}}
	for i, s := range sequences {
		at.Offsets = append(at.Offsets, at.Offsets[i]+int32(chunks[i]))
		at.Cached = append(at.Cached, d.cached[s])
		at.Tables = append(at.Tables, d.tables[s])
	}
	if at.Rows()%2 == 0 { // room for more changes nothing
		at.Capacity = at.Parts() + at.Rows()%3
	}
	d.c.device.Place(at)
	for layer, a := range d.layers {
		d.layerPass(layer, a, sequences, at)
	}
	for i, s := range sequences {
		d.cached[s] += int32(chunks[i])
	}
	d.c.device.Free(at.Device)
}

func (d *decoding) layerPass(layer int, a attention, sequences []int, at *device.Placement) {
	c, qw, kw := d.c, a.heads*a.dim, a.kvHeads*a.dim
	var q, k, v []float32
	for i, sequence := range sequences {
		lo := int(a.offsets[sequence] + at.Cached[i])
		hi := lo + int(at.Offsets[i+1]-at.Offsets[i])
		q, k, v = append(q, part(a.q, lo, hi, qw)...), append(k, part(a.k, lo, hi, kw)...), append(v, part(a.v, lo, hi, kw)...)
	}
	n := int(at.Offsets[len(at.Offsets)-1])
	s := c.scene(uint64(layer)+uint64(n)<<8, "%s, layer %d, new rows %v behind %v", d.what, layer, at.Offsets, at.Cached)
	ks, vs, qs, out := s.input("k", k, n, kw), s.input("v", v, n, kw), s.input("q", q, n, qw), s.output("out", n, qw)
	c.device.WritePages(d.pages, layer, ks.matrix(), vs.matrix(), at)
	c.device.AttendPages(out.matrix(), qs.matrix(), d.pages, layer, a.heads, a.scale, at)
	got := out.take()
	c.repeat(s.what, [][]float32{got}, func() [][]float32 {
		again := s.output("out again", n, qw)
		c.device.AttendPages(again.matrix(), qs.matrix(), d.pages, layer, a.heads, a.scale, at)
		return [][]float32{again.take()}
	})
	s.finish()
	for i, sequence := range sequences {
		to := part(d.out[layer], int(a.offsets[sequence]+at.Cached[i]), a.rows(), qw)
		copy(to, part(got, int(at.Offsets[i]), int(at.Offsets[i+1]), qw))
	}
}

// finish compares everything computed with Attend over whole sequences, and gives the cache back.
func (d *decoding) finish() {
	for layer, a := range d.layers {
		d.c.close(fmt.Sprintf("%s: layer %d", d.what, layer), d.c.dtype, d.out[layer], attend(a.host()))
		if !d.c.options.Exact {
			continue
		}
		s := d.c.scene(uint64(layer), "%s, layer %d without a cache", d.what, layer)
		want := d.c.attendOn(s, a)
		s.finish()
		d.c.equal(fmt.Sprintf("%s: layer %d, AttendPages against Attend", d.what, layer), d.out[layer], want)
	}
	d.c.device.FreePages(d.pages)
}

func pagesFor(rows int32) int { return int(rows+device.PageTokens-1) / device.PageTokens }

func checkAttendPages(c *check) {
	c.evenly(func() {
		if !c.even {
			c.attendPages()
		} else if c.dtype == device.BF16 {
			c.attendBorders()
		}
	})
}

// attendBorders is for devices that have code of their own for operands that lie evenly, which takes rows and pages by tiles and
// parts: sequences decode across the ends of pages and of parts, behind many rows at once, and go on by as many rows as tiles have,
// one fewer and one more. Shares are nearly equal, so that a position too many or too few shows.
func (c *check) attendBorders() {
	for i, shape := range [][3]int{{3, 1, 72}, {4, 2, 24}, {7, 1, 120}} {
		if c.options.Quick && i > 0 {
			return
		}
		for _, chunk := range []func(left int) int{
			func(left int) int { return max(min(left, 1), left-4) },
			func(left int) int { return min(left, 31) },
			func(left int) int { return min(left, []int{32, 33, 63, 64, 65, 127, 128, 129}[c.random.IntN(8)]) },
		} {
			offsets := packed(258, 34, 0, 66, 18, 130)
			layers := c.layered(shape, offsets, 0.1)
			tables, pages := c.tables(offsets)
			d := c.newDecoding(layers, tables, pages)
			c.feed(d, chunk)
			d.finish()
		}
	}
}

func (c *check) attendPages() {
	for i, shape := range c.headShapes() {
		for how, chunk := range []func(left int) int{
			func(left int) int { return left },
			func(left int) int { return min(left, []int{0, 1, 1, 2, 5, 31, 32, 33}[c.random.IntN(8)]) },
			func(left int) int { return min(left, 1) },
		} {
			offsets := c.sequences(4, 75)
			if how == 2 {
				offsets = c.sequences(3, 40) // token by token takes many passes
			}
			layers := c.layered(shape, offsets, 1.5)
			tables, pages := c.tables(offsets)
			d := c.newDecoding(layers, tables, pages)
			if c.options.Exact && c.options.Threads != nil {
				c.options.Threads([]int{0, 1, 2, 5}[(i+how)%4])
			}
			c.feed(d, chunk)
			d.finish()
			if c.options.Threads != nil {
				c.options.Threads(0)
			}
		}
	}
}

// tables gives each sequence its pages in random order, some with a page more than they need.
func (c *check) tables(offsets []int32) (tables [][]int32, pages int) {
	for i := range len(offsets) - 1 {
		n := pagesFor(offsets[i+1]-offsets[i]) + i%2
		tables = append(tables, make([]int32, n))
		pages += n
	}
	pages += 2
	order := c.random.Perm(pages)
	for _, table := range tables {
		for j := range table {
			table[j], order = int32(order[0]), order[1:]
		}
	}
	return tables, pages
}

// feed passes all sequences in random company and order.
func (c *check) feed(d *decoding, chunk func(left int) int) {
	offsets := d.layers[0].offsets
	for {
		var sequences, chunks []int
		left := 0
		for _, s := range c.random.Perm(len(d.tables)) {
			n := int(offsets[s+1] - offsets[s] - d.cached[s])
			left += n
			if n == 0 && c.random.IntN(4) > 0 {
				continue
			}
			sequences, chunks = append(sequences, s), append(chunks, chunk(n))
		}
		if left == 0 {
			return
		}
		d.pass(sequences, chunks)
	}
}

// checkCopyPage grows two branches from one history: whole pages are shared, the page that the history
// ends in is copied, and both go on writing behind it.
func checkCopyPage(c *check) {
	histories := []int32{33, 64, 1, 70, 31}
	for i, shape := range c.headShapes() {
		for j, history := range histories {
			if c.options.Quick && j != i%len(histories) {
				continue
			}
			const rest = 37
			n := history + rest
			layers := c.layered(shape, []int32{0, n, 2 * n}, 1.5)
			for layer := range layers {
				a := &layers[layer]
				copy(part(a.k, int(n), int(n+history), a.kvHeads*a.dim), part(a.k, 0, int(history), a.kvHeads*a.dim))
				copy(part(a.v, int(n), int(n+history), a.kvHeads*a.dim), part(a.v, 0, int(history), a.kvHeads*a.dim))
				copy(part(a.q, int(n), int(n+history), a.heads*a.dim), part(a.q, 0, int(history), a.heads*a.dim))
				a.what += fmt.Sprintf(", sharing %d", history)
			}
			each, whole := pagesFor(n), int(history)/device.PageTokens
			order := c.random.Perm(2*each + 1)
			tables := [][]int32{make([]int32, each), make([]int32, each)}
			for j := range each {
				tables[0][j], tables[1][j] = int32(order[2*j]), int32(order[2*j+1])
				if j < whole {
					tables[1][j] = tables[0][j]
				}
			}
			d := c.newDecoding(layers, tables, 2*each+1)
			d.pass([]int{0}, []int{int(history)})
			if int(history)%device.PageTokens != 0 {
				c.device.CopyPage(d.pages, int(tables[1][whole]), int(tables[0][whole]))
			}
			d.cached[1] = history
			for layer, a := range layers {
				copy(part(d.out[layer], int(n), int(n+history), a.heads*a.dim), part(d.out[layer], 0, int(history), a.heads*a.dim))
			}
			c.feed(d, func(left int) int { return min(left, 1+c.random.IntN(20)) })
			d.finish()
		}
	}
}
