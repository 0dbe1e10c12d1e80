//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package weights

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped is a file mapped into memory, read only. The operating system reads pages when they are looked at, and pieces
// gives them back.
type mapped struct {
	data []byte
	// keep leaves pages resident; only the test that shows what giving them back is worth sets it.
	keep bool
}

// openContent maps a file of at least one byte.
func openContent(path string) (content, int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close() // the mapping outlives the descriptor
	size, err := regularSize(file)
	if err != nil {
		return nil, 0, err
	}
	if size == 0 {
		return streamed{ReaderAt: bytes.NewReader(nil)}, 0, nil // an empty file cannot be mapped
	}
	if int64(int(size)) != size {
		return nil, 0, fmt.Errorf("%d bytes do not fit this machine's address space", size)
	}
	data, err := unix.Mmap(int(file.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, 0, fmt.Errorf("map %d bytes: %w", size, err)
	}
	return &mapped{data: data}, size, nil
}

// ReadAt copies; headers are read with it.
func (m *mapped) ReadAt(p []byte, at int64) (n int, err error) {
	defer m.recoverFault(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if at >= int64(len(m.data)) {
		return 0, io.EOF
	}
	if n = copy(p, m.data[at:]); n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (m *mapped) pieces(from, n int64, visit func(piece []byte) error) (err error) {
	defer m.recoverFault(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for n > 0 {
		k := min(n, pieceBytes)
		if err := visit(m.data[from : from+k : from+k]); err != nil {
			return err
		}
		m.drop(from, from+k)
		from += k
		n -= k
	}
	return nil
}

// drop gives the pages of a piece back, those it shares with its neighbors too: who looks at one again gets it from the
// operating system's cache. It is a matter of memory alone, so that failing is not an error.
func (m *mapped) drop(from, to int64) {
	if m.keep {
		return
	}
	from -= from % int64(os.Getpagesize())
	_ = unix.Madvise(m.data[from:to], unix.MADV_DONTNEED)
}

// errShrunk says that somebody cut a file while it was mapped.
var errShrunk = errors.New("the file became shorter while it was open: load again when nobody writes to it")

// recoverFault turns the fault that looking behind a file's end raises into an error. Other panics go on.
func (m *mapped) recoverFault(err *error) {
	switch fault := recover().(type) {
	case nil:
	case interface{ Addr() uintptr }:
		first := uintptr(unsafe.Pointer(unsafe.SliceData(m.data)))
		if at := fault.Addr(); at < first || at-first >= uintptr(len(m.data)) {
			panic(fault)
		}
		*err = errShrunk
	default:
		panic(fault)
	}
}

func (m *mapped) close() error { return unix.Munmap(m.data) }

// syncFolder makes renames in a folder durable.
func syncFolder(folder string) error {
	file, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
