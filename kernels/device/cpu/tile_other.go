//go:build !amd64

package cpu

// tile computes rows×columns elements of C over some steps of k.
func (i isa) tile(p *product, row, rows, column, columns, first, steps int, accumulate bool) {
	p.tileGo(row, rows, column, columns, first, steps, accumulate)
}

// readsUnpacked says whether kernels can read a B of n columns where it lies.
func readsUnpacked(n int) bool { return true }

// transposeBlocks does nothing here; it returns the number of values per row done.
func transposeBlocks(dst, src []float32, ld, k int) int { return 0 }

// pause waits a moment.
func pause() {}
