package cuda

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func allocate(t *testing.T, d *Device, dtype device.DType, n int) device.Buffer {
	t.Helper()
	b, err := d.Allocate(device.ForActivations, dtype, n)
	must(t, err)
	return b
}

// TestMemoryThatIsLacking wants an error that says who holds what, and a device that goes on.
func TestMemoryThatIsLacking(t *testing.T) {
	const mib = 1 << 20
	d := open(t, Options{Exact: true})
	during(t, "memory", 64*mib+statusBytes, 1<<30)
	hold := func(p device.Purpose, bytes int) device.Buffer {
		b, err := d.Allocate(p, device.F32, bytes/4)
		must(t, err)
		return b
	}
	weights := hold(device.ForWeights, 10*mib)
	optimizer := hold(device.ForOptimizer, 21*mib)
	hold(device.ForOptimizer, 100)
	d.Free(hold(device.ForActivations, 12*mib))
	_, err := d.Allocate(device.ForCache, device.F32, 31*mib/4)
	var lacking *device.OutOfMemory
	if !errors.As(err, &lacking) {
		t.Fatalf("got %v", err)
	}
	want := &device.OutOfMemory{Device: "cuda:0", Wanted: 31 * mib, For: device.ForCache,
		Held:   []device.Holding{{For: device.ForOptimizer, Bytes: 21*mib + 100}, {For: device.ForWeights, Bytes: 10 * mib}},
		Cached: 3*mib - 100, // what rounds the pieces up; the cached block has been given back
		Free:   30 * mib, Total: 64*mib + statusBytes}
	if diff := cmp.Diff(want, lacking); diff != "" {
		t.Errorf("the error differs (-want +got):\n%s", diff)
	}
	if s := err.Error(); !strings.Contains(s, "30.0 MiB of 64.0 MiB are free") || !strings.Contains(s, "21.0 MiB of optimizer, 10.0 MiB of weights") {
		t.Errorf("got %q", s)
	}
	must(t, d.Sync())
	d.Free(optimizer)
	d.Free(hold(device.ForCache, 30*mib))
	d.Free(weights)
}

// TestLackOfWorkspaceIsTold has an operation that returns no error run out of memory.
func TestLackOfWorkspaceIsTold(t *testing.T) {
	d := open(t, Options{Exact: true})
	narrow := allocate(t, d, device.BF16, 3000)
	must(t, d.Sync())
	during(t, "memory", 2<<20, 1<<30)
	values := make([]float32, 3000)
	d.Upload(narrow.Slice(0, 3000), values) // needs 12 kB, in a class of its own
	var lacking *device.OutOfMemory
	if err := d.Sync(); !errors.As(err, &lacking) || lacking.For != device.ForWorkspace {
		t.Errorf("got %v", err)
	}
	must(t, d.Sync())
	set(t, "memory", 1<<30)
	d.Upload(narrow, values)
	must(t, d.Download(values, narrow))
}

// TestDriversOwnLackIsOne has a launch find no memory, which ends nothing.
func TestDriversOwnLackIsOne(t *testing.T) {
	d := open(t, Options{Exact: true})
	if !d.enter("Product") {
		t.Fatal("the device does not compute")
	}
	d.fail("Product", &driver.Error{Call: "cuLaunchKernel", Code: driver.OutOfMemory})
	d.leave()
	var lacking *device.OutOfMemory
	if err := d.Sync(); !errors.As(err, &lacking) || lacking.For != device.ForWorkspace || lacking.Total != 1<<30 {
		t.Errorf("got %v", err)
	}
	must(t, d.Sync())
}

// TestMemoryIsFreedWhileSomeIsLacking gives everything back before anybody has heard of the lack.
func TestMemoryIsFreedWhileSomeIsLacking(t *testing.T) {
	d := open(t, Options{Exact: true})
	narrow, master := allocate(t, d, device.BF16, 3000), allocate(t, d, device.F32, 12)
	weights, err := d.NewWeights(master, device.BF16, 3, 4, device.Forward)
	must(t, err)
	pages, err := d.NewPages(device.PageShape{Layers: 1, KVHeads: 1, Dim: 4, Pages: 1, DType: device.BF16})
	must(t, err)
	must(t, d.Sync())
	during(t, "memory", 2<<20, 1<<30)
	d.Upload(narrow, make([]float32, 3000)) // needs 12 kB, in a class of its own
	d.FreePages(pages)
	d.FreeWeights(weights)
	d.Free(master)
	d.Free(narrow)
	if u := d.Usage(); u.Bytes != 0 {
		t.Errorf("%d bytes are in use after all was freed", u.Bytes)
	}
	var lacking *device.OutOfMemory
	if err := d.Sync(); !errors.As(err, &lacking) {
		t.Errorf("got %v", err)
	}
	must(t, d.Sync())
}

// TestMemoryIsGivenBack counts the driver's blocks around devices that keep allocations, weights and pages.
func TestMemoryIsGivenBack(t *testing.T) {
	blocks, bytes := count(t, "blocks"), count(t, "bytes")
	for _, o := range []Options{{Exact: true}, {}, {Exact: true, Separate: true}} {
		d, err := Open(emulated, o)
		must(t, err)
		for i := range 20 {
			b := allocate(t, d, device.F32, 1<<i)
			if i%2 == 0 {
				d.Free(b)
			}
		}
		used, err := d.Occupied()
		must(t, err)
		if want := count(t, "bytes") - bytes - statusBytes; used.Taken != want {
			t.Errorf("the device counts %d bytes as taken, the driver %d", used.Taken, want)
		}
		if got := used.Total - used.Free; got != count(t, "bytes") {
			t.Errorf("%d bytes are not free, want %d", got, count(t, "bytes"))
		}
		must(t, d.Close())
		if b, n := count(t, "blocks"), count(t, "bytes"); b != blocks || n != bytes {
			t.Errorf("%+v: %d blocks of %d bytes are left after Close", o, b-blocks, n-bytes)
		}
	}
}

// TestFailedOpeningLeavesNothing runs out of memory at every step of opening.
func TestFailedOpeningLeavesNothing(t *testing.T) {
	blocks := count(t, "blocks")
	for memory := int64(0); memory <= 40<<20; memory += 8 << 20 {
		set(t, "memory", memory)
		d, err := Open(emulated, Options{})
		set(t, "memory", 1<<30)
		if err == nil {
			must(t, d.Close())
			if memory == 0 {
				t.Error("a device without memory was opened")
			}
			continue
		}
		var absent *Absent
		var lacking *device.OutOfMemory
		if !errors.As(err, &absent) && !errors.As(err, &lacking) {
			t.Errorf("%d bytes: got %v", memory, err)
		}
		if now := count(t, "blocks"); now != blocks {
			t.Errorf("%d bytes: %d blocks are left", memory, now-blocks)
		}
	}
}

// TestFreshMemoryIsZero holds Allocate to its promise where memory has been used before.
func TestFreshMemoryIsZero(t *testing.T) {
	d := open(t, Options{Exact: true})
	ones := make([]float32, 5000)
	for i := range ones {
		ones[i] = 1
	}
	for range 3 {
		b := allocate(t, d, device.F32, 5000)
		got := make([]float32, 5000)
		must(t, d.Download(got, b))
		if diff := cmp.Diff(make([]float32, 5000), got); diff != "" {
			t.Fatal(diff)
		}
		d.Upload(b, ones)
		d.Free(b)
	}
}
