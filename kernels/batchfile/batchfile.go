// Package batchfile is the form of a loss's input on disk: turnwise.batch/v1, one JSON object a batch. A
// [Reader] takes one object, written over as many lines as one likes, or several after one another (JSON
// Lines); [Write] writes one line.
//
// Reading is strict, so that a mistake is an error with line and field and never a number: a field that is
// unknown, there twice or of another kind, streams of different lengths, a value that is no finite number
// where sampled is 1. Where sampled is 0 values do not matter: null, any number, and the words NaN, Infinity
// and -Infinity that some programs write are all read.
package batchfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// Schema names the format; every batch carries it.
const Schema = "turnwise.batch/v1"

// maxBytes bounds an input, so that one that is no batch at all fails instead of filling memory.
const maxBytes = 1 << 30

// Batch is one batch of a file.
type Batch struct {
	kernels.Batch[float64]
	// HasVersion is true when the batch says the current policy's version.
	HasVersion bool
	// Line is where the batch begins in its input, counted from 1.
	Line int
}

// FillClipHigh gives the sequences that have no upper clip bound of their own, which are NaN in ClipHigh,
// the program's. It does nothing when no sequence has one.
func (b *Batch) FillClipHigh(bound float64) {
	for i, own := range b.ClipHigh {
		if math.IsNaN(own) {
			b.ClipHigh[i] = bound
		}
	}
}

// Reader reads batches one after another. It is used by one goroutine.
type Reader struct {
	in     io.Reader
	name   string
	read   bool
	parser parser
	err    error
}

// NewReader reads batches from r. name stands for r in errors: a file's name, or "stdin".
func NewReader(r io.Reader, name string) *Reader { return &Reader{in: r, name: name} }

// Next returns the next batch, and [io.EOF] after the last. Any other error names the input, the line and
// the field; every further call returns it again.
//
// Required are schema and sequences, and logprobs and sampled of each sequence. A stream that is missing or
// null in every sequence is nil in the batch; one that only some sequences have is an error, except that
// loss_weights are 1, ce_weights and reference_kl_weights 0 and clip_high NaN where they are not given.
func (r *Reader) Next() (Batch, error) {
	if r.err != nil {
		return Batch{}, r.err
	}
	if !r.read {
		r.read = true
		data, err := io.ReadAll(io.LimitReader(r.in, maxBytes+1))
		if err == nil && len(data) > maxBytes {
			err = fmt.Errorf("more than %d bytes: split the batches", maxBytes)
		}
		if err != nil {
			r.err = fmt.Errorf("%s: %w", r.name, err)
			return Batch{}, r.err
		}
		r.parser.data = data
	}
	if r.parser.space(); r.parser.pos == len(r.parser.data) {
		r.err = io.EOF
		return Batch{}, r.err
	}
	line := r.parser.line(r.parser.pos)
	b, err := r.parser.batch()
	if err != nil {
		var place *placeError
		if errors.As(err, &place) {
			line = r.parser.line(place.offset)
		}
		r.err = fmt.Errorf("%s:%d: %w", r.name, line, err)
		return Batch{}, r.err
	}
	b.Line = line
	return b, nil
}

// placeError is an error at a place of the input.
type placeError struct {
	offset  int
	message string
}

func (e *placeError) Error() string { return e.message }

func fail(offset int, format string, args ...any) error {
	return &placeError{offset, fmt.Sprintf(format, args...)}
}

// line is the line of an offset, counted from 1.
func (p *parser) line(offset int) int { return 1 + bytes.Count(p.data[:offset], []byte("\n")) }
