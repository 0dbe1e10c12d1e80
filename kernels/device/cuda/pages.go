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

// placed are the addresses of a placement's numbers on the device, which are one after the other.
type placed struct {
	offsets, cached, starts, partsBefore, tables pointer
	// integers is how many there are in all; parts is how many parts of attention the single rows have.
	integers, parts int
	// ones are the sequences of a single row, others those of more.
	ones, others int
}

// place says where a placement's numbers are on the device, if they begin at an address.
func place(at *device.Placement, address pointer) placed {
	n := at.Sequences()
	p := placed{integers: 4*n + 2}
	p.offsets = address
	p.cached = p.offsets + pointer(4*(n+1))
	p.starts = p.cached + pointer(4*n)
	p.partsBefore = p.starts + pointer(4*n)
	p.tables = p.partsBefore + pointer(4*(n+1))
	for i := range n {
		rows := at.Offsets[i+1] - at.Offsets[i]
		p.integers += pagesUsed(at, i)
		p.parts += partsOf(at, i)
		switch {
		case rows == 1:
			p.ones++
		case rows > 1:
			p.others++
		}
	}
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

// numbers are what the device has of a placement, in the order of placed.
func numbers(at *device.Placement, p placed) []int32 {
	n := at.Sequences()
	all := make([]int32, 0, p.integers)
	all = append(append(all, at.Offsets...), at.Cached...)
	start, parts := int32(0), int32(0)
	for i := range n {
		all = append(all, start)
		start += int32(pagesUsed(at, i))
	}
	for i := range n {
		all = append(all, parts)
		parts += int32(partsOf(at, i))
	}
	all = append(all, parts)
	for i, table := range at.Tables {
		all = append(all, table[:pagesUsed(at, i)]...)
	}
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
	need := place(at, 0)
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
	d.upload(name, d.at(name, at.Device), bytesOf(numbers(at, need)))
}

// placement is where a placement's numbers are, which Place has brought to the device. The caller holds mu, by enter.
func (d *Device) placement(operation string, at *device.Placement) placed {
	p := place(at, d.at(operation, at.Device))
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
	keys, values, rows := d.operand(name, k), d.operand(name, v), placedRows(at)
	if rows == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	on := d.placement(name, at)
	launch(d, fmt.Sprintf("write_pages_%d", c.shape.DType.Size()), line(min(rows, 32*d.multiprocessors)), 256, writePagesArgs{
		pages: c.layer(layer), k: keys.at, v: values.at, offsets: on.offsets, cached: on.cached, starts: on.starts, tables: on.tables,
		kStride: int64(keys.stride), vStride: int64(values.stride), page: int64(c.page()),
		sequences: int32(at.Sequences()), rows: int32(rows), keyHeads: int32(c.shape.KVHeads), columns: int32(c.shape.Dim),
	})
}

// placedRows is how many new rows a placement has.
func placedRows(at *device.Placement) int {
	if at.Sequences() == 0 {
		return 0
	}
	return int(at.Offsets[at.Sequences()])
}
