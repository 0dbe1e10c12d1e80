package graph

import "slices"

// worker is the scratch memory of one goroutine.
type worker[T element] struct {
	// memory has a block for each slot of a stage; views are the slots' present blocks.
	memory []T
	views  [][]T
	// gathered is a block of a stream that no step reads.
	gathered []T
	sums     []float64
}

// region runs the steps of a stage over all tokens, tile by tile on several goroutines.
func (r *run[T]) region(s *stage[T]) {
	if len(s.steps) == 0 && len(r.unchecked) == 0 {
		return
	}
	r.unread = r.unread[:0]
	for _, stream := range r.unchecked {
		if !slices.ContainsFunc(s.slots, func(slot slot) bool { return slot.kind == slotInput && &r.streams[slot.of][0] == &stream[0] }) {
			r.unread = append(r.unread, stream)
		}
	}
	r.partial = resized(r.partial, r.tiles*len(s.totals))
	kernel := kernelsOf[T]()
	inTiles(r.threads, r.tiles, func(worker, tile int) {
		w := r.workers[worker]
		w.memory = resized(w.memory, len(s.slots)*blockSize)
		w.views = resized(w.views, len(s.slots))
		w.sums = resized(w.sums, len(s.totals))
		clear(w.sums)
		for i, slot := range s.slots {
			if slot.kind == slotSingle {
				fill(w.memory[i*blockSize:(i+1)*blockSize], r.cells[slot.of])
			}
		}
		for from := tile * tileSize; from < min((tile+1)*tileSize, r.layout.tokens); from += blockSize {
			n := min(blockSize, r.layout.tokens-from)
			r.check(w, from, n, kernel)
			r.block(s, w, from, n, kernel)
		}
		copy(r.partial[tile*len(s.totals):], w.sums)
	})
}

// check looks for values that are not finite at tokens from … from+n of the streams that no step reads.
func (r *run[T]) check(w *worker[T], from, n int, kernel rowKernels[T]) {
	for _, stream := range r.unread {
		var block []T
		if r.layout.contiguous(from, n) {
			block = stream[r.layout.position(int32(from)):][:n]
		} else {
			w.gathered = resized(w.gathered, blockSize)
			block = w.gathered[:n]
			gather(r.layout, block, stream, from)
		}
		if !kernel.finite(block) {
			r.infinite.Store(true)
		}
	}
}

// block takes tokens from … from+n through the steps of a stage.
func (r *run[T]) block(s *stage[T], w *worker[T], from, n int, kernel rowKernels[T]) {
	together, at := r.layout.contiguous(from, n), int(r.layout.position(int32(from)))
	for i, slot := range s.slots {
		view := w.memory[i*blockSize : i*blockSize+n]
		switch slot.kind {
		case slotInput:
			switch {
			case !r.scattered[slot.of]:
				view = r.streams[slot.of][from : from+n]
			case together:
				view = r.streams[slot.of][at : at+n]
			default:
				gather(r.layout, view, r.streams[slot.of], from)
			}
			if len(r.unchecked) > 0 && r.fromBatch[slot.of] && !kernel.finite(view) {
				r.infinite.Store(true)
			}
		case slotBuffer:
			view = r.buffers[slot.of][from : from+n]
		case slotResult:
			if together {
				view = r.results[slot.of][at : at+n]
			}
		}
		w.views[i] = view
	}
	for i := range s.steps {
		step := &s.steps[i]
		a := w.views[step.a]
		if step.total >= 0 {
			w.sums[step.total] += kernel.sum(a)
			continue
		}
		var b []T // stays nil for operations of one operand
		if step.b >= 0 {
			b = w.views[step.b]
		}
		kernel.elementwise(step.code, w.views[step.out], a, b, step.c0, step.c1)
	}
	if together {
		return
	}
	for i, slot := range s.slots {
		if slot.kind == slotResult {
			scatter(r.layout, r.results[slot.of], w.views[i], from)
		}
	}
}
