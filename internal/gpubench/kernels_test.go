package gpubench

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// bed is where single operations are timed: the device, and memory that is given back at the end.
type bed struct {
	t      *testing.T
	device *cuda.Device
	config policy.Config
	rows   int
	random *rand.Rand
	owned  []device.Buffer
	forms  []device.Weights
	pages  []device.Pages
	draws  device.Draws
	// tensors are given back before what they are of.
	tensors []device.Tensors
	// positions and the numbers that rotate them.
	positions, cos, sin device.Buffer
	queries, keys       int // widths
}

// rotated is how many positions there are rotations for.
const rotated = 1024

func newBed(t *testing.T, c policy.Config, rows int) *bed {
	t.Helper()
	b := &bed{t: t, device: open(t), config: c, rows: rows, random: rand.New(rand.NewPCG(9, 10))}
	b.queries, b.keys = widths(c)
	b.positions = b.ints(rows, rotated)
	b.cos, b.sin = b.floats(rotated*c.HeadDim/2), b.floats(rotated*c.HeadDim/2)
	return b
}

func (b *bed) free() {
	b.t.Helper()
	for _, tensors := range b.tensors {
		b.device.FreeTensors(tensors)
	}
	for _, pages := range b.pages {
		b.device.FreePages(pages)
	}
	for _, w := range b.forms {
		b.device.FreeWeights(w)
	}
	b.device.FreeDraws(&b.draws)
	for _, buffer := range b.owned {
		b.device.Free(buffer)
	}
	shut(b.t, b.device)
}

func (b *bed) own(buffer device.Buffer) device.Buffer {
	b.owned = append(b.owned, buffer)
	return buffer
}

// activations are rows of random bf16 numbers.
func (b *bed) activations(rows, width int) device.Rows {
	b.t.Helper()
	return device.Dense(b.own(noise(b.t, b.device, device.BF16, rows*width)), width)
}

func (b *bed) floats(n int) device.Buffer {
	b.t.Helper()
	return b.own(noise(b.t, b.device, device.F32, n))
}

// ints are random ones below a bound.
func (b *bed) ints(n, below int) device.Buffer {
	b.t.Helper()
	numbers := make([]int32, n)
	for i := range numbers {
		numbers[i] = b.random.Int32N(int32(below))
	}
	return b.upload(numbers)
}

func (b *bed) upload(numbers []int32) device.Buffer {
	b.t.Helper()
	buffer, err := b.device.Allocate(device.ForActivations, device.I32, len(numbers))
	must(b.t, err)
	b.device.UploadInts(buffer, numbers)
	return b.own(buffer)
}

// weights are a matrix in the form that products read, and the matrix.
func (b *bed) weights(m matrix, use device.Use) (device.Weights, device.Buffer) {
	b.t.Helper()
	master := b.floats(m.out * m.in)
	w, err := b.device.NewWeights(master, device.BF16, m.out, m.in, use)
	must(b.t, err)
	b.forms = append(b.forms, w)
	return w, master
}

// heads are heads of rows of the width of all.
func (b *bed) heads(x device.Rows, count int) device.Heads {
	b.t.Helper()
	return device.Heads{
		X: x, Rows: b.rows, Count: count, Dim: b.config.HeadDim, Positions: b.positions, Cos: b.cos, Sin: b.sin,
		Weight: b.floats(b.config.HeadDim), Roots: b.floats(b.rows * count), Eps: float32(b.config.NormEps),
	}
}

// operation is one that is timed; i counts its calls.
type operation struct {
	name string
	run  func(i int)
}

// measure times operations and sets them against their floors, which have the same names in any order.
func (b *bed) measure(batch string, calls int, operations []operation, floors []Part, ceilings Ceilings) []Kernel {
	b.t.Helper()
	byName := map[string]Part{}
	for _, p := range floors {
		byName[p.Name] = p
	}
	if len(byName) != len(floors) || len(operations) != len(floors) {
		b.t.Errorf("%s: %d operations and %d floors of %d names", batch, len(operations), len(floors), len(byName))
	}
	var all []Kernel
	for _, o := range operations {
		p, ok := byName[o.name]
		if !ok {
			b.t.Errorf("%s: operation %q has no floor", batch, o.name)
			continue
		}
		took := fastest(b.t, b.device, calls, o.run)
		floor := p.Floor(ceilings.BytesPerSecond, ceilings.OperationsPerSecond)
		k := Kernel{Name: o.name, Batch: batch, Bytes: p.Bytes, Operations: p.Operations, FloorUS: 1e3 * milliseconds(floor), TookUS: 1e3 * milliseconds(took)}
		k.BytesPerSecond, k.OperationsPerSecond = p.Bytes/took.Seconds(), p.Operations/took.Seconds()
		k.OfFloor = k.FloorUS / k.TookUS
		b.t.Logf("%v", k)
		all = append(all, k)
	}
	return all
}

// String is a line for who reads along.
func (k Kernel) String() string {
	return fmt.Sprintf("%-10s %-24s %10.1f µs, floor %10.1f, %5.1f%%, %7.1f TFLOP/s, %5.2f TB/s", k.Batch, k.Name, k.TookUS, k.FloorUS, 100*k.OfFloor, k.OperationsPerSecond/1e12, k.BytesPerSecond/1e12)
}

// singly times the operations of training and of decoding one by one.
func singly(t *testing.T, c policy.Config, ceilings Ceilings) []Kernel {
	t.Helper()
	var all []Kernel
	for _, batch := range on([]string{"32x1024", "4x8192"}, []string{"2x9"}) {
		all = append(all, trainingKernels(t, c, batch, ceilings)...)
	}
	return append(all, decodingKernels(t, c, on(*sequences, 4), on(*prompt+*fresh/2, 40), on(*groupSize, 2), on(*prompt, 32), ceilings)...)
}
