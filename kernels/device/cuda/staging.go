package cuda

import (
	"cmp"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// staging is page-locked memory between the host's and the device's: two halves that take turns, so that one is
// filled while the other is copied. A device has one for what comes from the host, in the order of what is queued, and one for
// much that it brings to the host beside that; little arrives in landings.
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

// download brings bytes of the device to the host, after everything queued. The caller holds mu, by enter, which others have in
// between.
func (d *Device) download(operation string, dst []byte, src pointer) {
	if d.unrecorded(operation) {
		return
	}
	if len(dst) > d.staging.bytes {
		d.bring(operation, dst, src)
		return
	}
	l := d.land(operation, src, len(dst))
	if l == nil {
		return
	}
	if d.landed(operation, l); d.kept() == nil {
		copy(dst, l.bytes(len(dst)))
	}
	l.busy = false
}

// bring is download of more than the staging memory holds: in a stream of its own, so that it goes on beside what others queue
// meanwhile, one piece on its way while the host takes the one before. The caller holds mu, by enter, which others have in between.
func (d *Device) bring(operation string, dst []byte, src pointer) {
	for d.bringing {
		d.await()
	}
	d.bringing = true
	defer func() {
		d.bringing = false
		d.changed.Broadcast()
	}()
	if d.wait(operation); d.kept() != nil {
		return
	}
	s := &d.brought
	pieces := blocks(len(dst), s.bytes)
	piece := func(i int) (host, half []byte) {
		host = dst[i*s.bytes : min(len(dst), (i+1)*s.bytes)]
		return host, s.halves[i%2][:len(host)]
	}
	fetch := func(i int) {
		if i == pieces || d.kept() != nil {
			return
		}
		_, half := piece(i)
		err := d.driver.ToHost(half, src+pointer(i*s.bytes), d.copies)
		d.fail(operation, cmp.Or(err, d.driver.Record(s.copied[i%2], d.copies)))
	}
	fetch(0)
	for i := range pieces {
		fetch(i + 1)
		if d.fail(operation, d.driver.WaitEvent(s.copied[i%2])); d.kept() != nil {
			d.fail(operation, d.driver.Wait(d.copies)) // nothing is on its way to memory that is given back
			return
		}
		d.goAway()
		copy(piece(i))
		d.comeBack()
	}
}

// bytesOf is a slice's memory.
func bytesOf[T float32 | int32 | uint16 | uint8](s []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(one)))
}

// wordsOf are the words in memory that begins with one.
func wordsOf(b []byte) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}
