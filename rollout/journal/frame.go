package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A file begins with a head and goes on with frames:
//
//	head     8 bytes "TWTURNS\x00", uint32 1
//	frame    4 bytes "TWFR"; uint32 length of the payload; uint32 CRC-32C of length and payload; payload
//
// A frame that does not check out ends the file when no whole one follows: its writing was cut off. When
// a whole one follows, the file was damaged later.
const (
	headMagic   = "TWTURNS\x00"
	version     = 1
	headBytes   = len(headMagic) + 4
	frameMagic  = "TWFR"
	frameBytes  = len(frameMagic) + 8
	largestTurn = 1 << 28 // far beyond any context window
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func head() []byte { return binary.LittleEndian.AppendUint32([]byte(headMagic), version) }

// appendFrame wraps a payload.
func appendFrame(data, payload []byte) ([]byte, error) {
	if len(payload) > largestTurn {
		return data, fmt.Errorf("an entry of %d bytes; at most %d fit", len(payload), largestTurn)
	}
	var length [4]byte
	binary.LittleEndian.PutUint32(length[:], uint32(len(payload)))
	data = append(append(data, frameMagic...), length[:]...)
	data = binary.LittleEndian.AppendUint32(data, checksum(length[:], payload))
	return append(data, payload...), nil
}

func checksum(length, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, payload)
}

// frameAt returns the payload of the frame at the front of data, and false when there is no whole one.
func frameAt(data []byte) ([]byte, bool) {
	if len(data) < frameBytes || string(data[:len(frameMagic)]) != frameMagic {
		return nil, false
	}
	length := data[len(frameMagic):][:4]
	n := binary.LittleEndian.Uint32(length)
	if n > largestTurn || int(n) > len(data)-frameBytes {
		return nil, false
	}
	payload := data[frameBytes:][:n]
	return payload, checksum(length, payload) == binary.LittleEndian.Uint32(data[len(frameMagic)+4:])
}

// DamagedError is a place where a file of turns was changed after it was written. What is whole before
// and after it is used; turns that are not are sampled again.
type DamagedError struct {
	File   string
	Offset int
	Reason string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s: byte %d: %s; the turns that can be read are used and the others are sampled again; remove the file when its groups are trained",
		e.File, e.Offset, e.Reason)
}

// scan hands every whole entry of a file to each, in order, and returns the damaged places.
func scan(file string, data []byte, each func(entry)) []*DamagedError {
	if len(data) < headBytes && bytes.HasPrefix(head(), data) {
		return nil // its writing was cut off
	}
	var damage []*DamagedError
	broken := func(offset int, reason string) {
		damage = append(damage, &DamagedError{file, offset, reason})
	}
	at := headBytes
	switch {
	case len(data) < headBytes || string(data[:len(headMagic)]) != headMagic:
		broken(0, "not the head of a file of turns")
		at = 0
	case !bytes.Equal(data[:headBytes], head()):
		broken(len(headMagic), fmt.Sprintf("version %d is not known, only %d; read it with a newer program", binary.LittleEndian.Uint32(data[len(headMagic):]), version))
		return damage
	}
	for at < len(data) {
		payload, whole := frameAt(data[at:])
		if !whole {
			next := nextFrame(data, at+1)
			if next < 0 {
				break // the tail
			}
			if at >= headBytes {
				broken(at, fmt.Sprintf("%d bytes are no entry", next-at))
			}
			at = next
			continue
		}
		switch e, err := decodeEntry(payload); {
		case err == nil:
			each(e)
		case errors.Is(err, errKind):
			broken(at, err.Error())
		default:
			broken(at, "an entry that cannot be read: "+err.Error())
		}
		at += frameBytes + len(payload)
	}
	return damage
}

// nextFrame returns where the first whole frame at or after from begins, or -1.
func nextFrame(data []byte, from int) int {
	for from < len(data) {
		i := bytes.Index(data[from:], []byte(frameMagic))
		if i < 0 {
			return -1
		}
		if _, whole := frameAt(data[from+i:]); whole {
			return from + i
		}
		from += i + 1
	}
	return -1
}
