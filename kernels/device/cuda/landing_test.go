package cuda

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// mistaken has a kernel complain.
func mistaken(t *testing.T, d *Device) {
	t.Helper()
	table, index := allocate(t, d, device.F32, 1), allocate(t, d, device.I32, 1)
	d.UploadInts(index, []int32{7})
	d.Gather(device.Dense(table, 1), device.Dense(table, 1), index, 1, 1)
}

// TestChoicesBehindAMistakeAreNeverToldAlone has choices fetched behind a complaint that another user waits for first: whoever asks for
// them is told of the mistake, though it has been told of it before, by the next thing it queued.
func TestChoicesBehindAMistakeAreNeverToldAlone(t *testing.T) {
	const rows, vocabulary = 3, 50
	d := open(t, Options{Exact: true})
	other := d.Share().(*Device)
	logits, how := rowsOfLogits(rand.New(rand.NewPCG(45, 46)), rows, vocabulary)
	at := brought(t, d, logits)
	want, got := drawn(t, d, at, vocabulary, how), make([]device.Sampled, rows)
	var draws device.Draws
	defer d.FreeDraws(&draws)
	pass := func() {
		t.Helper()
		must(t, d.PlaceSampling(&draws, how, vocabulary))
		d.Draw(&draws, device.Dense(at, vocabulary))
		must(t, d.Fetch(&draws))
	}
	pass()
	mistaken(t, d)
	pass()
	var mistake *Mistake
	if err := other.Sync(); !errors.As(err, &mistake) {
		t.Fatalf("the other user: got %v, want the mistake", err)
	}
	if err := d.PlaceSampling(&draws, how, vocabulary); !errors.As(err, &mistake) {
		t.Fatalf("what is queued next: got %v, want the mistake", err)
	}
	if err := d.Drawn(got, &draws); err != nil || !slices.Equal(got, want) {
		t.Errorf("choices in front of the mistake: got %+v, %v, want %+v", got, err, want)
	}
	if err := d.Drawn(got, &draws); !errors.As(err, &mistake) {
		t.Errorf("choices behind the mistake: got %+v, %v, want the mistake", got, err)
	}
	must(t, d.Sync())
	must(t, other.Sync())
	pass()
	must(t, d.Drawn(got, &draws))
	if !slices.Equal(got, want) {
		t.Errorf("afterwards: got %+v, want %+v", got, want)
	}
}

// TestCloseWaitsForWhoeverWaits closes a device while a user waits for it: what that asked for arrives.
func TestCloseWaitsForWhoeverWaits(t *testing.T) {
	for _, n := range []int{4, 400} { // in a landing, and in pieces
		d := open(t, Options{Exact: true, staging: 256})
		want := make([]float32, n)
		for i := range want {
			want[i] = float32(i)
		}
		b, got := allocate(t, d, device.F32, n), make([]float32, n)
		d.Upload(b, want)
		waiting, goOn := make(chan struct{}), make(chan struct{})
		holdFirst(d, waiting, goOn)
		downloaded, closed := make(chan error), make(chan error)
		go func() { downloaded <- d.Download(got, b) }()
		<-waiting
		go func() { closed <- d.Close() }()
		for begun := false; !begun; runtime.Gosched() {
			d.mu.Lock()
			begun = d.closed
			d.mu.Unlock()
		}
		close(goOn)
		must(t, <-downloaded)
		must(t, <-closed)
		if !slices.Equal(got, want) {
			t.Errorf("%d numbers: got %v", n, got)
		}
	}
}
