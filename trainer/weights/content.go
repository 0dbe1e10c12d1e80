package weights

import (
	"errors"
	"io"
)

// pieceBytes is how much of a file is looked at in one go: enough to make a call cheap, small enough that a processor's
// cache holds what was just converted. It is a multiple of every element's size.
const pieceBytes = 1 << 20

// content is the bytes of one file.
type content interface {
	io.ReaderAt
	// pieces calls visit with the n bytes from an offset, in order and cut into pieces of at most pieceBytes, all but the
	// last of exactly that size. A piece is valid until visit returns, whose first error ends it.
	pieces(from, n int64, visit func(piece []byte) error) error
	// close gives the file back; nothing else may be called during or after it.
	close() error
}

// streamed is content that is read through a buffer.
type streamed struct {
	io.ReaderAt
	closer io.Closer // nil when the reader is the caller's
}

func (s streamed) pieces(from, n int64, visit func(piece []byte) error) error {
	buffer := make([]byte, min(n, pieceBytes))
	for n > 0 {
		piece := buffer[:min(n, pieceBytes)]
		if err := readFull(s, piece, from); err != nil {
			return err
		}
		if err := visit(piece); err != nil {
			return err
		}
		from += int64(len(piece))
		n -= int64(len(piece))
	}
	return nil
}

func (s streamed) close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

var errClosed = errors.New("the weights are closed")
