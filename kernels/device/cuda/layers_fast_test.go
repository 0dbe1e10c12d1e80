package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// layerBench lays the same numbers out on any device, in BF16 at multiples of 16 bytes.
type layerBench struct {
	t      *testing.T
	d      device.Device
	random *rand.Rand
}

func (b *layerBench) values(n int, center float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = nearest(float32(center + b.random.NormFloat64()))
	}
	return out
}

func (b *layerBench) rows(rows, width, stride int) device.Rows {
	return device.Rows{Data: uploaded(b.t, b.d, device.BF16, b.values(rows*stride, 0), rows*stride), Stride: stride}.Columns(stride - width)
}

func (b *layerBench) numbers(n int, center float64) device.Buffer {
	return uploaded(b.t, b.d, device.F32, b.values(n, center), n)
}

// layerResults are those of the fast layers' operations on a device, by name.
func layerResults(t *testing.T, d device.Device, rows, width, heads, dim int) map[string][]float32 {
	t.Helper()
	b := &layerBench{t, d, rand.New(rand.NewPCG(uint64(width), uint64(rows)))}
	results := map[string][]float32{}
	keep := func(name string, x device.Buffer) { results[name] = downloaded(t, d, x) }
	x, y, weight, roots := b.rows(rows, width, width+8), b.rows(rows, width, width), b.numbers(width, 1), b.numbers(rows, 0)
	d.RMSNorm(y, x, weight, roots, rows, 1e-6)
	keep("RMSNorm", y.Data)
	keep("RMSNorm's roots", roots)
	dy, dx, dWeight := b.rows(rows, width, width), b.rows(rows, width, width+16), b.numbers(width, 0)
	d.RMSNormBack(dx, dWeight, dy, x, weight, roots, rows)
	keep("RMSNormBack's dx", dx.Data)
	keep("RMSNormBack's y", dy.Data)
	keep("RMSNormBack's dWeight", dWeight)
	gateUp, act, dAct := b.rows(rows, 2*width, 2*width+8), b.rows(rows, width, width), b.rows(rows, width, width)
	d.SwiGLU(act, gateUp, rows, width)
	keep("SwiGLU", act.Data)
	d.SwiGLUBack(gateUp, dAct, gateUp, rows, width)
	keep("SwiGLUBack's dGateUp", gateUp.Data)
	keep("SwiGLUBack's y", dAct.Data)

	positions := make([]int32, rows)
	for i := range positions {
		positions[i] = int32(b.random.IntN(40))
	}
	cos, sin := make([]float32, 40*dim/2), make([]float32, 40*dim/2)
	for i := range cos {
		s, c := math.Sincos(6 * b.random.Float64())
		cos[i], sin[i] = float32(c), float32(s)
	}
	at, err := d.Allocate(device.ForActivations, device.I32, rows)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Free(at) })
	d.UploadInts(at, positions)
	h := device.Heads{X: b.rows(rows, heads*dim, heads*dim+dim), Rows: rows, Count: heads, Dim: dim, Positions: at, Eps: 1e-6,
		Cos: uploaded(t, d, device.F32, cos, len(cos)), Sin: uploaded(t, d, device.F32, sin, len(sin))}
	for _, norm := range []string{"", " with a norm"} {
		if norm != "" {
			h.Weight, h.Roots = b.numbers(dim, 1), b.numbers(rows*heads, 0)
		}
		to := b.rows(rows, heads*dim, heads*dim)
		d.Rotate(to, h)
		keep("Rotate"+norm, to.Data)
		k := h
		if k.Count, k.X = (heads+1)/2, b.rows(rows, (heads+1)/2*dim, (heads+3)/2*dim); norm != "" {
			k.Weight, k.Roots = b.numbers(dim, 1), b.numbers(rows*k.Count, 0)
		}
		yq, yk := b.rows(rows, heads*dim, heads*dim), b.rows(rows, k.Count*dim, k.Count*dim)
		d.RotateBoth(yq, yk, h, k)
		keep("RotateBoth's queries"+norm, yq.Data)
		keep("RotateBoth's keys"+norm, yk.Data)
		d.Rotate(yk, k)
		if !slices.Equal(results["RotateBoth's queries"+norm], results["Rotate"+norm]) || !slices.Equal(results["RotateBoth's keys"+norm], downloaded(t, d, yk.Data)) {
			t.Errorf("RotateBoth%s has other bits than Rotate", norm)
		}
		from, dX, sum := b.rows(rows, heads*dim, heads*dim), b.rows(rows, heads*dim, heads*dim+8), device.Buffer{}
		if norm != "" {
			keep("Rotate's roots", h.Roots)
			sum = b.numbers(dim, 0)
		}
		d.RotateBack(dX, sum, from, h)
		keep("RotateBack"+norm, dX.Data)
		if norm != "" {
			keep("RotateBack's dWeight", sum)
		}
	}
	return results
}

// TestFastLayersAreThoseOfTheReference allows for the rounding of results to BF16, and a little.
func TestFastLayersAreThoseOfTheReference(t *testing.T) {
	arithmetic(t)
	for _, shape := range [][4]int{{70, 1024, 16, 128}, {5, 2048, 8, 64}, {67, 264, 3, 16}, {2, 4096, 6, 256}, {33, 8, 1, 512}, {130, 896, 5, 32}} {
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			rows, width, heads, dim := shape[0], shape[1], shape[2], shape[3]
			want := layerResults(t, devicetest.NewReference(), rows, width, heads, dim)
			var first map[string][]float32
			for name, order := range orders {
				set(t, "order", order)
				got := layerResults(t, open(t, Options{}), rows, width, heads, dim)
				set(t, "order", 0)
				for part, values := range got {
					if off := far(values, want[part]); !(off < 1.0/256) {
						t.Errorf("%s: threads %s: off by %.3g of its size", part, name, off)
					}
					if first != nil && !slices.Equal(values, first[part]) {
						t.Errorf("%s: threads %s give other bits", part, name)
					}
				}
				first = got
				if !slices.Equal(got["RMSNormBack's y"], got["RMSNorm"]) || !slices.Equal(got["SwiGLUBack's y"], got["SwiGLU"]) {
					t.Errorf("threads %s: what is written again has other bits", name)
				}
			}
		})
	}
}
