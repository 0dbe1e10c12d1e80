package weights

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"unicode/utf8"
)

// Tensor is one tensor to be written.
type Tensor struct {
	Name  string
	Shape []int
	// Fill sets every element of dst to the tensor's, from the one of index from on in row-major order. It is called
	// with rising, gapless ranges, and its error ends the writing.
	Fill func(from int, dst []float32) error
}

// FromSlice is the Fill of a tensor whose elements lie in memory.
func FromSlice(data []float32) func(from int, dst []float32) error {
	return func(from int, dst []float32) error {
		if from+len(dst) > len(data) {
			return fmt.Errorf("the data have %d elements, %d are asked for", len(data), from+len(dst))
		}
		copy(dst, data[from:])
		return nil
	}
}

// Options say how tensors are written. The zero value writes F32.
type Options struct {
	// DType is the type of the elements in the file; empty means F32. Narrower types are rounded to nearest even.
	DType DType
	// Metadata is text that the header carries; nil means {"format": "pt"}, which Hugging Face's tools insist on, and an
	// empty map means none.
	Metadata map[string]string
	// MaxShardBytes is how many bytes of tensors Save puts into one file, unless a single tensor has more; 0 means
	// DefaultShardBytes. Encode writes one file whatever it is.
	MaxShardBytes int64
	// AllowNonFinite writes infinities and NaNs instead of refusing them. A finite value that DType cannot hold is
	// refused all the same.
	AllowNonFinite bool
}

// DefaultShardBytes is the size of a shard that Hugging Face's tools have long written: 5 GB.
const DefaultShardBytes = 5_000_000_000

// fillElements is how many elements a Fill is asked for at most: 2 MiB, enough that a device does not wait for each.
const fillElements = 1 << 19

// partElements is how many are converted and written at a time.
const partElements = 1 << 16

// planned is a tensor and what it takes in the file.
type planned struct {
	Tensor
	elements int
	bytes    int64
}

// plan checks tensors and options before anything is written.
func plan(tensors []Tensor, o *Options) ([]planned, error) {
	o.DType = cmp.Or(o.DType, F32)
	o.MaxShardBytes = cmp.Or(o.MaxShardBytes, DefaultShardBytes)
	switch {
	case !o.DType.Convertible():
		return nil, fmt.Errorf("dtype %q, expected F32, BF16 or F16", o.DType)
	case o.MaxShardBytes < 0:
		return nil, fmt.Errorf("shards of %d bytes", o.MaxShardBytes)
	case len(tensors) == 0:
		return nil, errors.New("there are no tensors")
	}
	if o.Metadata == nil {
		o.Metadata = map[string]string{"format": "pt"}
	}
	seen := map[string]bool{}
	out := make([]planned, len(tensors))
	total := int64(0)
	for i, t := range tensors {
		n, err := elements(t.Shape)
		bytes := int64(0)
		if err == nil {
			bytes, err = storedBytes(o.DType, t.Shape)
		}
		switch {
		case t.Name == "" || t.Name == metadataName || !utf8.ValidString(t.Name):
			return nil, fmt.Errorf("tensor %d: %q is no name for a tensor", i, t.Name)
		case seen[t.Name]:
			return nil, fmt.Errorf("tensor %s occurs twice", t.Name)
		case err != nil:
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		case bytes > math.MaxInt64-total:
			return nil, fmt.Errorf("tensor %s: together with the others it has more bytes than can be counted", t.Name)
		}
		seen[t.Name] = true
		total += bytes
		out[i] = planned{t, n, bytes}
	}
	return out, nil
}

// Encode writes the tensors, sorted by name, as one safetensors file, and holds no more of them than small buffers. Equal tensors and
// options give equal bytes, those that the reference implementation writes.
func Encode(w io.Writer, tensors []Tensor, o Options) error {
	list, err := plan(tensors, &o)
	if err == nil {
		err = encode(w, list, o)
	}
	if err != nil {
		return fmt.Errorf("encode weights: %w", err)
	}
	return nil
}

func encode(w io.Writer, tensors []planned, o Options) error {
	tensors = slices.SortedFunc(slices.Values(tensors), func(a, b planned) int { return cmp.Compare(a.Name, b.Name) })
	header, err := encodeHeader(tensors, o)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<16)
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(header)))
	out.Write(length[:]) // the writer keeps the first error and Flush returns it
	out.Write(header)
	if err := pour(out, tensors, o); err != nil {
		return err
	}
	return out.Flush()
}

// filled is a piece of a tensor on its way into a file.
type filled struct {
	tensor planned
	from   int
	values []float32
}

// pour writes the elements of the tensors. While a piece is converted and written, the next one is asked for.
func pour(out io.Writer, tensors []planned, o Options) error {
	most := 0
	for _, t := range tensors {
		most = max(most, min(fillElements, t.elements))
	}
	const places = 2
	free, pieces := make(chan []float32, places), make(chan filled, places)
	for range places {
		free <- make([]float32, most)
	}
	var broken error // of the writer, which goes on giving places back
	var writer sync.WaitGroup
	writer.Go(func() {
		buffer := make([]byte, min(most, partElements)*o.DType.size())
		for p := range pieces {
			if broken == nil {
				broken = p.write(out, buffer, o)
			}
			free <- p.values[:most]
		}
	})
	err := fill(tensors, free, pieces)
	close(pieces)
	writer.Wait()
	return cmp.Or(broken, err) // that of an earlier piece, if there is one
}

// fill asks for all pieces in order.
func fill(tensors []planned, free <-chan []float32, pieces chan<- filled) error {
	for _, t := range tensors {
		for from := 0; from < t.elements; from += fillElements {
			values := (<-free)[:min(fillElements, t.elements-from)]
			if err := t.Fill(from, values); err != nil {
				return fmt.Errorf("tensor %s: %w", t.Name, err)
			}
			pieces <- filled{t, from, values}
		}
	}
	return nil
}

// write converts the piece and writes it, part by part while a part is in the cache.
func (p filled) write(out io.Writer, buffer []byte, o Options) error {
	for len(p.values) > 0 {
		part := p
		part.values = p.values[:min(partElements, len(p.values))]
		stored := buffer[:len(part.values)*o.DType.size()]
		if err := part.narrow(stored, o); err != nil {
			return fmt.Errorf("tensor %s: %w", p.tensor.Name, err)
		}
		if _, err := out.Write(stored); err != nil {
			return err
		}
		p.from, p.values = p.from+len(part.values), p.values[len(part.values):]
	}
	return nil
}

func (p filled) narrow(stored []byte, o Options) error {
	if narrow(stored, p.values, o.DType) {
		return nil
	}
	for i, v := range p.values {
		if isFinite(v) {
			if o.DType == F16 && F16FromFloat32(v)&0x7c00 == 0x7c00 || o.DType == BF16 && BF16FromFloat32(v)&0x7f80 == 0x7f80 {
				return fmt.Errorf("element %d is %v, which is infinite in %s: save as a wider type", p.from+i, v, o.DType)
			}
		} else if !o.AllowNonFinite {
			return fmt.Errorf("element %d is %v, expected a finite number", p.from+i, v)
		}
	}
	return nil
}

// encodeHeader writes the header that belongs to tensors in this order.
func encodeHeader(tensors []planned, o Options) ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	if len(o.Metadata) > 0 {
		fmt.Fprintf(&out, "%s:{", quoted(metadataName))
		for i, key := range slices.Sorted(maps.Keys(o.Metadata)) {
			if i > 0 {
				out.WriteByte(',')
			}
			fmt.Fprintf(&out, "%s:%s", quoted(key), quoted(o.Metadata[key]))
		}
		out.WriteByte('}')
	}
	offset := int64(0)
	for _, t := range tensors {
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, `%s:{"dtype":%s,"shape":[`, quoted(t.Name), quoted(string(o.DType)))
		for i, d := range t.Shape {
			if i > 0 {
				out.WriteByte(',')
			}
			fmt.Fprint(&out, d)
		}
		fmt.Fprintf(&out, `],"data_offsets":[%d,%d]}`, offset, offset+t.bytes)
		offset += t.bytes
	}
	out.WriteByte('}')
	for out.Len()%8 != 0 { // so that the data are aligned
		out.WriteByte(' ')
	}
	if out.Len() > maxHeaderBytes {
		return nil, fmt.Errorf("a header of %d bytes, the format allows %d: there are too many tensors or too much metadata", out.Len(), maxHeaderBytes)
	}
	return out.Bytes(), nil
}

// quoted is a JSON string with nothing escaped that need not be.
func quoted(s string) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s) // strings always encode
	return string(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
}
