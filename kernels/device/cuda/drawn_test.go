package cuda

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// rowsOfLogits are random logits for so many rows, and a way to choose of each.
func rowsOfLogits(random *rand.Rand, rows, vocabulary int) ([]float32, []device.Sampling) {
	logits, how := make([]float32, rows*vocabulary), make([]device.Sampling, rows)
	for i := range logits {
		logits[i] = float32(random.NormFloat64())
	}
	for i := range how {
		how[i] = device.Sampling{Temperature: 1, TopP: 1, Uniform: random.Float64()}
	}
	return logits, how
}

// TestChoicesAreFetchedInOrder queues two draws of different sizes before it asks for the choices of the first, and wants those
// of each as they are when nothing else is queued.
func TestChoicesAreFetchedInOrder(t *testing.T) {
	const vocabulary = 300
	random := rand.New(rand.NewPCG(41, 42))
	d := open(t, Options{Exact: true})
	var draws device.Draws
	type pass struct {
		rows int
		want []device.Sampled
	}
	var under []pass
	settle := func() {
		got := make([]device.Sampled, under[0].rows)
		must(t, d.Drawn(got, &draws))
		if !slices.Equal(got, under[0].want) {
			t.Errorf("got %+v, want %+v", got, under[0].want)
		}
		under = under[1:]
	}
	for _, rows := range []int{3, 2, 0, 9, 9, 1, 400, 5} { // room grows while choices are on their way
		logits, how := rowsOfLogits(random, rows, vocabulary)
		at := brought(t, d, append(logits, 0))
		var want []device.Sampled
		if rows > 0 {
			want = drawn(t, d, at, vocabulary, how)
		}
		must(t, d.PlaceSampling(&draws, how, vocabulary))
		d.Draw(&draws, device.Dense(at, vocabulary))
		must(t, d.Fetch(&draws))
		if under = append(under, pass{rows, want}); len(under) == device.MostFetched {
			settle()
		}
	}
	must(t, d.Fetch(&draws))
	for want, misuse := range map[string]func(){
		"2 fetches are on their way": func() { _ = d.Fetch(&draws) },
		"room for the 5 choices":     func() { _ = d.Drawn(make([]device.Sampled, 4), &draws) },
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(r.(string), want) {
					t.Errorf("got the panic %v, want %q", r, want)
				}
			}()
			misuse()
		}()
	}
	d.FreeDraws(&draws)
	for _, l := range d.landings {
		if l.busy {
			t.Errorf("a landing of %d bytes is in use at the end", len(l.host))
		}
	}
	if n := len(d.landings); n > 2+device.MostFetched {
		t.Errorf("%d landings were made", n)
	}
}

// TestFetchedChoicesOfAMistakeAreNotToBeTrusted has a kernel complain between two draws: the choices before it are told as they
// are, those behind it with the complaint.
func TestFetchedChoicesOfAMistakeAreNotToBeTrusted(t *testing.T) {
	const rows, vocabulary = 3, 50
	random := rand.New(rand.NewPCG(43, 44))
	d := open(t, Options{Exact: true})
	logits, how := rowsOfLogits(random, rows, vocabulary)
	at := brought(t, d, logits)
	want, got := drawn(t, d, at, vocabulary, how), make([]device.Sampled, rows)
	var draws device.Draws
	defer d.FreeDraws(&draws)
	must(t, d.PlaceSampling(&draws, how, vocabulary))
	d.Draw(&draws, device.Dense(at, vocabulary))
	must(t, d.Fetch(&draws))
	index := allocate(t, d, device.I32, 1)
	d.UploadInts(index, []int32{7})
	d.Gather(device.Dense(at, 1), device.Dense(at.Slice(0, 1), 1), index, 1, 1)
	d.Draw(&draws, device.Dense(at, vocabulary))
	must(t, d.Fetch(&draws))
	must(t, d.Drawn(got, &draws))
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	var mistake *Mistake
	if err := d.Drawn(got, &draws); !errors.As(err, &mistake) {
		t.Errorf("got %v, want the mistake", err)
	}
	must(t, d.Sync())
}

// TestComplaintsAreHeardOnce has two users wait behind the same complaint: each is told once.
func TestComplaintsAreHeardOnce(t *testing.T) {
	d := open(t, Options{Exact: true})
	users := []*Device{d.Share().(*Device), d.Share().(*Device)}
	if !d.enter("test") {
		t.Fatal("the device has an error")
	}
	d.upload("test", d.status, bytesOf([]int32{badIndex, 3, 99}))
	d.leave()
	waiting, goOn := make(chan struct{}), make(chan struct{})
	holdFirst(d, waiting, goOn)
	ended := make(chan error)
	go func() { ended <- users[0].Sync() }()
	<-waiting
	second := users[1].Sync()
	close(goOn)
	for i, err := range []error{<-ended, second, d.Sync()} {
		var mistake *Mistake
		if !errors.As(err, &mistake) {
			t.Errorf("user %d: got %v, want the mistake", i, err)
		}
	}
	for _, user := range append(users, d) {
		must(t, user.Sync())
	}
}

// holdFirst has the first who waits say so and wait longer, until it may go on.
func holdFirst(d *Device, waiting, goOn chan struct{}) {
	var waits atomic.Int32
	d.waitEvent = func(e driver.Event) error {
		if waits.Add(1) == 1 {
			close(waiting)
			<-goOn
		}
		return d.driver.WaitEvent(e)
	}
}

// TestWaitingLeavesTheDeviceToOthers lets a user wait for as long as it takes another one to allocate, compute, record, replay
// and download.
func TestWaitingLeavesTheDeviceToOthers(t *testing.T) {
	for name, wait := range map[string]func(d *Device, b device.Buffer, draws *device.Draws) error{
		"Sync":     func(d *Device, _ device.Buffer, _ *device.Draws) error { return d.Sync() },
		"Download": func(d *Device, b device.Buffer, _ *device.Draws) error { return d.Download(make([]float32, 4), b) },
		"SquaredNorm": func(d *Device, b device.Buffer, _ *device.Draws) error {
			sum, err := d.SquaredNorm(b)
			if err == nil && sum != 30 {
				t.Errorf("the sum of squares is %v, want 30", sum)
			}
			return err
		},
		"Drawn": func(d *Device, _ device.Buffer, draws *device.Draws) error {
			return d.Drawn(make([]device.Sampled, 1), draws)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, Options{Exact: true})
			b := brought(t, d, []float32{1, 2, 3, 4})
			var draws device.Draws
			defer d.FreeDraws(&draws)
			must(t, d.PlaceSampling(&draws, []device.Sampling{{Temperature: 1, TopP: 1}}, 4))
			d.Draw(&draws, device.Dense(b, 4))
			waiting, goOn := make(chan struct{}), make(chan struct{})
			holdFirst(d, waiting, goOn)
			ended := make(chan error)
			go func() { ended <- wait(d, b, &draws) }()
			<-waiting
			other := d.Share().(*Device)
			own, got := allocate(t, other, device.F32, 4), make([]float32, 4)
			other.Upload(own, []float32{5, 6, 7, 8})
			g, err := other.Record(func() { other.Scale(own, 2) })
			must(t, err)
			g.Replay()
			must(t, other.Download(got, own))
			g.Free()
			if want := []float32{10, 12, 14, 16}; !slices.Equal(got, want) {
				t.Errorf("the other user got %v, want %v", got, want)
			}
			close(goOn)
			must(t, <-ended)
		})
	}
}
