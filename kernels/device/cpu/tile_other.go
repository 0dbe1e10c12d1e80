//go:build !amd64

package cpu

// tile computes rows×columns elements of C over some steps of k. Element at of A is the tile's first.
func (i isa) tile(p *product, at, row, rows, column, columns, first, steps int, accumulate bool) {
	p.tileGo(at, row, rows, column, columns, first, steps, accumulate)
}

// readsUnpacked says whether kernels can read a B of n columns where it lies.
func readsUnpacked(n int) bool { return true }

// transposeBlocks does nothing here, and says so.
func transposeBlocks(dst, src []float32, ld, k, rows int) (done, steps int) { return 0, 0 }

// transposeStrip does nothing here, and says so.
func transposeStrip(dst, src []float32, ld, k int) int { return 0 }

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

// computesHeads says no here.
func (i isa) computesHeads(m, headDim int) bool { return false }

// scoresHeads is never called here; see computesHeads.
func (i isa) scoresHeads(scores []float32, ldScores int, q []float32, ldQ, m, positions, ahead int, h twoHeads) {
}

// mixHeads is never called here; see computesHeads.
func (i isa) mixHeads(out []float32, ldOut int, p []float32, ldP, m, positions int, h twoHeads, next PagesOfHead) {
}
