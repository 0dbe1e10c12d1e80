// Package digests identifies what a device holds: [Of] is one hash of many numbers, computed by all cores of the host while
// the next numbers are on their way. It reads nothing else and knows nothing of what the numbers are.
package digests

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Formula names how [Of] computes, for records of what it gave. Digests of different formulas cannot be compared.
const Formula = "pieces/1"

const (
	// pieceElements is how many numbers are hashed by themselves: enough that their hash is nothing beside them, few enough
	// that all cores have some. It is part of the formula.
	pieceElements = 1 << 18
	// chunkElements is how many numbers come to the host at a time, 8 MiB, and chunks how many such places there are: one
	// that is filled, and others that are hashed meanwhile.
	chunkElements = 1 << 21
	chunks        = 3
)

// HostBytes is the most memory of the host that Of takes.
const HostBytes = 4 * chunkElements * chunks

// Of is "sha256:" and the hexadecimal SHA-256 of the formula's name, of a text that says what the numbers are, and of the
// SHA-256 of each piece of 2¹⁸ numbers: the numbers of all buffers one after the other, as little-endian float32. Equal
// digests mean equal texts and equal bits. Numbers of a narrower type count as the float32 of their value. The error is
// the device's.
func Of(dev device.Storage, text []byte, buffers ...device.Buffer) (string, error) {
	return of(dev, text, chunkElements, buffers)
}

// of is Of with chunks of so many numbers, a multiple of a piece's.
func of(dev device.Storage, text []byte, chunkElements int, buffers []device.Buffer) (string, error) {
	total := 0
	for _, b := range buffers {
		total += b.Len()
	}
	s := stream{dev: dev, rest: slices.Clone(buffers)}
	sums := make([][sha256.Size]byte, (total+pieceElements-1)/pieceElements)
	free := make(chan []float32, chunks)
	for range min(chunks, (total+chunkElements-1)/chunkElements) {
		free <- make([]float32, min(total, chunkElements))
	}
	work := make(chan func())
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), max(1, len(sums))) {
		workers.Go(func() {
			for do := range work {
				do()
			}
		})
	}
	var err error
	for at := 0; at < total && err == nil; at += chunkElements {
		chunk := <-free
		values := chunk[:min(chunkElements, total-at)]
		if err = s.read(values); err == nil {
			hashPieces(values, sums[at/pieceElements:], work, func() { free <- chunk })
		}
	}
	close(work)
	workers.Wait()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	io.WriteString(hash, "turnwise digest "+Formula+"\n") // a hash refuses nothing
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(text)))
	hash.Write(length[:])
	hash.Write(text)
	for i := range sums {
		hash.Write(sums[i][:])
	}
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

// hashPieces asks workers for the hash of each piece of a chunk and calls done after the last.
func hashPieces(values []float32, sums [][sha256.Size]byte, work chan<- func(), done func()) {
	pieces := (len(values) + pieceElements - 1) / pieceElements
	var left atomic.Int64
	left.Store(int64(pieces))
	for i := range pieces {
		piece := values[i*pieceElements : min((i+1)*pieceElements, len(values))]
		work <- func() {
			if sums[i] = sum(piece); left.Add(-1) == 0 {
				done()
			}
		}
	}
}

// stream reads the numbers of some buffers one after the other.
type stream struct {
	dev  device.Storage
	rest []device.Buffer
}

func (s *stream) read(dst []float32) error {
	for len(dst) > 0 {
		next := s.rest[0]
		n := min(len(dst), next.Len())
		if n > 0 {
			if err := s.dev.Download(dst[:n], next.Slice(0, n)); err != nil {
				return err
			}
		}
		if dst = dst[n:]; n == next.Len() {
			s.rest = s.rest[1:]
		} else {
			s.rest[0] = next.Slice(n, next.Len())
		}
	}
	return nil
}

// little says that memory holds numbers as the formula has them.
var little = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// sum is the SHA-256 of numbers as little-endian float32.
func sum(values []float32) [sha256.Size]byte {
	if little {
		return sha256.Sum256(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), 4*len(values)))
	}
	return converted(values)
}

// converted is sum of numbers that memory holds in another order.
func converted(values []float32) [sha256.Size]byte {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return sha256.Sum256(data)
}
