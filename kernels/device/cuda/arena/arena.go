// Package arena hands out a device's memory again without asking its driver, which takes long and waits for the device.
//
// Large pieces are whole blocks of the driver's, in steps of 2 MiB; small ones, up to 1 MiB, share blocks of 2 MiB in
// which all have the same size, a power of two. A large block is never split: blocks in use then never keep a
// cached one from going back to the driver, and there is no fragmentation to cure. The price is that a cached
// block serves requests of nearly its own size alone, down to eight ninths of it.
//
// An arena never holds more than the most that was in use at once: beyond that, cached blocks go back, the longest
// unused first. What other processes on the device can get does not depend on how sizes vary.
//
// A piece that was given back may be handed out at once, while work queued before still uses it. That is right where all work
// is done in one order, that of a single stream. Package arena knows no device, takes no lock, and writes no memory.
package arena

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
)

// Source is where memory comes from. Addresses of different blocks in use never overlap.
type Source interface {
	// Take returns a new block. Its error is final for this size unless memory is given back before.
	Take(bytes int64) (address uint64, err error)
	// Give takes a block back, after everything that uses it.
	Give(address uint64) error
}

const (
	// BlockBytes is the step of large blocks, in which drivers hand out memory, and the size of shared ones.
	BlockBytes = 2 << 20
	// smallest is the least size of a piece: any element type and any vector load is aligned in it.
	smallest = 512
	// shared is the largest size that shares a block.
	shared = BlockBytes / 2
)

// Arena is what has been taken from a source. It is not for several goroutines at once.
type Arena struct {
	source Source
	pieces map[uint64]*block // what is handed out, by its address
	// partial are shared blocks with free pieces, by class.
	partial [12][]*block
	// cached are blocks that nobody uses, in the order in which they were given back.
	cached []*block
	// used and most are bytes of blocks in use, now and at most so far; free those of the cached.
	used, most, free int64
	// held keeps everything that was taken: see Hold.
	held bool
	// separate takes and gives back each piece by itself.
	separate bool
}

// block is one of the source's.
type block struct {
	address uint64
	bytes   int64
	// class, for a shared block, is the size of its pieces; 0 is a large one.
	class int64
	open  []uint64 // pieces of a shared block that were given back
	fresh int64    // where the pieces begin that were never handed out
	count int      // its pieces in use
}

// New is an arena without memory. A separate one shares and caches nothing: each piece is a block of the source's, of
// just its size.
func New(s Source, separate bool) *Arena {
	return &Arena{source: s, pieces: map[uint64]*block{}, separate: separate}
}

// Taken is what was taken from the source and not given back, in bytes.
func (a *Arena) Taken() int64 { return a.used + a.free }

// Cached is how much of it would go back by Trim.
func (a *Arena) Cached() int64 { return a.free }

// Take hands out a piece of at least so many bytes, aligned to 512 of them; its contents are whatever was there before. When the source has
// no more, cached blocks go back to it and it is asked again. The error is the source's.
func (a *Arena) Take(bytes int64) (address uint64, err error) {
	if bytes < 0 {
		panic(fmt.Sprintf("arena: want at least 0 bytes, got %d", bytes))
	}
	if bytes > shared || a.separate {
		if !a.separate {
			bytes = (bytes + BlockBytes - 1) / BlockBytes * BlockBytes
		}
		b, err := a.block(bytes)
		if err != nil {
			return 0, err
		}
		a.pieces[b.address] = b
		return b.address, nil
	}
	class := classOf(bytes)
	partial := &a.partial[class]
	if len(*partial) == 0 {
		b, err := a.block(BlockBytes)
		if err != nil {
			return 0, err
		}
		b.class = smallest << class
		*partial = append(*partial, b)
	}
	b := (*partial)[len(*partial)-1]
	address = b.piece()
	if b.full() {
		*partial = (*partial)[:len(*partial)-1]
	}
	a.pieces[address] = b
	return address, nil
}

// piece is a free piece of a shared block, which has one.
func (b *block) piece() (address uint64) {
	b.count++
	if last := len(b.open) - 1; last >= 0 {
		address, b.open = b.open[last], b.open[:last]
		return address
	}
	address = b.address + uint64(b.fresh)
	b.fresh += b.class
	return address
}

// full reports whether a shared block has no free piece.
func (b *block) full() bool { return len(b.open) == 0 && b.fresh == b.bytes }

// classOf is the class whose pieces are the least that hold so many bytes.
func classOf(n int64) int { return bits.Len64(uint64(max(n, smallest)-1) / smallest) }

// block is a block for use: a cached one, or a new one.
func (a *Arena) block(n int64) (*block, error) {
	b := a.reuse(n)
	if b == nil {
		b = &block{bytes: n}
		err := a.makeRoom(n)
		if err == nil {
			b.address, err = a.source.Take(n)
		}
		if err != nil && len(a.cached) > 0 && !a.held {
			if trimmed := a.Trim(); trimmed != nil {
				return nil, errors.Join(err, trimmed)
			}
			b.address, err = a.source.Take(n)
		}
		if err != nil {
			return nil, err
		}
	}
	a.used += b.bytes
	a.most = max(a.most, a.used)
	return b, nil
}

// reuse takes the smallest cached block that holds n bytes and wastes at most an eighth of them, the last given
// back of several; nil when there is none.
func (a *Arena) reuse(n int64) *block {
	best := -1
	for i, b := range a.cached {
		if b.bytes >= n && b.bytes-n <= n/8 && (best < 0 || b.bytes <= a.cached[best].bytes) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	b := a.cached[best]
	a.cached = slices.Delete(a.cached, best, best+1)
	a.free -= b.bytes
	return b
}

// makeRoom gives cached blocks back, the longest unused first, until n more bytes are within the most that was in
// use, or will be then.
func (a *Arena) makeRoom(n int64) error {
	for a.free > 0 && a.used+n+a.free > max(a.most, a.used+n) && !a.held {
		if err := a.drop(); err != nil {
			return err
		}
	}
	return nil
}

// drop gives the cached block that is unused for longest back.
func (a *Arena) drop() error {
	b := a.cached[0]
	a.cached = a.cached[1:]
	a.free -= b.bytes
	return a.source.Give(b.address)
}

// Give takes a piece back, by its address. The error is the source's.
func (a *Arena) Give(address uint64) error {
	b, ok := a.pieces[address]
	if !ok {
		panic(fmt.Sprintf("arena: nothing was handed out at %#x", address))
	}
	delete(a.pieces, address)
	if b.class > 0 {
		partial := &a.partial[classOf(b.class)]
		if b.full() {
			*partial = append(*partial, b)
		}
		b.open = append(b.open, address)
		if b.count--; b.count > 0 {
			return nil
		}
		*partial = slices.DeleteFunc(*partial, func(p *block) bool { return p == b })
		b.class, b.open, b.fresh = 0, nil, 0
	}
	a.used -= b.bytes
	a.free += b.bytes
	a.cached = append(a.cached, b)
	if a.separate && !a.held {
		return a.Trim()
	}
	return nil
}

// Trim gives all cached blocks back to the source.
func (a *Arena) Trim() error {
	for len(a.cached) > 0 {
		if err := a.drop(); err != nil {
			return err
		}
	}
	return nil
}

// Hold says whether everything is kept for now: nothing goes back to the source, not even when it has no more.
func (a *Arena) Hold(everything bool) { a.held = everything }

// Close gives everything back to the source, what is handed out too. It returns the first error, and tries all.
func (a *Arena) Close() error {
	var first error
	keep := func(err error) {
		if first == nil {
			first = err
		}
	}
	blocks := map[uint64]*block{}
	for _, b := range a.pieces {
		blocks[b.address] = b
	}
	a.pieces, a.partial, a.used = map[uint64]*block{}, [12][]*block{}, 0
	for _, b := range slices.SortedFunc(maps.Values(blocks), func(x, y *block) int { return cmp.Compare(x.address, y.address) }) {
		keep(a.source.Give(b.address))
	}
	for len(a.cached) > 0 {
		keep(a.drop())
	}
	return first
}
