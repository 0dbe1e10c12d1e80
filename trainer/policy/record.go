package policy

import (
	"cmp"
	"errors"
	"math/bits"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Queued is how the work of a pass came to the device.
type Queued uint8

// The ways.
const (
	// Called is operation by operation.
	Called Queued = iota
	// Replayed is by one call that repeats what an earlier pass of its kind queued.
	Replayed
	// Recorded is Replayed, right after the recording was made.
	Recorded
	// Unrecorded is Called, because the device has refused to record, for want of memory most often.
	Unrecorded
)

// mostRecordings is how many kinds of passes are recorded at a time: decoding meets each number of sequences
// from the most to one at the end of a batch, and few of them for long.
const mostRecordings = 64

// kind is what the work of a decoding pass depends on besides addresses and the numbers in them.
type kind struct {
	// rows is the number of sequences, each of which has one new row.
	rows int
	// capacity is that of its placement.
	capacity int
}

// capacity is the room that a decoding pass is given whose sequences reach into so many parts: as sequences grow, there are
// few capacities, and at most half of the room is not used.
func capacity(parts int) int { return 1 << bits.Len(uint(max(parts, 1)-1)) }

// addresses are the memory that a decoding pass reads and writes. They stay as they are until something grows.
type addresses struct {
	activations, statistics, logits, ints, placement, draws, cos, sin device.Memory
	pages                                                             device.Pages
}

// recordAfter is how many passes of a kind are queued operation by operation before one is recorded, where nobody says: see
// [Network.RecordAfter]. Towards the end of a batch most kinds are met a few times, and a recording takes the host as long as
// queueing several passes, while the device waits.
const recordAfter = 8

// RecordAfter says how many passes of a kind, at least 1, are queued operation by operation before one is recorded, on a device
// that records. The results are the same.
func (n *Network) RecordAfter(passes int) { n.recordings.after = passes }

// recorded is what is known of a kind of passes.
type recorded struct {
	kind kind
	// met is how many passes of the kind there were.
	met int
	// recording is nil until one was recorded.
	recording device.Recording
	// refused is why there is none, if the device has refused. Other kinds are tried.
	refused error
}

// recordings are the decoding passes of a network that can be replayed.
type recordings struct {
	on addresses
	// known are the kinds met, the last one last.
	known []*recorded
	// after is what RecordAfter was told; 0 is recordAfter.
	after int
}

// drop forgets all recordings.
func (r *recordings) drop() {
	for _, known := range r.known {
		known.free()
	}
	r.on, r.known = addresses{}, nil
}

func (r *recorded) free() {
	if r.recording != nil {
		r.recording.Free()
	}
}

// meet notes a pass of a kind over some memory, and returns what is known of the kind. Recordings over other memory are of
// no use any more.
func (r *recordings) meet(k kind, on addresses) *recorded {
	if on != r.on {
		r.drop()
		r.on = on
	}
	at := slices.IndexFunc(r.known, func(known *recorded) bool { return known.kind == k })
	if at < 0 {
		if len(r.known) == mostRecordings {
			r.known[0].free()
			r.known = slices.Delete(r.known, 0, 1)
		}
		r.known = append(r.known, &recorded{kind: k, met: 1})
		return r.known[len(r.known)-1]
	}
	found := r.known[at]
	copy(r.known[at:], r.known[at+1:])
	r.known[len(r.known)-1] = found
	found.met++
	return found
}

// ripe reports whether a kind is worth a recording.
func (r *recordings) ripe(k *recorded) bool { return k.met > cmp.Or(r.after, recordAfter) }

// decode has the device compute a decoding pass that has been placed: by a replay where one of its kind was recorded, and
// recorded where several were met. The bits are the same.
func (n *Network) decode(s *scratch, span rowSpan) error {
	recorder, ok := n.net.dev.(device.Recorder)
	if !ok {
		n.choose(s, n.blocks(s, span), span.rows)
		return nil
	}
	known := n.recordings.meet(kind{rows: span.rows, capacity: s.cached.at.Capacity}, n.addresses(s))
	switch {
	case known.recording != nil:
		n.pass.Queued = Replayed
		known.recording.Replay()
		return nil
	case !n.recordings.ripe(known):
		n.choose(s, n.blocks(s, span), span.rows)
		return nil
	case known.refused == nil:
		recording, err := recorder.Record(func() { n.choose(s, n.blocks(s, span), span.rows) })
		if err == nil {
			known.recording, n.pass.Queued = recording, Recorded
			recording.Replay()
			return nil
		}
		var failure *device.Failure
		if errors.As(err, &failure) {
			return err
		}
		known.refused = err
	}
	n.pass.Queued, n.pass.Refused = Unrecorded, known.refused
	n.choose(s, n.blocks(s, span), span.rows)
	return nil
}

// addresses are those of the pass under way.
func (n *Network) addresses(s *scratch) addresses {
	return addresses{
		activations: s.memory.computed.Memory(), statistics: s.memory.statistics.Memory(), logits: s.logits.Memory(),
		ints: s.cached.ints.Memory(), placement: s.cached.at.Device.Memory(), draws: s.draws.Memory.Memory(),
		cos: n.net.cos.Memory(), sin: n.net.sin.Memory(), pages: n.pages,
	}
}
