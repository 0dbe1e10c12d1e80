package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

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

type scatterAddArgs struct {
	table, src, index, status  pointer
	tableStride, srcStride     int64
	rows, width, limit, number int32
}

// searched is how many rows a launch of scatter_add has at most: each looks for its like among them.
const searched = 1024

// ScatterAdd adds row i of src to row index[i] of table, one after the other.
func (d *Device) ScatterAdd(table device.Rows, index device.Buffer, src device.Rows, rows, width int) {
	const name = "ScatterAdd"
	device.CheckScatterAdd(table, index, src, rows, width)
	into, from, numbers := d.operand(name, table), d.operand(name, src), d.at(name, index)
	if rows == 0 || width == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	for lo := 0; lo < rows; lo += searched {
		n := min(searched, rows-lo)
		launch(d, "scatter_add"+suffix(into.t)+suffix(from.t), line(n), 128, scatterAddArgs{into.at, from.from(lo).at, numbers + pointer(4*lo), d.status,
			int64(into.stride), int64(from.stride), int32(n), int32(width), int32(device.TableRows(table, width)), int32(lo)})
	}
}
