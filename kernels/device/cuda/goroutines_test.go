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
