package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// taping is a device that records by keeping the work itself, which reads what is in the buffers as a recording does.
type taping struct {
	*devicetest.Reference
	made, live int
	refuse     error
}

type tape struct {
	on   *taping
	work func()
}

func (d *taping) Record(work func()) (device.Recording, error) {
	d.made++
	if d.refuse != nil {
		return nil, d.refuse
	}
	d.live++
	return &tape{d, work}, nil
}

func (t *tape) Replay() { t.work() }
func (t *tape) Free()   { t.on.live--; t.work = nil }

// step computes the next token of the first sequences.
func (d *decoding) step(t *testing.T, sequences int) (Queued, error) {
	t.Helper()
	pass := &Pass{At: device.Placement{Offsets: []int32{0}}, Chosen: make([]device.Sampled, sequences)}
	for s := range sequences {
		pass.Tokens = append(pass.Tokens, d.tokens[s][d.cached[s]])
		pass.At.Offsets = append(pass.At.Offsets, int32(s+1))
		pass.At.Cached = append(pass.At.Cached, d.cached[s])
		pass.At.Tables = append(pass.At.Tables, d.tables[s])
		pass.How = append(pass.How, device.Sampling{Temperature: 1, TopP: 1, Uniform: float64(s+1) / float64(sequences+2)})
	}
	d.pass = pass
	if err := d.network.Extend(d.pages, pass); err != nil {
		return 0, err
	}
	for s, chosen := range pass.Chosen {
		d.cached[s]++
		d.tokens[s] = append(d.tokens[s], chosen.Token)
		d.chosen[s] = append(d.chosen[s], chosen)
	}
	return pass.Queued, nil
}

// begin computes prompts of one token each and more.
func begin(t *testing.T, on device.Device, sequences int) *decoding {
	t.Helper()
	c := shapes()["wide"]
	c.Layers, c.MaxPositions = 1, 320
	var prompts [][]int32
	for i := range sequences {
		prompts = append(prompts, randomPacked(c, uint64(i), 2).Tokens)
	}
	d := newDecoding(t, newModelOn(t, on, c, Options{}), prompts, 1)
	d.network.RecordAfter(1)
	var which, rows []int
	for s := range prompts {
		which, rows = append(which, s), append(rows, 2)
	}
	d.extend(t, which, rows, func(int) device.Sampling { return device.Sampling{TopP: 1} })
	return d
}

// TestKindsMetBeforeAreRecorded follows numbers of sequences up and down.
func TestKindsMetBeforeAreRecorded(t *testing.T) {
	on := &taping{Reference: devicetest.NewReference()}
	d, plain := begin(t, on, 3), begin(t, devicetest.NewReference(), 3)
	var got strings.Builder
	for _, sequences := range []int{3, 3, 3, 2, 2, 1, 2, 3, 1, 1} {
		queued, err := d.step(t, sequences)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(&got, sequences, " ", [...]string{"called", "replayed", "recorded", "unrecorded"}[queued], ", ")
		if q, err := plain.step(t, sequences); q != Called || err != nil {
			t.Fatalf("a device that does not record: %v, %v", q, err)
		}
	}
	const want = "3 called, 3 recorded, 3 replayed, 2 called, 2 recorded, 1 called, 2 replayed, 3 replayed, 1 recorded, 1 replayed, "
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("passes came otherwise (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(plain.chosen, d.chosen); diff != "" {
		t.Errorf("replays choose otherwise:\n%s", diff)
	}
	// A prompt that needs more memory for activations: what was recorded is over the old memory.
	d.tokens[0] = append(d.tokens[0], randomPacked(d.network.Config(), 9, 50).Tokens...)
	d.extend(t, []int{0}, []int{51}, func(int) device.Sampling { return device.Sampling{TopP: 1} })
	if queued, err := d.step(t, 1); queued != Called || err != nil || on.live != 0 {
		t.Errorf("after buffers have moved: %v, %v, and %d recordings live", queued, err, on.live)
	}
}

// TestRecordingsAreBounded meets more kinds than are recorded, and gives all recordings back at the end.
func TestRecordingsAreBounded(t *testing.T) {
	on := &taping{Reference: devicetest.NewReference()}
	r := &recordings{}
	meet := func(rows int) *recorded {
		known := r.meet(kind{rows: rows, capacity: 1}, addresses{})
		if r.ripe(known) && known.recording == nil {
			known.recording, _ = on.Record(func() {})
		}
		return known
	}
	for rows := range 2 * mostRecordings {
		for i := range recordAfter {
			if rows > 0 && meet(rows).recording != nil {
				t.Fatalf("%d rows are recorded when met %d times", rows, i+1)
			}
			meet(0) // which stays, as it was met last but for one
		}
		if meet(rows).recording == nil {
			t.Fatalf("%d rows are not recorded", rows)
		}
	}
	if on.live != mostRecordings || meet(0).recording == nil || meet(1).recording != nil {
		t.Errorf("%d recordings are kept, want the last %d", on.live, mostRecordings)
	}
	r.drop()
	if on.live != 0 {
		t.Errorf("%d recordings are left", on.live)
	}
}

// TestCapacities wants few of them, with room for all parts and at most half of it unused.
func TestCapacities(t *testing.T) {
	for parts, want := range map[int]int{0: 1, 1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 64: 64, 65: 128, 1 << 20: 1 << 20} {
		if got := capacity(parts); got != want {
			t.Errorf("room for %d of %d parts, want %d", got, parts, want)
		}
	}
}

// TestNetworksFreeTheirRecordings looks at what is left of a network with a recording.
func TestNetworksFreeTheirRecordings(t *testing.T) {
	on := &taping{Reference: devicetest.NewReference()}
	t.Run("a network", func(t *testing.T) {
		d := begin(t, on, 2)
		for range 3 {
			if _, err := d.step(t, 2); err != nil {
				t.Fatal(err)
			}
		}
		if on.live != 1 {
			t.Errorf("%d recordings live, want 1", on.live)
		}
	})
	if on.live != 0 {
		t.Errorf("%d recordings live after their network", on.live)
	}
}

// TestRecordingsMayBeRefused wants passes queued by calls, which tell so, where the device does not record them, and an error
// when the device has failed.
func TestRecordingsMayBeRefused(t *testing.T) {
	for name, refusal := range map[string]error{
		"memory": fmt.Errorf("recording: %w", &device.OutOfMemory{Device: "ref"}),
		"driver": errors.New("not this"),
	} {
		on := &taping{Reference: devicetest.NewReference(), refuse: refusal}
		d, plain := begin(t, on, 2), begin(t, devicetest.NewReference(), 2)
		for i, want := range []Queued{Called, Unrecorded, Unrecorded, Unrecorded} {
			queued, err := d.step(t, 2)
			if told := d.pass.Refused; queued != want || err != nil || (want == Unrecorded) != errors.Is(told, refusal) {
				t.Errorf("%s, pass %d: %v, %v, told %v, want %v", name, i, queued, err, told, want)
			}
			if _, err := plain.step(t, 2); err != nil {
				t.Fatal(err)
			}
		}
		if on.made != 1 {
			t.Errorf("%s: a recording was tried %d times", name, on.made)
		}
		if diff := cmp.Diff(plain.chosen, d.chosen); diff != "" {
			t.Errorf("%s: other choices:\n%s", name, diff)
		}
		on.refuse = &device.Failure{Device: "ref"}
		if _, err := d.step(t, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := d.step(t, 1); !errors.Is(err, on.refuse) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
