package emulator

import (
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/kernels"
)

// gpu is the emulated driver with the kernels of testdata, and a stream of it.
type gpu struct {
	*driver.Driver
	t      *testing.T
	stream driver.Stream
	set    func(name string, value int64) int32
}

func planted(t *testing.T) *gpu {
	t.Helper()
	l, err := build(t.Context(), t.TempDir(), kernels.Sources, os.DirFS("testdata"))
	must(t, err)
	return opened(t, l)
}

// opened is the emulated driver of some libraries, and a stream of it.
func opened(t *testing.T, l Libraries) *gpu {
	t.Helper()
	g := &gpu{t: t}
	var err error
	g.Driver, err = driver.Open(l.Driver)
	must(t, err)
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	library, err := purego.Dlopen(l.Driver, purego.RTLD_NOW)
	must(t, err)
	purego.RegisterLibFunc(&g.set, library, "emulator_set")
	d, err := g.Device(0)
	must(t, err)
	context, err := g.Retain(d)
	must(t, err)
	must(t, g.SetCurrent(context))
	g.stream, err = g.NewStream()
	must(t, err)
	return g
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func launch[A any](g *gpu, kernel string, blocks, threads uint32, a A) {
	g.t.Helper()
	launchShared(g, kernel, blocks, threads, 0, a)
}

func launchShared[A any](g *gpu, kernel string, blocks, threads, shared uint32, a A) {
	g.t.Helper()
	m, err := g.Load([]byte(".version 7.0\n.target sm_80\n.visible .entry " + kernel + "("))
	must(g.t, err)
	f, err := g.Function(m, kernel)
	must(g.t, err)
	must(g.t, g.Launch(f, [3]uint32{blocks, 1, 1}, threads, shared, unsafe.Pointer(&a), g.stream))
}

// alloc takes memory for n numbers.
func (g *gpu) alloc(n int) driver.Address {
	g.t.Helper()
	a, err := g.Alloc(int64(4 * n))
	must(g.t, err)
	return a
}

// read is what n numbers are once all is done.
func (g *gpu) read(a driver.Address, n int) []float32 {
	g.t.Helper()
	out, err := g.AllocHost(4 * n)
	must(g.t, err)
	must(g.t, g.ToHost(out, a, g.stream))
	must(g.t, g.Wait(g.stream))
	return slices.Clone(unsafe.Slice((*float32)(unsafe.Pointer(&out[0])), n))
}

// TestOrdersShowMissingBarriers runs a kernel with and without a barrier that it needs.
func TestOrdersShowMissingBarriers(t *testing.T) {
	g := planted(t)
	src, dst := g.alloc(64), g.alloc(64)
	host, err := g.AllocHost(4 * 64)
	must(t, err)
	numbers := unsafe.Slice((*float32)(unsafe.Pointer(&host[0])), 64)
	for i := range numbers {
		numbers[i] = float32(i)
	}
	must(t, g.ToDevice(src, host, g.stream))
	for kernel, run := range map[string]func(wait int32){
		"reverse": func(wait int32) {
			launch(g, "reverse", 1, 64, struct {
				dst, src driver.Address
				wait     int32
			}{dst, src, wait})
		},
		"overtake": func(wait int32) {
			launch(g, "overtake", 1, 64, struct {
				dst  driver.Address
				wait int32
			}{dst, wait})
		},
	} {
		var right []float32
		for wait := int32(1); wait >= 0; wait-- {
			differ := 0
			for _, order := range []int64{0, 1, 20261121} {
				g.set("order", order)
				run(wait)
				got := g.read(dst, 64)
				if right == nil {
					right = got
				}
				if !slices.Equal(got, right) {
					differ++
				}
			}
			if wait == 1 && differ > 0 || wait == 0 && differ == 0 {
				t.Errorf("%s, barrier %d: %d orders of three differ", kernel, wait, differ)
			}
		}
	}
}

// TestThreadsThatNeverComeAreReported runs kernels in which some threads of a block, or lanes of a warp, wait for the others.
func TestThreadsThatNeverComeAreReported(t *testing.T) {
	g := planted(t)
	dst := g.alloc(64)
	for most, fails := range map[int32]bool{0: false, 64: false, 32: true, 17: true} {
		launch(g, "some_wait", 1, 64, struct{ most int32 }{most})
		if err := g.Wait(g.stream); (err != nil) != fails {
			t.Errorf("%d threads of 64 wait: %v", most, err)
		}
		g.set("broken", 0)
	}
	for most, fails := range map[int32]bool{0: false, 32: false, 16: true, 31: true} {
		launch(g, "some_shuffle", 1, 64, struct {
			dst  driver.Address
			most int32
		}{dst, most})
		if err := g.Wait(g.stream); (err != nil) != fails || err != nil && !strings.Contains(err.Error(), "CUDA_ERROR_LAUNCH_FAILED") {
			t.Errorf("%d lanes of 32 shuffle: %v", most, err)
		}
		g.set("broken", 0)
	}
}

// TestWhatNobodyWroteIsNotANumber reads shared memory, of a block behind one that wrote it too, and fresh device memory.
func TestWhatNobodyWroteIsNotANumber(t *testing.T) {
	g := planted(t)
	dst := g.alloc(64 * 32)
	for i, v := range g.read(dst, 64*32) {
		if v == v {
			t.Fatalf("element %d of fresh memory is %v", i, v)
		}
	}
	for write := range int32(2) {
		for range 3 {
			launch(g, "unwritten", 64, 32, struct {
				dst   driver.Address
				write int32
			}{dst, write})
			for i, v := range g.read(dst, 64*32) {
				if written := write == 1 && i < 32; written != (v == 1) || !written && !math.IsNaN(float64(v)) {
					t.Fatalf("block %d of a launch that writes %d has read %v", i/32, write, v)
				}
			}
		}
	}
}

// TestWorkIsDoneAsLateAsItMay overwrites page-locked memory before the copy from it was waited for, and ordinary memory.
func TestWorkIsDoneAsLateAsItMay(t *testing.T) {
	g := planted(t)
	dst := g.alloc(1)
	pinned, err := g.AllocHost(4)
	must(t, err)
	ordinary := make([]byte, 4)
	must(t, g.ToDevice(dst, ordinary, g.stream))
	ordinary[3] = 0x40
	if got := g.read(dst, 1); got[0] != 0 {
		t.Errorf("ordinary memory is read after the call: got %v", got)
	}
	clear(pinned)
	must(t, g.ToDevice(dst, pinned, g.stream))
	pinned[3] = 0x40 // of 2
	if got := g.read(dst, 1); got[0] != 2 {
		t.Errorf("page-locked memory is read before it has to be: got %v", got)
	}
}

// TestEventsHappenInTheirTurn waits for an event in the middle of a stream.
func TestEventsHappenInTheirTurn(t *testing.T) {
	g := planted(t)
	host, err := g.AllocHost(8)
	must(t, err)
	dst := g.alloc(2)
	from, err := g.NewEvent()
	must(t, err)
	to, err := g.NewEvent()
	must(t, err)
	must(t, g.WaitEvent(from)) // never recorded
	if _, err := g.Elapsed(from, to); err == nil {
		t.Error("time between events that were never recorded")
	}
	must(t, g.Fill(dst, 1, 8, g.stream))
	must(t, g.Record(from, g.stream))
	must(t, g.ToHost(host[:4], dst, g.stream))
	must(t, g.Record(to, g.stream))
	must(t, g.ToHost(host[4:], dst, g.stream))
	must(t, g.WaitEvent(to))
	if host[0] != 1 || host[4] == 1 {
		t.Errorf("after the event: %v", host)
	}
	if ms, err := g.Elapsed(from, to); err != nil || ms != 1 {
		t.Errorf("%v ms, %v", ms, err)
	}
	must(t, g.WaitAll())
	if host[4] != 1 {
		t.Errorf("after everything: %v", host)
	}
}

// TestOrdersAreOfEveryThread sees that threads without barriers run in the order asked for too, blocks included.
func TestOrdersAreOfEveryThread(t *testing.T) {
	g := planted(t)
	dst := g.alloc(33)
	for order, want := range map[int64]func(place []int32) bool{
		0:        func(p []int32) bool { return slices.IsSorted(p) },
		1:        func(p []int32) bool { slices.Reverse(p); return slices.IsSorted(p) },
		20261121: func(p []int32) bool { return !slices.IsSorted(p) && !slices.IsSorted(p[:8]) },
	} {
		g.set("order", order)
		must(t, g.Fill(dst, 0, 33*4, g.stream))
		launch(g, "stamp", 4, 8, struct{ dst driver.Address }{dst})
		numbers := g.read(dst, 32)
		if place := unsafe.Slice((*int32)(unsafe.Pointer(&numbers[0])), 32); !want(slices.Clone(place)) {
			t.Errorf("order %d: %v", order, place)
		}
	}
}

// TestMemoryIsChecked wants errors for what the driver would refuse.
func TestMemoryIsChecked(t *testing.T) {
	g := planted(t)
	a := g.alloc(4)
	host, err := g.AllocHost(64)
	must(t, err)
	for what, call := range map[string]func() error{
		"no bytes":              func() error { _, err := g.Alloc(0); return err },
		"too many bytes":        func() error { _, err := g.Alloc(1 << 40); return err },
		"a copy beyond the end": func() error { return g.ToDevice(a+4, host[:16], g.stream) },
		"a read beyond the end": func() error { return g.ToHost(host[:20], a, g.stream) },
		"a fill beyond the end": func() error { return g.Fill(a, 0, 17, g.stream) },
		"a copy to nowhere":     func() error { return g.Within(a, 4096, 16, g.stream) },
		"freed in the middle":   func() error { return g.Free(a + 4) },
	} {
		if call() == nil {
			t.Errorf("%s is not refused", what)
		}
	}
	must(t, g.Free(a))
	if g.Free(a) == nil {
		t.Error("freed twice is not refused")
	}
}
