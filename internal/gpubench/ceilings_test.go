package gpubench

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
)

// How often a ceiling is timed, and how many calls are queued for each time.
const (
	tries = 5
	each  = 10
)

// ceilings measures a large copy and a large product, of random numbers: a GPU computes faster on zeros, which take less power.
func ceilings(t *testing.T) Ceilings {
	t.Helper()
	d := open(t)
	defer shut(t, d)
	c := Ceilings{CopiedBytes: on(int64(2<<30), 1<<12), ProductSize: on(8192, 32)}
	elements := int(c.CopiedBytes / narrow)
	from, to := noise(t, d, device.BF16, elements), noise(t, d, device.BF16, elements)
	took := fastest(t, d, each, func(int) { d.Copy(to, from) })
	c.BytesPerSecond = 2 * float64(c.CopiedBytes) / took.Seconds()
	d.Free(from)
	d.Free(to)
	n := c.ProductSize
	x, y, master := noise(t, d, device.BF16, n*n), noise(t, d, device.BF16, n*n), noise(t, d, device.F32, n*n)
	w, err := d.NewWeights(master, device.BF16, n, n, device.Forward)
	must(t, err)
	took = fastest(t, d, each, func(int) { d.Product(device.Dense(y, n), device.Dense(x, n), n, w, false) })
	c.OperationsPerSecond = 2 * float64(n) * float64(n) * float64(n) / took.Seconds()
	d.FreeWeights(w)
	for _, b := range []device.Buffer{x, y, master} {
		d.Free(b)
	}
	must(t, d.Sync())
	return c
}

// noise is a buffer of small random numbers that repeat after a while.
func noise(t *testing.T, d *cuda.Device, dtype device.DType, n int) device.Buffer {
	t.Helper()
	b, err := d.Allocate(device.ForActivations, dtype, n)
	must(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	numbers := make([]float32, min(n, 1<<20))
	for i := range numbers {
		numbers[i] = random.Float32()/8 - 1.0/16
	}
	d.Upload(b.Slice(0, len(numbers)), numbers)
	for known := len(numbers); known < n; { // doubles what is known, on the device
		more := min(known, n-known)
		d.Copy(b.Slice(known, known+more), b.Slice(0, more))
		known += more
	}
	return b
}

// fastest is the time of a call, by the device's clock, in the fastest of some tries of so many calls, after one that warms up.
func fastest(t *testing.T, d *cuda.Device, calls int, call func(i int)) time.Duration {
	t.Helper()
	best := time.Duration(0)
	for try := range tries + 1 {
		took, err := d.Time(func() {
			for i := range calls {
				call(i)
			}
		})
		must(t, err)
		if try > 0 && (best == 0 || took < best) {
			best = took
		}
	}
	one := best / time.Duration(calls)
	if one <= 0 {
		t.Fatalf("the device's clock says that %d calls took %v", calls, best)
	}
	return one
}
