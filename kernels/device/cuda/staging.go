package cuda

import (
	"cmp"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// staging is page-locked memory between the host's and the device's: two halves that take turns, so that one is
// filled while the other is copied.
type staging struct {
	// bytes is the size of a half.
	bytes  int
	halves [2][]byte
	// copied happens when the copy out of a half is done.
	copied [2]driver.Event
	turn   int
	// used is how much of the half whose turn it is waits for nothing: its copies are queued.
	used int
}

// stagingBytes is the usual size of a half: large enough for the bus to be busy, small enough for every device of a process.
const stagingBytes = 8 << 20

func (s *staging) open(d *driver.Driver) (err error) {
	for i := range s.halves {
		if s.halves[i], err = d.AllocHost(s.bytes); err != nil {
			return err
		}
		if s.copied[i], err = d.NewEvent(); err != nil {
			return err
		}
	}
	return nil
}

func (s *staging) close(d *driver.Driver) error {
	var first error
	for i, half := range s.halves {
		if half == nil {
			continue
		}
		first = cmp.Or(first, d.FreeHost(half))
		if s.copied[i] != 0 {
			first = cmp.Or(first, d.FreeEvent(s.copied[i]))
		}
	}
	s.halves = [2][]byte{}
	return first
}

// room returns up to n bytes of staging memory that nothing reads any more. The caller holds mu, by enter.
func (d *Device) room(n int) ([]byte, error) {
	s := &d.staging
	n = min(n, s.bytes)
	if s.used+n > s.bytes {
		if err := d.driver.Record(s.copied[s.turn], d.stream); err != nil {
			return nil, err
		}
		s.turn, s.used = 1-s.turn, 0
		if err := d.driver.WaitEvent(s.copied[s.turn]); err != nil {
			return nil, err
		}
	}
	free := s.halves[s.turn][s.used:][:n]
	s.used += (n + 15) &^ 15
	return free, nil
}

// upload brings host bytes to the device; they may change when it returns. The caller holds mu, by enter.
func (d *Device) upload(operation string, dst pointer, src []byte) {
	if d.unrecorded(operation) {
		return
	}
	for len(src) > 0 && d.kept() == nil {
		piece, err := d.room(len(src))
		if err == nil {
			n := copy(piece, src)
			err = d.driver.ToDevice(dst, piece, d.stream)
			dst, src = dst+pointer(n), src[n:]
		}
		d.fail(operation, err)
	}
}

// download brings bytes of the device to the host, after everything queued. The caller holds mu, by enter.
func (d *Device) download(operation string, dst []byte, src pointer) {
	if d.unrecorded(operation) {
		return
	}
	for len(dst) > 0 && d.kept() == nil {
		piece, err := d.room(len(dst))
		if err == nil {
			err = d.driver.ToHost(piece, src, d.stream)
		}
		d.fail(operation, err)
		d.wait(operation)
		if d.kept() != nil {
			return
		}
		n := copy(dst, piece)
		dst, src = dst[n:], src+pointer(n)
	}
}

// bytesOf is a slice's memory.
func bytesOf[T float32 | int32 | uint16 | uint8](s []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(one)))
}
