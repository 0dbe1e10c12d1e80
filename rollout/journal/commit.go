package journal

import (
	"errors"
	"slices"
)

// commits makes turns durable until the writer is closed and none is left. [Writer.Close] waits for it.
func (w *Writer) commits() {
	defer close(w.done)
	for range w.wake {
		for w.commit() {
			continue
		}
		if w.ended() {
			return
		}
	}
}

func (w *Writer) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed && len(w.waiting) == 0
}

// commit writes and syncs the turns that wait, and says whether there were any.
func (w *Writer) commit() bool {
	batch, results, from := w.writeWaiting()
	if len(batch) == 0 {
		return false
	}
	if slices.Contains(results, nil) { // only this goroutine changes file
		err := w.file.Sync()
		w.settle(from, err)
		for i := range results {
			results[i] = errors.Join(results[i], err)
		}
	}
	for i, c := range batch {
		c.result <- results[i]
	}
	return true
}

// writeWaiting writes the turns that wait. It returns them, what became of each, and where they begin.
func (w *Writer) writeWaiting() (batch []commit, results []error, from int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch, w.waiting = w.waiting, nil
	if len(batch) == 0 {
		return nil, nil, 0
	}
	if w.size >= w.rotateBytes {
		w.rotate()
	}
	results = make([]error, len(batch))
	err := w.mend()
	from = w.size
	var all []byte
	for _, c := range batch {
		all = append(all, c.frame...)
	}
	if err == nil {
		err = w.append(all)
	}
	for i := range batch {
		switch {
		case err == nil: // all of them are written
		case len(batch) == 1:
			results[i] = err
		default:
			results[i] = w.append(batch[i].frame) // some may fit where all do not
		}
	}
	w.syncing = slices.Contains(results, nil)
	return batch, results, from
}

// settle ends a sync of what was written from an offset on. When it failed, the turns are taken back: their
// callers will be told that they are not recorded.
func (w *Writer) settle(from int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.size, w.torn, w.owed = from, true, w.since
		_ = w.mend() // what cannot be mended yet is mended before the next entry
	}
	w.syncing, w.since = false, nil
}

// rotate goes on in the next file. Where it cannot be made the writer stays with the old one, which is
// only larger than need be. mu is held and nothing is being synced.
func (w *Writer) rotate() {
	if w.mend() != nil || w.file.Sync() != nil {
		return
	}
	var next file
	err := claim(w.dir, func() (err error) {
		next, err = w.create(part{w.tenure, w.number + 1})
		return err
	})
	if err != nil {
		return
	}
	_ = w.file.Close() // synced
	w.file, w.size, w.number = next, int64(headBytes), w.number+1
}
