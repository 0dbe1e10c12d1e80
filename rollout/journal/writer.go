package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// ErrClosed is returned by writers that are closed.
var ErrClosed = errors.New("the journal is closed")

// rotateBytes is the size from which a tenure goes on in another file, so that those of settled groups
// can be removed while it lasts: some thousand turns.
const rotateBytes = 8 << 20

// Writer records the turns of one rollout loop. Its methods may be called by many goroutines at once.
// An entry that cannot be written, on a full disk say, is an error to its caller alone: the file is as
// before, and later calls may succeed.
type Writer struct {
	dir         string
	tenure      int
	rotateBytes int64
	// wrap stands between the writer and its files in tests; nil otherwise.
	wrap func(*os.File) file

	wake chan struct{} // of capacity 1: there may be something to commit
	done chan struct{} // closed when the committing goroutine has ended

	mu sync.Mutex // guards what follows
	// file is the part of the given number; size is where its next entry goes. What lies beyond is no part
	// of it and is cut off before anything else is written while torn is set, and then owed is written.
	file   file
	number int
	size   int64
	torn   bool
	owed   []byte
	// waiting are turns that are not written yet. While syncing is set, since is what was written behind
	// the turns that are being synced: it stays when the sync fails and they are taken back.
	waiting []commit
	syncing bool
	since   []byte
	closed  bool
}

// file is what a writer does with a file.
type file interface {
	WriteAt(data []byte, offset int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// commit is a turn on its way to the disk; its caller waits for the result.
type commit struct {
	frame  []byte
	result chan error
}

// Open claims the next free tenure of a folder, which it makes if there is none. Processes that open one
// at the same time get different tenures, and no tenure is given twice.
func Open(dir string) (*Writer, error) { return open(dir, rotateBytes, nil) }

func open(dir string, rotateBytes int64, wrap func(*os.File) file) (*Writer, error) {
	w := &Writer{dir: dir, rotateBytes: rotateBytes, wrap: wrap, wake: make(chan struct{}, 1), done: make(chan struct{}), number: 1}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = claim(dir, func() error {
			parts, err := list(dir)
			if err != nil {
				return err
			}
			w.tenure = 1
			if len(parts) > 0 {
				w.tenure = parts[len(parts)-1].tenure + 1
			}
			w.file, err = w.create(part{w.tenure, 1})
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("claim a tenure in %s: %w", dir, err)
	}
	w.size = int64(headBytes)
	go w.commits()
	return w, nil
}

// create makes a file of the tenure, takes it and makes its name durable. The folder is claimed.
func (w *Writer) create(p part) (file, error) {
	path := filepath.Join(w.dir, p.name())
	made, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	var f file = made
	if w.wrap != nil {
		f = w.wrap(made)
	}
	err = lock(made, syscall.LOCK_EX)
	if err == nil {
		_, err = f.WriteAt(head(), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncFolder(w.dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	return f, nil
}

// Tenure is the writer's number in the run.
func (w *Writer) Tenure() int { return w.tenure }

// Begin records that a turn begins. When it returns nil the record outlives the process, though not the
// machine.
func (w *Writer) Begin(ctx context.Context, begin Begin) error {
	payload, err := encodeBegin(begin)
	return w.note(ctx, begin.Episode, payload, err)
}

// Fail records that an attempt failed, as durably as [Writer.Begin].
func (w *Writer) Fail(ctx context.Context, failed Failed) error {
	payload, err := encodeFailed(failed)
	return w.note(ctx, failed.Episode, payload, err)
}

func (w *Writer) note(ctx context.Context, episode Episode, payload []byte, err error) error {
	if err == nil {
		err = ctx.Err()
	}
	var frame []byte
	if err == nil {
		frame, err = appendFrame(nil, payload)
	}
	if err == nil {
		err = w.write(frame)
	}
	return w.place(episode, err)
}

// write appends an entry that is not synced.
func (w *Writer) write(frame []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	err := w.append(frame)
	if err == nil && w.syncing {
		w.since = append(w.since, frame...)
	}
	return err
}

// place says what an error belongs to.
func (w *Writer) place(episode Episode, err error) error {
	if err != nil {
		err = fmt.Errorf("record %s in tenure %d: %w", episode, w.tenure, err)
	}
	return err
}

// Finish records a finished turn and returns nil when it is durable: it outlives the machine. Turns that
// finish while others are being synced share the next sync. A turn that was handed over is waited for
// whatever becomes of the context, because one that may or may not be recorded could be sampled twice.
func (w *Writer) Finish(ctx context.Context, turn Turn) error {
	payload, err := encodeTurn(turn)
	if err == nil {
		err = ctx.Err()
	}
	c := commit{result: make(chan error, 1)}
	if err == nil {
		c.frame, err = appendFrame(nil, payload)
	}
	if err == nil {
		err = w.hand(c)
	}
	if err == nil {
		err = <-c.result
	}
	return w.place(turn.Episode, err)
}

// hand gives a turn to the committing goroutine.
func (w *Writer) hand(c commit) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	w.waiting = append(w.waiting, c)
	w.signal()
	return nil
}

func (w *Writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// Close waits for the turns that were handed over and ends the tenure.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		<-w.done
		return nil
	}
	w.closed = true
	w.signal()
	w.mu.Unlock()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.file.Sync(), w.file.Close())
}

// append writes behind what is there, whole or not at all. mu is held.
func (w *Writer) append(frames []byte) error {
	if err := w.mend(); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(frames, w.size); err != nil {
		w.torn = true
		return errors.Join(err, w.mend())
	}
	w.size += int64(len(frames))
	return nil
}

// mend cuts off what is no part of the file and writes what it owes. mu is held.
func (w *Writer) mend() error {
	if w.torn {
		if err := w.file.Truncate(w.size); err != nil {
			return err
		}
		w.torn = false
	}
	if len(w.owed) > 0 {
		owed := w.owed
		if _, err := w.file.WriteAt(owed, w.size); err != nil {
			w.torn = true
			return err
		}
		w.owed = nil
		w.size += int64(len(owed))
	}
	return nil
}
