package cpu

// Work is divided where there are a million multiply-adds, since less is done before another goroutine
// starts; into parts of at least a quarter of that, and several for every goroutine to claim.
const (
	sharedOperations = 1 << 20
	partOperations   = 1 << 18
	partsPerThread   = 4
)

// run computes the product. C is cut into strips of rows and groups of columns; a kernel computes one
// strip of one group. Which strips and groups there are changes no bit of the result.
func (p *product) run() {
	i := running()
	maxRows := i.tileRows()
	strips := (p.m + maxRows - 1) / maxRows
	width := i.groupColumns((p.m + strips - 1) / strips)
	groups := (p.n + width - 1) / width

	operations := float64(p.m) * float64(p.n) * float64(p.k)
	if operations < sharedOperations || Threads() == 1 {
		p.block(i, strips, width, 0, strips, 0, groups)
		return
	}
	parts := int(min(operations/partOperations, float64(Threads()*partsPerThread)))
	rowParts, columnParts := p.divide(parts, strips, groups)
	if j := takeJob(rowParts * columnParts); j != nil {
		j.blocks = blocks{*p, i, strips, width, groups, rowParts, columnParts}
		if j.run(&j.blocks) {
			return
		}
	}
	p.block(i, strips, width, 0, strips, 0, groups)
}

// blocks are the parts of a product: rowParts × columnParts of them, by rows first.
type blocks struct {
	product               product
	isa                   isa
	strips, width, groups int
	rowParts, columnParts int
}

func (b *blocks) part(part, parts int) {
	r, c := part/b.columnParts, part%b.columnParts
	b.product.block(b.isa, b.strips, b.width, r*b.strips/b.rowParts, (r+1)*b.strips/b.rowParts,
		c*b.groups/b.columnParts, (c+1)*b.groups/b.columnParts)
}

// divide cuts C into about so many parts, in the way that reads least: a cut between columns reads A
// once more, a cut between rows B.
func (p *product) divide(parts, strips, groups int) (rowParts, columnParts int) {
	least := 0
	for rows := 1; rows <= min(parts, strips); rows++ {
		columns := min((parts+rows-1)/rows, groups)
		if rows*columns < min(parts, strips*groups)*3/4 {
			continue // too few to keep every thread busy
		}
		if cost := columns*p.m + rows*p.n; rowParts == 0 || cost < least {
			rowParts, columnParts, least = rows, columns, cost
		}
	}
	return max(rowParts, 1), max(columnParts, 1)
}

// rowBlockElements bounds the part of A that is walked again for every group of columns, so that it
// stays in the second-level cache.
const rowBlockElements = 64 << 10

// block computes some strips of some groups.
func (p *product) block(i isa, strips, width, stripLo, stripHi, groupLo, groupHi int) {
	t := *p
	var packed *packedA
	if p.worthPackingA(i, (groupHi-groupLo)*width) {
		packed = packedAs.Get().(*packedA)
		defer packedAs.Put(packed)
		t.rowStride, t.stepStride = 1, packedRows
	}
	first := 0
	for {
		steps := min(p.stepBlock, p.k-first)
		accumulate := p.accumulate || first > 0
		perBlock := max(rowBlockElements/max(steps, 1)/i.tileRows(), 1)
		for s0 := stripLo; s0 < stripHi; s0 += perBlock {
			s1 := min(s0+perBlock, stripHi)
			if packed != nil {
				t.a = packed.fill(p, strips, s0, s1, first, steps)
			}
			for g := groupLo; g < groupHi; g++ {
				j := g * width
				columns := min(width, p.n-j)
				for s := s0; s < s1; s++ {
					lo := s * p.m / strips
					at := p.at(lo, first)
					if packed != nil {
						at = (s - s0) * steps * packedRows
					}
					i.tile(&t, at, lo, (s+1)*p.m/strips-lo, j, columns, first, steps, accumulate)
				}
			}
		}
		if first += steps; first >= p.k {
			return
		}
	}
}

// tileRows is the number of rows of the largest kernel.
func (i isa) tileRows() int {
	switch i {
	case isaAVX512:
		return 14
	case isaAVX2:
		return 6
	default:
		return 4
	}
}

// groupColumns is the number of columns that a kernel of so many rows computes.
func (i isa) groupColumns(rows int) int {
	switch {
	case i == isaAVX512 && rows <= 2:
		return 128
	case i == isaAVX512 && rows <= 4:
		return 64
	case i == isaAVX2 && rows <= 1:
		return 64
	case i == isaAVX2 && rows > 2:
		return 16
	default:
		return 32
	}
}

// tileGo computes one tile: the portable kernel. Products and sums are rounded one after the other on
// every architecture, which the conversion to float32 makes sure of.
func (p *product) tileGo(at, row, rows, column, columns, first, steps int, accumulate bool) {
	for i := row; i < row+rows; i++ {
		j := column
		for ; j+4 <= column+columns; j += 4 {
			c := p.c[i*p.ldc+j : i*p.ldc+j+4 : i*p.ldc+j+4]
			var s0, s1, s2, s3 float32
			if accumulate {
				s0, s1, s2, s3 = c[0], c[1], c[2], c[3]
			}
			at, bt := at+(i-row)*p.rowStride, p.bt(first, j)
			for range steps {
				x, b := p.a[at], p.b[bt:bt+4:bt+4]
				s0 += float32(x * b[0])
				s1 += float32(x * b[1])
				s2 += float32(x * b[2])
				s3 += float32(x * b[3])
				at += p.stepStride
				bt += p.bStep
			}
			c[0], c[1], c[2], c[3] = s0, s1, s2, s3
		}
		for ; j < column+columns; j++ {
			var s float32
			if accumulate {
				s = p.c[i*p.ldc+j]
			}
			at, bt := at+(i-row)*p.rowStride, p.bt(first, j)
			for range steps {
				s += float32(p.a[at] * p.b[bt])
				at += p.stepStride
				bt += p.bStep
			}
			p.c[i*p.ldc+j] = s
		}
	}
}

// at is the place of element (i, step) of A.
func (p *product) at(i, step int) int { return i*p.rowStride + step*p.stepStride }

// bt is the place of element (step, j) of B.
func (p *product) bt(step, j int) int {
	return step*p.bStep + j/panelColumns*p.panelStride + j%panelColumns
}
