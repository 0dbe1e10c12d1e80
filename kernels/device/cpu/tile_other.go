//go:build !amd64

package cpu

// tile computes rows×columns elements of C over some steps of k.
func (i isa) tile(p *product, row, rows, column, columns, first, steps int, accumulate bool) {
	p.tileGo(row, rows, column, columns, first, steps, accumulate)
}

// readsUnpacked says whether kernels can read a B of n columns where it lies.
func readsUnpacked(n int) bool { return true }

// transposeBlocks does nothing here, and says so.
func transposeBlocks(dst, src []float32, ld, k, rows int) (done, steps int) { return 0, 0 }

// pause waits a moment.
func pause() {}

// scoresPages does nothing here, and says so.
func (i isa) scoresPages(scores []float32, ldScores int, q []float32, ldQ, m int, h PagesOfHead) bool {
	return false
}

// mixPages does nothing here, and says so.
func (i isa) mixPages(out []float32, ldOut int, p []float32, ldP, m, positions int, h PagesOfHead) bool {
	return false
}
