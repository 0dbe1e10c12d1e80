package cuda

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// TestStagingWaitsForCopies moves more than the staging memory holds, in halves of a few bytes: one that is filled
// again before its copy is done would show, since the emulated driver copies as late as it may.
func TestStagingWaitsForCopies(t *testing.T) {
	for _, bytes := range []int{16, 48, 64, 1024} {
		t.Run(fmt.Sprint(bytes), func(t *testing.T) {
			d := open(t, Options{Exact: true, staging: bytes})
			const n = 501
			values, numbers := make([]float32, n), make([]int32, n)
			for i := range values {
				values[i], numbers[i] = float32(i), int32(-i)
			}
			for _, dtype := range []device.DType{device.F32, device.BF16, device.F16} {
				b := allocate(t, d, dtype, n)
				parts := []int{0, 1, 4, 9, 200, 203, n}
				for i := range parts[1:] {
					part := make([]float32, parts[i+1]-parts[i])
					copy(part, values[parts[i]:])
					d.Upload(b.Slice(parts[i], parts[i+1]), part)
					clear(part) // it may change once Upload returns
				}
				got := make([]float32, n)
				must(t, d.Download(got, b))
				want := make([]float32, n)
				for i, v := range values {
					want[i] = v
					if dtype == device.BF16 && i > 256 { // eight bits of precision: even, ties to a multiple of four
						want[i] = float32([]int{i, i - 1, i, i + 1}[i%4])
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%v differs (-want +got):\n%s", dtype, diff)
				}
			}
			b := allocate(t, d, device.I32, n)
			d.UploadInts(b, numbers)
			got := make([]int32, n)
			must(t, d.DownloadInts(got, b))
			if diff := cmp.Diff(numbers, got); diff != "" {
				t.Errorf("integers differ (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDownloadsLeaveTheDeviceToOthers downloads much at a time, piece by piece, while others compute, record and download
// too: each has its own numbers.
func TestDownloadsLeaveTheDeviceToOthers(t *testing.T) {
	d := open(t, Options{Exact: true, staging: 64})
	const n, rounds = 1003, 20
	var all sync.WaitGroup
	errs := make(chan error, 100)
	for user := range 3 {
		own := d.Share().(*Device)
		from, to := allocate(t, own, device.F32, n), allocate(t, own, []device.DType{device.F32, device.BF16, device.F16}[user], n)
		all.Go(func() {
			values, got := make([]float32, n), make([]float32, n)
			for round := range rounds {
				for i := range values {
					values[i] = float32((i + round) % (250 + user))
				}
				own.Upload(from, values)
				own.Copy(to, from)
				if err := own.Download(got, to); err != nil || !slices.Equal(got, values) {
					errs <- fmt.Errorf("user %d, round %d: other numbers, %w", user, round, err)
				}
			}
		})
	}
	own := d.Share().(*Device)
	b := allocate(t, own, device.F32, n)
	all.Go(func() {
		for range rounds {
			g, err := own.Record(func() { own.Zero(b) })
			if err != nil {
				errs <- err
				return
			}
			g.Replay()
			g.Free()
		}
	})
	all.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

// TestDownloadOfALostDeviceEnds breaks the device before a download of many pieces.
func TestDownloadOfALostDeviceEnds(t *testing.T) {
	d := open(t, Options{Exact: true, staging: 64})
	b := allocate(t, d, device.F32, 1000)
	must(t, d.Sync())
	breaks(t, 0, 700)
	d.Scale(b, 2)
	var failure *device.Failure
	for range 2 {
		if err := d.Download(make([]float32, 1000), b); !errors.As(err, &failure) {
			t.Errorf("got %v, want the failure", err)
		}
	}
}
