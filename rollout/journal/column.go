package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// Everything in a frame is little-endian. A list is its length plus one as uint32, 0 for nil, and then its
// entries; a text is its length as uint32 and then its bytes, whatever they are. So equal values have
// equal bytes, and what is nil stays nil.

// packer appends values; the first that does not fit is kept as its error.
type packer struct {
	data []byte
	err  error
}

func (p *packer) fail(format string, values ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, values...)
	}
}

func (p *packer) word(value uint32)   { p.data = binary.LittleEndian.AppendUint32(p.data, value) }
func (p *packer) long(value uint64)   { p.data = binary.LittleEndian.AppendUint64(p.data, value) }
func (p *packer) float(value float64) { p.long(math.Float64bits(value)) }

// number appends a count or an index, which is never negative.
func (p *packer) number(name string, value int) {
	if value < 0 || value > math.MaxInt32 {
		p.fail("%s is %d; it lies between 0 and %d", name, value, math.MaxInt32)
		value = 0
	}
	p.word(uint32(value))
}

func (p *packer) bool(value bool) {
	if value {
		p.data = append(p.data, 1)
	} else {
		p.data = append(p.data, 0)
	}
}

func (p *packer) text(value string) {
	p.number("the length of a text", len(value))
	p.data = append(p.data, value...)
}

// listHead appends how many entries follow.
func (p *packer) listHead(isNil bool, length int) {
	if isNil {
		p.word(0)
		return
	}
	p.number("the length of a list", length+1)
}

func (p *packer) blob(value []byte) {
	p.listHead(value == nil, len(value))
	p.data = append(p.data, value...)
}

func packColumn[T any](p *packer, values []T, bits func(T) uint32) {
	p.listHead(values == nil, len(values))
	for _, value := range values {
		p.word(bits(value))
	}
}

func packMap[M ~map[string]V, V any](p *packer, values M, value func(V)) {
	p.listHead(values == nil, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p.text(name)
		value(values[name])
	}
}

var (
	errShort = errors.New("the data ends in the middle of a value")
	errRange = errors.New("a number is out of range")
	errOrder = errors.New("names are not in order")
	errExtra = errors.New("data follows the last value")
)

// unpacker takes values off the front of the data; after its first error it returns zero values.
type unpacker struct {
	data []byte
	err  error
}

func (u *unpacker) fail(err error) {
	if u.err == nil {
		u.err = err
	}
	u.data = nil
}

// bytes takes n bytes, of the data itself.
func (u *unpacker) bytes(n int) []byte {
	if n < 0 || n > len(u.data) {
		u.fail(errShort)
		return nil
	}
	taken := u.data[:n:n]
	u.data = u.data[n:]
	return taken
}

func (u *unpacker) word() uint32 {
	if taken := u.bytes(4); taken != nil {
		return binary.LittleEndian.Uint32(taken)
	}
	return 0
}

func (u *unpacker) long() uint64 {
	if taken := u.bytes(8); taken != nil {
		return binary.LittleEndian.Uint64(taken)
	}
	return 0
}

func (u *unpacker) float() float64 { return math.Float64frombits(u.long()) }

func (u *unpacker) number() int {
	value := u.word()
	if value > math.MaxInt32 {
		u.fail(errRange)
		return 0
	}
	return int(value)
}

func (u *unpacker) bool() bool {
	taken := u.bytes(1)
	if taken != nil && taken[0] > 1 {
		u.fail(errRange)
	}
	return taken != nil && taken[0] == 1
}

func (u *unpacker) text() string { return string(u.bytes(u.number())) }

// listHead takes the length of a list whose entries have at least size bytes each; false means nil.
func (u *unpacker) listHead(size int) (length int, some bool) {
	length = u.number() - 1
	if length > len(u.data)/size {
		u.fail(errShort)
	}
	if u.err != nil || length < 0 {
		return 0, false
	}
	return length, true
}

func (u *unpacker) blob() []byte {
	length, some := u.listHead(1)
	if !some {
		return nil
	}
	return append([]byte{}, u.bytes(length)...)
}

func unpackColumn[T any](u *unpacker, convert func(uint32) T) []T {
	length, some := u.listHead(4)
	if !some {
		return nil
	}
	values := make([]T, length)
	for i := range values {
		values[i] = convert(u.word())
	}
	return values
}

// unpackMap takes a map whose values have at least size bytes each.
func unpackMap[M ~map[string]V, V any](u *unpacker, size int, value func() V) M {
	length, some := u.listHead(4 + size)
	if !some {
		return nil
	}
	values, last := make(M, length), ""
	for i := range length {
		name := u.text()
		if i > 0 && name <= last {
			u.fail(errOrder)
		}
		last = name
		values[name] = value()
	}
	return values
}

// end reports the first error, or data that is left.
func (u *unpacker) end() error {
	if u.err == nil && len(u.data) > 0 {
		u.err = errExtra
	}
	return u.err
}
