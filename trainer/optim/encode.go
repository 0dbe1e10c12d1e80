package optim

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
)

// magic begins an encoded state; the digit is the format's version.
const magic = "turnwise.adamw/1"

// Encode writes the state: the magic, steps, tensor count, then per tensor its name's length, name,
// element count and both moments. Integers are 64-bit and everything is little endian. Equal states
// give equal bytes.
func (o *AdamW) Encode(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<16)
	var word [8]byte
	integer := func(v int) {
		binary.LittleEndian.PutUint64(word[:], uint64(v))
		out.Write(word[:]) // bufio keeps the first error and Flush returns it
	}
	out.WriteString(magic)
	integer(o.steps)
	integer(len(o.tensors))
	for i, t := range o.tensors {
		integer(len(t.Name))
		out.WriteString(t.Name)
		integer(len(t.Data))
		for _, moments := range [][]float32{o.first[i], o.second[i]} {
			for _, v := range moments {
				binary.LittleEndian.PutUint32(word[:], math.Float32bits(v))
				out.Write(word[:4])
			}
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("encode optimizer: %w", err)
	}
	return nil
}

// Decode replaces the state by an encoded one for the same tensors. Truncated, surplus or
// non-finite data and other tensors are errors; then nothing has changed.
func (o *AdamW) Decode(data []byte) error {
	r := reader{rest: data}
	if got := r.text(len(magic)); got != magic {
		return fmt.Errorf("decode optimizer: starts with %q, expected %q", got, magic)
	}
	steps, count := r.integer(), r.integer()
	if r.err == nil && count != uint64(len(o.tensors)) {
		return fmt.Errorf("decode optimizer: %d tensors, expected %d", count, len(o.tensors))
	}
	if r.err == nil && steps > math.MaxInt32 {
		return fmt.Errorf("decode optimizer: %d steps is out of range", steps)
	}
	fresh := NewAdamW(o.config, o.tensors)
	for i, t := range o.tensors {
		if err := fresh.decodeTensor(&r, i, t); err != nil {
			return fmt.Errorf("decode optimizer: tensor %d: %w", i, err)
		}
	}
	if r.err != nil {
		return fmt.Errorf("decode optimizer: %w", r.err)
	}
	if len(r.rest) > 0 {
		return fmt.Errorf("decode optimizer: %d bytes after the last tensor", len(r.rest))
	}
	o.first, o.second, o.steps = fresh.first, fresh.second, int(steps)
	return nil
}

func (o *AdamW) decodeTensor(r *reader, i int, t Tensor) error {
	length := r.integer()
	if r.err == nil && length != uint64(len(t.Name)) {
		return fmt.Errorf("its name has %d bytes, expected %s", length, t.Name)
	}
	if name := r.text(len(t.Name)); r.err == nil && name != t.Name {
		return fmt.Errorf("it is %q, expected %q", name, t.Name)
	}
	if size := r.integer(); r.err == nil && size != uint64(len(t.Data)) {
		return fmt.Errorf("%s has %d elements, expected %d", t.Name, size, len(t.Data))
	}
	for _, moments := range [][]float32{o.first[i], o.second[i]} {
		raw := r.text(4 * len(moments))
		if r.err != nil {
			return r.err
		}
		for j := range moments {
			v := math.Float32frombits(binary.LittleEndian.Uint32([]byte(raw[4*j : 4*j+4])))
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("%s: a moment is %v, expected a finite number", t.Name, v)
			}
			moments[j] = v
		}
	}
	for _, v := range o.second[i] {
		if v < 0 {
			return fmt.Errorf("%s: a second moment is %v, expected at least 0", t.Name, v)
		}
	}
	return nil
}

// Digest identifies the state: "sha256:" and the hexadecimal hash of its encoding.
func (o *AdamW) Digest() string {
	hash := sha256.New()
	if err := o.Encode(hash); err != nil {
		panic(fmt.Sprintf("a hash refused a write: %v", err)) // hash.Hash promises it never does
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil))
}

// reader takes fields off the front of a byte slice; after the first error it yields zeros.
type reader struct {
	rest []byte
	err  error
}

var errTruncated = errors.New("the data are truncated")

func (r *reader) text(n int) string {
	if r.err != nil || n > len(r.rest) {
		r.err = errTruncated
		return ""
	}
	part := string(r.rest[:n])
	r.rest = r.rest[n:]
	return part
}

func (r *reader) integer() uint64 {
	raw := r.text(8)
	if r.err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64([]byte(raw))
}
