package cuda

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// TestGoroutinesShareADevice has several compute on buffers of their own, short of memory now and then: each hears of
// its own lack, and nobody gets a buffer without one.
func TestGoroutinesShareADevice(t *testing.T) {
	d := open(t, Options{Exact: true, staging: 256})
	during(t, "memory", 24<<20, 1<<30)
	var all sync.WaitGroup
	errs := make(chan error, 100)
	for g := range 6 {
		all.Go(func() {
			values, got := make([]float32, 300), make([]float32, 300)
			for i := range values {
				values[i] = float32(i + 1000*g)
			}
			for round := range 15 {
				b, err := d.Allocate(device.ForActivations, device.F32, 300)
				if err != nil || b.Absent() {
					errs <- fmt.Errorf("goroutine %d: %w", g, err)
					return
				}
				d.Upload(b, values)
				large, err := d.Allocate(device.ForCache, device.F32, (1+g)<<20)
				var lacking *device.OutOfMemory
				if large.Absent() != (err != nil) || err != nil && (!errors.As(err, &lacking) || lacking.Wanted != int64(1+g)<<22) {
					errs <- fmt.Errorf("goroutine %d: round %d: %v, %w", g, round, large, err)
				}
				if err := d.Download(got, b); err != nil || !slices.Equal(got, values) {
					errs <- fmt.Errorf("goroutine %d: round %d: other numbers, %w", g, round, err)
				}
				d.Free(large)
				d.Free(b)
			}
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if used := d.Usage(); used.Bytes != 0 {
		t.Errorf("%d bytes are in use at the end", used.Bytes)
	}
}

// TestUsersHearOfTheirOwn shares a device: a lack is told to whom it concerns, however often another one asks, a mistake
// to all, since nobody knows whose it is, and so is the device's end.
func TestUsersHearOfTheirOwn(t *testing.T) {
	d := open(t, Options{Exact: true})
	other, ok := d.Share().(*Device)
	if !ok || other.Name() != d.Name() {
		t.Fatalf("got %v", other)
	}
	narrow, index := allocate(t, d, device.BF16, 3000), allocate(t, d, device.I32, 1)
	values := allocate(t, other, device.F32, 1)
	must(t, d.Sync())
	set(t, "memory", 2<<20)
	d.Upload(narrow, make([]float32, 3000)) // needs 12 kB, in a class of its own
	other.Upload(values, []float32{3})
	got := make([]float32, 1)
	if err := other.Download(got, values); err != nil || got[0] != 3 {
		t.Errorf("the other user got %v, %v", got, err)
	}
	must(t, other.Sync())
	var lacking *device.OutOfMemory
	if err := d.Download(got, values); !errors.As(err, &lacking) {
		t.Errorf("got %v, want what was lacking", err)
	}
	must(t, d.Sync())
	set(t, "memory", 1<<30)

	d.UploadInts(index, []int32{7})
	d.Gather(device.Dense(values, 1), device.Dense(values, 1), index, 1, 1)
	for _, user := range []*Device{other, d} {
		var mistake *Mistake
		if err := user.Sync(); !errors.As(err, &mistake) {
			t.Errorf("got %v, want the mistake", err)
		}
		must(t, user.Sync())
	}
	must(t, d.Share().Sync())

	breaks(t, 0, 700)
	d.Scale(values, 2)
	for _, user := range []device.Device{d, other, d.Share()} {
		var failure *device.Failure
		if err := user.Sync(); !errors.As(err, &failure) {
			t.Errorf("got %v, want the failure", err)
		}
	}
}
