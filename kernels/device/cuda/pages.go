package cuda

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// pages is a cache: for each layer, page and key head PageTokens positions of keys, and then of values.
type pages struct {
	shape  device.PageShape
	memory *block
}

// Shape is what the cache was made with.
func (p *pages) Shape() device.PageShape { return p.shape }

// half is the elements of the keys, or the values, of a page, layer and key head; page those of a page in a layer.
func (p *pages) half() int { return p.shape.Dim * device.PageTokens }
func (p *pages) page() int { return 2 * p.half() * p.shape.KVHeads }

// layer is the address of a layer's first page.
func (p *pages) layer(layer int) pointer {
	return p.memory.address + pointer(layer*p.shape.Pages*p.page()*p.shape.DType.Size())
}

// NewPages allocates the pages of a cache.
func (d *Device) NewPages(shape device.PageShape) (device.Pages, error) {
	device.CheckNewPages(shape)
	if err := device.ComputesIn(d, shape.DType); err != nil {
		return nil, fmt.Errorf("cache of %d pages: %w", shape.Pages, err)
	}
	checkHead("NewPages", shape.Dim)
	p := &pages{shape: shape}
	err := d.ask("NewPages", func() {
		var err error
		p.memory, err = d.reserve(device.ForCache, int64(shape.Pages)*shape.Bytes())
		d.fail("NewPages", err)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// FreePages gives the memory of a cache back.
func (d *Device) FreePages(p device.Pages) {
	if p == nil {
		return
	}
	c := d.cache("FreePages", p)
	if !d.enterToFree("FreePages") {
		return
	}
	defer d.leave()
	d.give(c.memory)
}

// cache is the pages behind the interface, which are this device's and have not been freed.
func (d *Device) cache(operation string, p device.Pages) *pages {
	c, ok := p.(*pages)
	switch {
	case !ok:
		panic(fmt.Sprintf("cuda: %s: pages of type %T are not of %s", operation, p, d.name))
	case c.memory.device != d.core:
		panic(fmt.Sprintf("cuda: %s: the pages belong to another device, %s", operation, c.memory.device.name))
	case c.memory.freed.Load():
		panic(fmt.Sprintf("cuda: %s: the pages have been freed", operation))
	}
	return c
}

// CopyPage copies a page in all layers.
func (d *Device) CopyPage(p device.Pages, dst, src int) {
	c := d.cache("CopyPage", p)
	device.CheckCopyPage(c, dst, src)
	if dst == src || !d.enter("CopyPage") {
		return
	}
	defer d.leave()
	words := c.page() * c.shape.DType.Size() / 4 // a page has 32 positions, so that its bytes are whole words
	stride := int64(c.shape.Pages * words)
	launch(d, "copy_rows_4", line(c.shape.Layers), 256, copyRowsArgs{c.memory.address + pointer(4*dst*words), c.memory.address + pointer(4*src*words),
		stride, stride, int32(c.shape.Layers), int32(words)})
}

// A part of attention is a part of a placement.
var _ [device.PartPages * device.PageTokens]struct{} = [attentionPart]struct{}{}

// placed are the addresses of a placement's numbers on the device, which are one after the other. With a capacity, there is
// room between them for as many parts.
type placed struct {
	offsets, cached, starts, partsBefore, tables pointer
	// items and members are for the fast kernels: see item. There is room for as many of each as of parts.
	items, members pointer
	// integers is how many there is room for; parts is how many parts of attention the single rows have, or may have.
	integers, parts int
	// ones are the sequences of a single row, others those of more.
	ones, others int
}

// place says where a placement's numbers are on the device, if they begin at an address.
func (d *Device) place(at *device.Placement, address pointer) placed {
	n, pages := at.Sequences(), at.Capacity*device.PartPages
	p := placed{parts: at.Capacity}
	for i := range n {
		switch rows := at.Offsets[i+1] - at.Offsets[i]; {
		case rows == 1:
			p.ones++
		case rows > 1:
			p.others++
		}
		if at.Capacity == 0 {
			pages += pagesUsed(at, i)
			p.parts += partsOf(at, i)
		}
	}
	next := func(integers int) pointer {
		here := address + pointer(4*p.integers)
		p.integers += integers
		return here
	}
	p.offsets, p.cached, p.starts, p.partsBefore = next(n+1), next(n), next(n), next(n+1)
	if !d.exact {
		p.items, p.members = next(p.parts*itemIntegers), next(p.parts*memberIntegers)
	}
	p.tables = next(pages) // last, so that room that is not used need not be written
	return p
}

// pagesUsed is how many pages a sequence has up to its last new row.
func pagesUsed(at *device.Placement, i int) int {
	return blocks(int(at.Cached[i]+at.Offsets[i+1]-at.Offsets[i]), device.PageTokens)
}

// partsOf is how many parts the attention of a sequence has if it is one of a single row, and else 0.
func partsOf(at *device.Placement, i int) int {
	if at.Offsets[i+1]-at.Offsets[i] != 1 {
		return 0
	}
	return blocks(int(at.Cached[i])+1, attentionPart)
}

// placing is what Place works in.
type placing struct {
	numbers, starts, partsBefore []int32
	grouping
}

// of are what the device has of a placement, in the order of placed. They are valid until the next call.
func (s *placing) of(at *device.Placement, p placed) []int32 {
	n := at.Sequences()
	s.starts, s.partsBefore = append(s.starts[:0], 0), append(s.partsBefore[:0], 0)
	for i := range n {
		s.starts = append(s.starts, s.starts[i]+int32(pagesUsed(at, i)))
		s.partsBefore = append(s.partsBefore, s.partsBefore[i]+int32(partsOf(at, i)))
	}
	all := append(append(s.numbers[:0], at.Offsets...), at.Cached...)
	all = append(append(all, s.starts[:n]...), s.partsBefore...)
	if p.items != 0 {
		s.group(at)
		all = s.grouping.numbers(all, at, p.parts, s.starts, s.partsBefore)
	}
	for i, table := range at.Tables {
		all = append(all, table[:pagesUsed(at, i)]...)
	}
	s.numbers = all
	return all
}

// Place brings a placement's numbers to the device, in one copy.
func (d *Device) Place(at *device.Placement) {
	const name = "Place"
	device.CheckPlace(at)
	d.at(name, at.Device) // it is this device's
	if at.Sequences() == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	need := d.place(at, 0)
	if at.Device.Len() < need.integers {
		if !at.Device.Absent() {
			d.give(d.owned(name, at.Device))
			at.Device = device.Buffer{}
		}
		room := need.integers + need.integers/4 + 64 // sequences grow
		m, err := d.reserve(device.ForWorkspace, 4*int64(room))
		if err != nil {
			d.fail(name, err)
			return
		}
		at.Device = device.NewBuffer(m, device.I32, room)
	}
	d.upload(name, d.at(name, at.Device), bytesOf(d.placing.of(at, need)))
}

// placement is where a placement's numbers are, which Place has brought to the device. The caller holds mu, by enter.
func (d *Device) placement(operation string, at *device.Placement) placed {
	p := d.place(at, d.at(operation, at.Device))
	if at.Device.Len() < p.integers {
		panic(fmt.Sprintf("cuda: %s: the placement has changed since Place, or was never brought to the device", operation))
	}
	return p
}

type writePagesArgs struct {
	pages, k, v                        pointer
	offsets, cached, starts, tables    pointer
	kStride, vStride, page             int64
	sequences, rows, keyHeads, columns int32
}

// WritePages stores the keys and values of the placed rows in a layer's pages.
func (d *Device) WritePages(p device.Pages, layer int, k, v device.Rows, at *device.Placement) {
	const name = "WritePages"
	c := d.cache(name, p)
	device.CheckWritePages(c, layer, k, v, at)
	keys, values, rows := d.operand(name, k), d.operand(name, v), at.Rows()
	if rows == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	on, size := d.placement(name, at), c.shape.DType.Size()
	unit := size // what is copied at once
	if wide := 16 / size; c.shape.Dim%wide == 0 && keys.stride%wide == 0 && values.stride%wide == 0 && (keys.at|values.at)%16 == 0 {
		unit = 16
	}
	units := func(elements int) int { return elements * size / unit }
	launch(d, fmt.Sprintf("write_pages_%d", unit), line(min(rows, 32*d.multiprocessors)), 256, writePagesArgs{
		pages: c.layer(layer), k: keys.at, v: values.at, offsets: on.offsets, cached: on.cached, starts: on.starts, tables: on.tables,
		kStride: int64(units(keys.stride)), vStride: int64(units(values.stride)), page: int64(units(c.page())),
		sequences: int32(at.Sequences()), rows: int32(rows), keyHeads: int32(c.shape.KVHeads), columns: int32(units(c.shape.Dim)),
	})
}
