package emulator

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/turnwise-rl/turnwise/kernels/device/cuda/driver"
)

// matrix is random numbers in BF16 on the device, and as they are.
func (g *gpu) matrix(random *rand.Rand, n int) (driver.Address, []float64) {
	g.t.Helper()
	host, err := g.AllocHost(2 * n)
	must(g.t, err)
	at, err := g.Alloc(int64(2 * n))
	must(g.t, err)
	bits := unsafe.Slice((*uint16)(unsafe.Pointer(&host[0])), n)
	values := make([]float64, n)
	for i := range bits {
		bits[i] = uint16(math.Float32bits(float32(random.NormFloat64())) >> 16)
		values[i] = float64(math.Float32frombits(uint32(bits[i]) << 16))
	}
	must(g.t, g.ToDevice(at, host, g.stream))
	must(g.t, g.Wait(g.stream))
	return at, values
}

// TestTilesMultiply compares products by tiles with the sums that they are of.
func TestTilesMultiply(t *testing.T) {
	g := planted(t)
	random := rand.New(rand.NewPCG(1, 2))
	a, left := g.matrix(random, 256)
	b, right := g.matrix(random, 128)
	d := g.alloc(128)
	for _, order := range []int64{0, 1, 20261121} {
		g.set("order", order)
		for _, kernel := range []string{"product", "turned"} {
			if kernel == "product" {
				launchShared(g, kernel, 1, 32, 1024, struct {
					d, a, b      driver.Address
					wait, commit int32
				}{d, a, b, 1, 1})
			} else {
				launchShared(g, kernel, 1, 32, 1024, struct{ d, a, b driver.Address }{d, a, b})
			}
			for i, got := range g.read(d, 128) {
				row, column, want := i/8, i%8, 0.0
				for k := range 16 {
					if kernel == "product" {
						want += left[16*row+k] * right[16*column+k]
					} else {
						want += left[16*row+k] * right[8*k+column]
					}
				}
				if math.Abs(float64(got)-want) > 1e-5 {
					t.Fatalf("order %d, %s: element (%d, %d) is %v, want %v", order, kernel, row, column, got, want)
				}
			}
		}
	}
}

// TestCopiesAreAsLateAsTheyMay does not wait for copies to shared memory.
func TestCopiesAreAsLateAsTheyMay(t *testing.T) {
	g := planted(t)
	random := rand.New(rand.NewPCG(1, 2))
	a, _ := g.matrix(random, 256)
	b, _ := g.matrix(random, 128)
	d := g.alloc(128)
	launchShared(g, "product", 1, 32, 1024, struct {
		d, a, b      driver.Address
		wait, commit int32
	}{d, a, b, 0, 1})
	for i, got := range g.read(d, 128) {
		if got == got {
			t.Fatalf("element %d of a product of what was not waited for is %v", i, got)
		}
	}
	from := g.alloc(4)
	must(t, g.Fill(from, 1, 16, g.stream))
	launchShared(g, "zeroed", 1, 32, 16, struct {
		d, from driver.Address
		bytes   int32
	}{d, from, 8})
	one := math.Float32frombits(0x01010101)
	if got := g.read(d, 4); got[0] != one || got[1] != one || got[2] != 0 || got[3] != 0 {
		t.Errorf("a copy of 8 bytes of 16: %v", got)
	}
}

// TestMistakesWithTilesAreReported writes beyond dynamic shared memory, asks for more than was allowed, and has the lanes of a
// warp do different things.
func TestMistakesWithTilesAreReported(t *testing.T) {
	g := planted(t)
	for at, fails := range map[int32]bool{0: false, 99: false, 100: true, 4000: true} {
		launchShared(g, "beyond", 2, 32, 100, struct{ at int32 }{at})
		if err := g.Wait(g.stream); (err != nil) != fails {
			t.Errorf("byte %d of 100: %v", at, err)
		}
		g.set("broken", 0)
	}
	d := g.alloc(32)
	launch(g, "mixed", 1, 32, struct{ d driver.Address }{d})
	if err := g.Wait(g.stream); err == nil || !strings.Contains(err.Error(), "CUDA_ERROR_LAUNCH_FAILED") {
		t.Errorf("half a warp shuffles, half multiplies: %v", err)
	}
	g.set("broken", 0)
	m, err := g.Load([]byte(".version 7.0\n.target sm_80\n.visible .entry beyond("))
	must(t, err)
	f, err := g.Function(m, "beyond")
	must(t, err)
	argument := struct{ at int32 }{}
	try := func(bytes uint32) error {
		return g.Launch(f, [3]uint32{1, 1, 1}, 32, bytes, unsafe.Pointer(&argument), g.stream)
	}
	if try(49<<10) == nil {
		t.Error("49 KiB need leave")
	}
	must(t, g.AllowShared(f, 96<<10))
	must(t, try(96<<10))
	if g.AllowShared(f, 128<<10) == nil {
		t.Error("128 KiB are more than every GPU has")
	}
}
