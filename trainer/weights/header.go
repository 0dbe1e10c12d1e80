package weights

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
)

// A safetensors file is eight bytes of header length, little endian; the header, a JSON object from names to dtype, shape
// and offsets, with white space behind it; and the data, row by row, little endian.

// maxHeaderBytes is the reference implementation's limit on the header.
const maxHeaderBytes = 100_000_000

// metadataName is the header's member that is not a tensor.
const metadataName = "__metadata__"

// entry is one tensor of a header.
type entry struct {
	name  string
	dtype DType
	shape []int
	// start and end are offsets into the data, in bytes.
	start, end int64
}

// header is what a file says of itself, checked against its size.
type header struct {
	// metadata is nil when the file has none.
	metadata map[string]string
	// entries are ordered by offset and cover the data exactly once.
	entries []entry
	// data is where the data begin in the file.
	data int64
}

// readHeader parses and checks the header of a file of so many bytes: the tensors together cover the data exactly, and
// each has the bytes that its shape says.
func readHeader(r io.ReaderAt, size int64) (header, error) {
	var prefix [8]byte
	if size < int64(len(prefix)) {
		return header{}, fmt.Errorf("the file has %d bytes, expected at least 8: it is truncated or not safetensors", size)
	}
	if err := readFull(r, prefix[:], 0); err != nil {
		return header{}, err
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if string(prefix[:]) == "version " {
		return header{}, errors.New("is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`")
	}
	if length > maxHeaderBytes {
		return header{}, fmt.Errorf("announces a header of %d bytes, the format allows %d: it is not safetensors", length, maxHeaderBytes)
	}
	if rest := size - int64(len(prefix)); int64(length) > rest {
		return header{}, fmt.Errorf("announces a header of %d bytes, %d follow: it is truncated or not safetensors", length, rest)
	}
	text := make([]byte, length)
	if err := readFull(r, text, int64(len(prefix))); err != nil {
		return header{}, err
	}
	h, err := parseHeader(text, size-int64(len(prefix))-int64(length))
	h.data = int64(len(prefix)) + int64(length)
	return h, err
}

func readFull(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(p), at, err)
}

// parseHeader parses the header's text; size is that of the data behind it.
func parseHeader(text []byte, size int64) (header, error) {
	if len(text) == 0 || text[0] != '{' {
		return header{}, fmt.Errorf("header: begins with %q, expected {: it is not safetensors", clip(text))
	}
	members, err := decodeObject(text)
	if err != nil {
		return header{}, fmt.Errorf("header: %w", err)
	}
	var h header
	for _, m := range members {
		if m.name == metadataName {
			if h.metadata, err = decodeStrings(m.value); err != nil {
				return header{}, fmt.Errorf("header: %s: %w", metadataName, err)
			}
			continue
		}
		e, err := parseEntry(m, size)
		if err != nil {
			return header{}, fmt.Errorf("tensor %s: %w", m.name, err)
		}
		h.entries = append(h.entries, e)
	}
	slices.SortStableFunc(h.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end), cmp.Compare(a.name, b.name))
	})
	return h, checkCover(h.entries, size)
}

// checkCover compares the tensors, ordered by offset, with the data.
func checkCover(entries []entry, size int64) error {
	at, before := int64(0), "the header"
	for _, e := range entries {
		switch {
		case e.start < at:
			return fmt.Errorf("tensor %s: starts at byte %d of the data, inside %s, which ends at %d", e.name, e.start, before, at)
		case e.start > at:
			return fmt.Errorf("tensor %s: starts at byte %d of the data, expected %d: %d bytes behind %s belong to no tensor",
				e.name, e.start, at, e.start-at, before)
		}
		at, before = e.end, "tensor "+e.name
	}
	if at != size {
		return fmt.Errorf("the tensors need %d bytes of data, the file has %d: it is not what was written", at, size)
	}
	return nil
}

// parseEntry parses one tensor's member; size is that of the data.
func parseEntry(m member, size int64) (entry, error) {
	e := entry{name: m.name}
	if e.name == "" {
		return e, errors.New("the name is empty")
	}
	fields, err := decodeObject(m.value)
	if err != nil {
		return e, err
	}
	found := map[string]bool{}
	var offsets []int64
	for _, f := range fields {
		found[f.name] = true
		switch f.name {
		case "dtype":
			var name string
			name, err = decodeString(f.value)
			e.dtype = DType(name)
		case "shape":
			var shape []int64
			shape, err = decodeWhole(f.value, strconv.IntSize)
			e.shape = make([]int, len(shape))
			for i, d := range shape {
				e.shape[i] = int(d)
			}
		case "data_offsets":
			offsets, err = decodeWhole(f.value, 64)
		default:
			return e, fmt.Errorf("unknown field %q, expected dtype, shape and data_offsets", f.name)
		}
		if err != nil {
			return e, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for _, name := range []string{"dtype", "shape", "data_offsets"} {
		if !found[name] {
			return e, fmt.Errorf("%s is missing", name)
		}
	}
	return e, e.place(offsets, size)
}

// place checks dtype, shape and offsets against each other and the size of the data.
func (e *entry) place(offsets []int64, size int64) error {
	if widths[e.dtype] == 0 {
		return fmt.Errorf("dtype %q is unknown, expected one of %s", e.dtype, knownDTypes())
	}
	if len(offsets) != 2 {
		return fmt.Errorf("data_offsets: %d numbers, expected begin and end", len(offsets))
	}
	e.start, e.end = offsets[0], offsets[1]
	if e.end < e.start {
		return fmt.Errorf("data_offsets: ends at %d, before its begin %d", e.end, e.start)
	}
	if e.end > size {
		return fmt.Errorf("data_offsets: ends at byte %d of the data, the file has %d: it is truncated", e.end, size)
	}
	need, err := storedBytes(e.dtype, e.shape)
	if err != nil {
		return err
	}
	if need != e.end-e.start {
		return fmt.Errorf("shape %v of %s needs %d bytes, data_offsets %d to %d hold %d", e.shape, e.dtype, need, e.start, e.end, e.end-e.start)
	}
	return nil
}
