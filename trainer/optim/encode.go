package optim

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/digests"
)

// magic begins an encoded state; the digit is the format's version.
const magic = "turnwise.adamw/1"

// Encode writes the state: the magic, steps, tensor count, then per tensor its name's length, name,
// element count and both moments. Integers are 64-bit and everything is little endian. Equal states
// give equal bytes.
func (o *AdamW) Encode(w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<16)
	var word [8]byte
	var block [4096]byte
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
		integer(t.Data.Len())
		for _, moments := range [2]device.Buffer{o.first[i], o.second[i]} {
			err := o.download(moments, func(piece []float32) {
				for len(piece) > 0 {
					n := min(len(block)/4, len(piece))
					for j, v := range piece[:n] {
						binary.LittleEndian.PutUint32(block[4*j:], math.Float32bits(v))
					}
					out.Write(block[:4*n])
					piece = piece[n:]
				}
			})
			if err != nil {
				return fmt.Errorf("encode optimizer: %s: %w", t.Name, err)
			}
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("encode optimizer: %w", err)
	}
	return nil
}

// pieceElements is how many moments are on their way between host and device at a time.
const pieceElements = 1 << 20

// download brings a buffer to the host piece by piece.
func (o *AdamW) download(b device.Buffer, visit func(piece []float32)) error {
	for from := 0; from < b.Len(); from += pieceElements {
		piece := o.staging(min(pieceElements, b.Len()-from))
		if err := o.dev.Download(piece, b.Slice(from, from+len(piece))); err != nil {
			return err
		}
		visit(piece)
	}
	return nil
}

func (o *AdamW) staging(n int) []float32 {
	if len(o.piece) < n {
		o.piece = make([]float32, n)
	}
	return o.piece[:n]
}

// Decode replaces the state by an encoded one for the same tensors. Truncated, surplus or
// non-finite data and other tensors are errors; then nothing has changed.
func (o *AdamW) Decode(data []byte) error {
	steps, moments, err := o.parse(data)
	if err != nil {
		return fmt.Errorf("decode optimizer: %w", err)
	}
	for i := range o.tensors {
		o.upload(o.first[i], moments[2*i])
		o.upload(o.second[i], moments[2*i+1])
	}
	o.steps = steps
	return nil
}

// parse checks an encoded state and returns the bytes of each tensor's moments, first and second in turn.
func (o *AdamW) parse(data []byte) (steps int, moments [][]byte, err error) {
	r := reader{rest: data}
	if got := r.take(len(magic)); string(got) != magic {
		return 0, nil, fmt.Errorf("starts with %q, expected %q", got, magic)
	}
	many, count := r.integer(), r.integer()
	if r.err == nil && count != uint64(len(o.tensors)) {
		return 0, nil, fmt.Errorf("%d tensors, expected %d", count, len(o.tensors))
	}
	if r.err == nil && many > math.MaxInt32 {
		return 0, nil, fmt.Errorf("%d steps is out of range", many)
	}
	for i, t := range o.tensors {
		first, second, err := r.tensor(t)
		if err != nil {
			return 0, nil, fmt.Errorf("tensor %d: %w", i, err)
		}
		moments = append(moments, first, second)
	}
	if r.err != nil {
		return 0, nil, r.err
	}
	if len(r.rest) > 0 {
		return 0, nil, fmt.Errorf("%d bytes after the last tensor", len(r.rest))
	}
	return int(many), moments, nil
}

// tensor takes and checks the moments of a tensor.
func (r *reader) tensor(t Tensor) (first, second []byte, err error) {
	length := r.integer()
	if r.err == nil && length != uint64(len(t.Name)) {
		return nil, nil, fmt.Errorf("its name has %d bytes, expected %s", length, t.Name)
	}
	if name := r.take(len(t.Name)); r.err == nil && string(name) != t.Name {
		return nil, nil, fmt.Errorf("it is %q, expected %q", name, t.Name)
	}
	if size := r.integer(); r.err == nil && size != uint64(t.Data.Len()) {
		return nil, nil, fmt.Errorf("%s has %d elements, expected %d", t.Name, size, t.Data.Len())
	}
	first, second = r.take(4*t.Data.Len()), r.take(4*t.Data.Len())
	if r.err != nil {
		return nil, nil, r.err
	}
	for _, moment := range [2][]byte{first, second} {
		for j := 0; j < len(moment); j += 4 {
			if v := decodeFloat(moment[j:]); math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return nil, nil, fmt.Errorf("%s: moment is %v in element %d, expected a finite number", t.Name, v, j/4)
			}
		}
	}
	for j := 0; j < len(second); j += 4 {
		if v := decodeFloat(second[j:]); v < 0 {
			return nil, nil, fmt.Errorf("%s: second moment is %v in element %d, expected at least 0", t.Name, v, j/4)
		}
	}
	return first, second, nil
}

func decodeFloat(raw []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(raw)) }

// upload brings encoded numbers to the device piece by piece.
func (o *AdamW) upload(b device.Buffer, raw []byte) {
	for from := 0; from < b.Len(); from += pieceElements {
		piece := o.staging(min(pieceElements, b.Len()-from))
		for i := range piece {
			piece[i] = decodeFloat(raw[4*(from+i):])
		}
		o.dev.Upload(b.Slice(from, from+len(piece)), piece)
	}
}

// Digest identifies the state: "sha256:" and a hexadecimal hash over the steps, the tensors' names and both moments of
// each, by the formula of [digests.Of]. The error is the device's.
func (o *AdamW) Digest() (string, error) {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s\n%d", magic, o.steps)
	for _, t := range o.tensors {
		fmt.Fprintf(&text, "\n%s %d", t.Name, t.Data.Len())
	}
	sum, err := digests.Of(o.dev, text.Bytes(), o.memory)
	if err != nil {
		return "", fmt.Errorf("digest of the optimizer: %w", err)
	}
	return sum, nil
}

// SerialDigest identifies the state as manifests have it that name no formula: by the SHA-256 of its encoding, for
// comparison with these. The error is the device's.
func (o *AdamW) SerialDigest() (string, error) {
	hash := sha256.New()
	if err := o.Encode(hash); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

// reader takes fields off the front of a byte slice; after the first error it yields zeros.
type reader struct {
	rest []byte
	err  error
}

var errTruncated = errors.New("the data are truncated")

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.rest) {
		r.err = errTruncated
		return nil
	}
	part := r.rest[:n]
	r.rest = r.rest[n:]
	return part
}

func (r *reader) integer() uint64 {
	raw := r.take(8)
	if r.err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(raw)
}
