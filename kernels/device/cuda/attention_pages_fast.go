package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

const (
	// fastRowQueries is how many queries a block of fast_attend_row has, and fastRowSteps how many rows of keys and of values
	// all its warps have in shared memory.
	fastRowQueries, fastRowSteps = 16, 4 * 2 * 16
	log2e                        = 1.4426950408889634
)

type fastRowArgs struct {
	parts, q, pages             pointer
	items, members, tables      pointer
	qStride, page               int64
	keyHeads, share, dim, tiles int32
	scale                       float32
	_                           int32
}

type fastTileArgs struct {
	out, q, pages                   pointer
	offsets, cached, starts, tables pointer
	outStride, qStride, page        int64
	sequences, keyHeads, share, dim int32
	skipOnes, atOnce                int32
	scale                           float32
	_                               int32
}

type fastJoinArgs struct {
	out, parts, offsets, partsBefore pointer
	outStride                        int64
	heads, dim                       int32
}

// fast reports whether the fast kernels compute it.
func (w pagesWork) fast(d *Device) bool {
	dim := w.pages.shape.Dim
	return !d.exact && w.q.t == device.BF16 && dim%fastPiece == 0 && dim <= widestFastHead && w.scale > 0 && inPieces(w.q)
}

// attendRowsFast is attendRows by the fast kernels. Without memory for the parts it fails: the tiles' bits would be others.
func (d *Device) attendRowsFast(w pagesWork) bool {
	shape, n := w.pages.shape, w.at.Sequences()
	heads := shape.KVHeads * w.share
	parts, err := d.reserve(device.ForWorkspace, 4*int64(w.on.parts)*int64(heads)*int64(shape.Dim+2))
	if err != nil {
		d.fail("AttendPages", err)
		return true
	}
	defer d.give(parts)
	tiles := blocks(mostMembers*w.share, fastRowQueries)
	name, size := sizedFast("fast_attend_row", shape.Dim)
	shared := max(2*(fastRowQueries+fastRowSteps)*size, 4*4*fastRowQueries*(size+8))
	launchShared(d, name, grid{w.on.parts * tiles, shape.KVHeads, 1}, attentionThreads, shared, fastRowArgs{
		parts: parts.address, q: w.q.at, pages: w.pages.layer(w.layer), items: w.on.items, members: w.on.members, tables: w.on.tables,
		qStride: int64(w.q.stride), page: int64(w.pages.page()),
		keyHeads: int32(shape.KVHeads), share: int32(w.share), dim: int32(shape.Dim), tiles: int32(tiles), scale: w.scale * log2e,
	})
	launch(d, "fast_attend_join", grid{n, heads, 1}, attentionThreads, fastJoinArgs{
		out: w.out.at, parts: parts.address, offsets: w.on.offsets, partsBefore: w.on.partsBefore,
		outStride: int64(w.out.stride), heads: int32(heads), dim: int32(shape.Dim),
	})
	return true
}

// attendTilesFast is attendTiles by the fast kernels.
func (d *Device) attendTilesFast(w pagesWork, skipOnes bool) {
	shape, n := w.pages.shape, w.at.Sequences()
	a := fastTileArgs{
		out: w.out.at, q: w.q.at, pages: w.pages.layer(w.layer), offsets: w.on.offsets, cached: w.on.cached, starts: w.on.starts, tables: w.on.tables,
		outStride: int64(w.out.stride), qStride: int64(w.q.stride), page: int64(w.pages.page()),
		sequences: int32(n), keyHeads: int32(shape.KVHeads), share: int32(w.share), dim: int32(shape.Dim), scale: w.scale * log2e,
	}
	if skipOnes {
		a.skipOnes = 1
	}
	if inPieces(w.out) {
		a.atOnce = 1
	}
	name, size := sizedFast("fast_attend_tile", shape.Dim)
	launchShared(d, name, fastGrid(w.at.Rows(), w.share, fastQueries, n, shape.KVHeads), attentionThreads, 2*(fastQueries+4*64)*size, a)
}
