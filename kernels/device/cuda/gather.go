package cuda

import (
	"math/bits"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

type gatherArgs struct {
	dst, table, index, status pointer
	dstStride, tableStride    int64
	width, limit              int32
}

// Gather copies row index[i] of table to row i of dst.
func (d *Device) Gather(dst, table device.Rows, index device.Buffer, rows, width int) {
	const name = "Gather"
	device.CheckGather(dst, table, index, rows, width)
	into, from, numbers := d.operand(name, dst), d.operand(name, table), d.at(name, index)
	if rows == 0 || width == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	launch(d, "gather"+suffix(from.t)+suffix(into.t), line(rows), 128,
		gatherArgs{into.at, from.at, numbers, d.status, int64(into.stride), int64(from.stride), int32(width), int32(device.TableRows(table, width))})
}

type sortTilesArgs struct {
	index, status, keys, order, counts pointer
	rows, limit, shift, bits           int32
}

type placeTilesArgs struct {
	keys, order, counts, toKeys, toOrder pointer
	rows, shift                          int32
}

type scatterAddArgs struct {
	table, src, keys, order pointer
	tableStride, srcStride  int64
	rows, width, limit      int32
}

// The sizes of gather.cu: rows are sorted by number in tiles of so many, so many bits at a time; numbers with longRows rows and more
// are added by blocks of so many columns, others by blocks of so many.
const (
	tileRows  = 512
	digitBits = 9

	longRows, longThreads, longColumns = 128, 256, 32
	scatterThreads, scatterColumns     = 128, 1024
)

// ScatterAdd adds row i of src to row index[i] of table, one after the other.
func (d *Device) ScatterAdd(table device.Rows, index device.Buffer, src device.Rows, rows, width int) {
	const name = "ScatterAdd"
	device.CheckScatterAdd(table, index, src, rows, width)
	into, from, numbers := d.operand(name, table), d.operand(name, src), d.at(name, index)
	if rows == 0 || width == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	tiles := blocks(rows, tileRows)
	words := 2 * rows
	if tiles > 1 {
		words = 4*rows + tiles<<digitBits
	}
	memory, err := d.reserve(device.ForWorkspace, 4*int64(words))
	if err != nil {
		d.fail(name, err)
		return
	}
	defer d.give(memory)
	limit := device.TableRows(table, width)
	keys, order := d.sorted(memory.address, numbers, rows, limit)
	a := scatterAddArgs{into.at, from.at, keys, order, int64(into.stride), int64(from.stride), int32(rows), int32(width), int32(limit)}
	kernel := "scatter_add" + suffix(into.t) + suffix(from.t)
	launch(d, kernel, grid{rows, blocks(width, scatterColumns), 1}, scatterThreads, a)
	if rows >= longRows {
		launch(d, kernel+"_long", grid{blocks(rows, longRows), blocks(width, longColumns), 1}, longThreads, a)
	}
}

// sorted puts rows into the order of their numbers, which are below a limit, those of one number in ascending order. It returns where
// the numbers and the rows are then, in memory of 2 words a row; of 4 and a count of each digit for each tile where there are several
// tiles. The caller holds mu, by enter.
func (d *Device) sorted(memory, numbers pointer, rows, limit int) (keys, order pointer) {
	tiles, all := blocks(rows, tileRows), max(1, bits.Len(uint(limit))) // limit itself is for those that are no numbers of the table
	at := func(i int) pointer { return memory + pointer(4*i*rows) }
	a := sortTilesArgs{index: numbers, status: d.status, keys: at(0), order: at(1), rows: int32(rows), limit: int32(limit), bits: int32(all)}
	if tiles == 1 {
		launch(d, "sort_tiles", line(1), tileRows, a)
		return a.keys, a.order
	}
	p := placeTilesArgs{toKeys: at(2), toOrder: at(3), counts: at(4), rows: int32(rows)}
	a.counts = p.counts
	for shift := 0; shift < all; shift += digitBits {
		a.shift, a.bits, p.shift = int32(shift), int32(min(digitBits, all-shift)), int32(shift)
		launch(d, "sort_tiles", line(tiles), tileRows, a)
		p.keys, p.order = a.keys, a.order
		launch(d, "place_tiles", line(tiles), tileRows, p)
		a.index, a.keys, a.order, p.toKeys, p.toOrder = 0, p.toKeys, p.toOrder, a.keys, a.order
	}
	return a.keys, a.order
}
