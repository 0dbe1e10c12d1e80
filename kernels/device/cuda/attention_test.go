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

// longAttention is attention over sequences of several parts, which the suite's are too short for.
type longAttention struct {
	dtype                device.DType
	heads, keyHeads, dim int
	offsets              []int32
	q, k, v, dOut        []float32
}

// longAttentions are heads of each variant's width, with and without reads of four elements, that have and have not
// more query heads than the attention of single rows takes.
func longAttentions() []longAttention {
	random := rand.New(rand.NewPCG(7, 1))
	var all []longAttention
	for i, shape := range [][3]int{{4, 2, 64}, {3, 3, 6}, {9, 1, 10}, {1, 1, 256}, {8, 1, 34}, {2, 1, 130}} {
		for _, dtype := range []device.DType{device.F32, device.BF16} {
			l := longAttention{dtype: dtype, heads: shape[0], keyHeads: shape[1], dim: shape[2], offsets: []int32{0, 33, 33, 290 + int32(i), 291 + int32(i), 324 + int32(i)}}
			if l.dim < 8 {
				l.offsets[5] = 900
			}
			for _, values := range []*[]float32{&l.q, &l.k, &l.v, &l.dOut} {
				*values = make([]float32, l.rows()*l.width(values == &l.q || values == &l.dOut))
				for j := range *values {
					(*values)[j] = round(dtype, float32(random.NormFloat64()))
				}
			}
			all = append(all, l)
		}
	}
	return all
}

func round(t device.DType, v float32) float32 {
	if t == device.BF16 { // towards zero is good enough
		return math.Float32frombits(math.Float32bits(v) &^ 0xffff)
	}
	return v
}

func (l longAttention) rows() int { return int(l.offsets[len(l.offsets)-1]) }

func (l longAttention) String() string {
	return fmt.Sprintf("%v, %d heads over %d of %d", l.dtype, l.heads, l.keyHeads, l.dim)
}

// width is that of a row of queries or of keys.
func (l longAttention) width(queries bool) int {
	if queries {
		return l.heads * l.dim
	}
	return l.keyHeads * l.dim
}

// uploaded is a new buffer with numbers; nil are zeros.
func uploaded(t *testing.T, d device.Device, dtype device.DType, values []float32, n int) device.Buffer {
	t.Helper()
	b, err := d.Allocate(device.ForActivations, dtype, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Free(b) })
	if values != nil {
		d.Upload(b, values)
	}
	return b
}

func downloaded(t *testing.T, d device.Device, b device.Buffer) []float32 {
	t.Helper()
	values := make([]float32, b.Len())
	if err := d.Download(values, b); err != nil {
		t.Fatal(err)
	}
	return values
}

func (l longAttention) scale() float32 { return float32(1 / math.Sqrt(float64(l.dim))) }

// on gives the operands to a device.
func (l longAttention) on(t *testing.T, d device.Device) device.Attended {
	t.Helper()
	offsets, err := d.Allocate(device.ForActivations, device.I32, len(l.offsets))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Free(offsets) })
	d.UploadInts(offsets, l.offsets)
	a := device.Attended{Offsets: device.Offsets{Host: l.offsets, Device: offsets}, Heads: l.heads, KVHeads: l.keyHeads, Dim: l.dim, Scale: l.scale()}
	a.Q = device.Dense(uploaded(t, d, l.dtype, l.q, len(l.q)), l.width(true))
	a.K = device.Dense(uploaded(t, d, l.dtype, l.k, len(l.k)), l.width(false))
	a.V = device.Dense(uploaded(t, d, l.dtype, l.v, len(l.v)), l.width(false))
	return a
}

// results are those of Attend and of AttendBack.
func (l longAttention) results(t *testing.T, d device.Device) [4][]float32 {
	t.Helper()
	a := l.on(t, d)
	q, k := l.width(true), l.width(false)
	out, dOut := uploaded(t, d, l.dtype, nil, len(l.q)), uploaded(t, d, l.dtype, l.dOut, len(l.q))
	dq, dk, dv := uploaded(t, d, l.dtype, nil, len(l.q)), uploaded(t, d, l.dtype, nil, len(l.k)), uploaded(t, d, l.dtype, nil, len(l.v))
	d.Attend(device.Dense(out, q), a)
	d.AttendBack(device.Dense(dq, q), device.Dense(dk, k), device.Dense(dv, k), device.Dense(dOut, q), device.Dense(out, q), a)
	return [4][]float32{downloaded(t, d, out), downloaded(t, d, dq), downloaded(t, d, dk), downloaded(t, d, dv)}
}

// decoded is the attention over pages: all rows but the last few of each sequence at once, then one at a time.
func (l longAttention) decoded(t *testing.T, d device.Device) []float32 {
	t.Helper()
	a := l.on(t, d)
	n := len(l.offsets) - 1
	at := &device.Placement{Cached: make([]int32, n), Tables: make([][]int32, n)}
	pages := 0
	for i := range n {
		for range blocks(int(l.offsets[i+1]-l.offsets[i]), device.PageTokens) {
			at.Tables[i] = append([]int32{int32(pages)}, at.Tables[i]...)
			pages++
		}
	}
	cache, err := d.NewPages(device.PageShape{DType: l.dtype, Layers: 2, KVHeads: l.keyHeads, Dim: l.dim, Pages: pages})
	if err != nil {
		t.Fatal(err)
	}
	defer d.FreePages(cache)
	all := make([]float32, len(l.q))
	q, k := l.width(true), l.width(false)
	for left := int32(3); left >= 0; left-- {
		at.Offsets = []int32{0}
		var from []int
		for i := range n {
			begin, end := l.offsets[i]+at.Cached[i], max(l.offsets[i], l.offsets[i+1]-left)
			from = append(from, int(begin))
			at.Offsets = append(at.Offsets, at.Offsets[i]+end-begin)
		}
		rows := int(at.Offsets[n])
		qs, out := uploaded(t, d, l.dtype, nil, max(1, rows*q)), uploaded(t, d, l.dtype, nil, max(1, rows*q))
		ks, vs := uploaded(t, d, l.dtype, nil, max(1, rows*k)), uploaded(t, d, l.dtype, nil, max(1, rows*k))
		for i, begin := range from {
			to, count := int(at.Offsets[i]), int(at.Offsets[i+1]-at.Offsets[i])
			d.CopyRows(device.Dense(qs, q).From(to), a.Q.From(begin), count, q)
			d.CopyRows(device.Dense(ks, k).From(to), a.K.From(begin), count, k)
			d.CopyRows(device.Dense(vs, k).From(to), a.V.From(begin), count, k)
		}
		d.Place(at)
		d.WritePages(cache, 1, device.Dense(ks, k), device.Dense(vs, k), at)
		d.AttendPages(device.Dense(out, q), device.Dense(qs, q), cache, 1, l.heads, l.scale(), at)
		got := downloaded(t, d, out)
		for i, begin := range from {
			copy(all[begin*q:], got[int(at.Offsets[i])*q:int(at.Offsets[i+1])*q])
			at.Cached[i] += at.Offsets[i+1] - at.Offsets[i]
		}
	}
	d.Free(at.Device)
	return all
}

func TestLongAttentionIsThatOfTheReference(t *testing.T) {
	arithmetic(t)
	d, reference := open(t, Options{Exact: true}), devicetest.NewReference()
	for _, l := range longAttentions() {
		t.Run(l.String(), func(t *testing.T) {
			got, want := l.results(t, d), l.results(t, reference)
			allowed := 1e-5
			if l.dtype == device.BF16 {
				allowed = 1.0 / 64
			}
			for i, name := range []string{"out", "dq", "dk", "dv"} {
				largest, worst := 0.0, 0.0
				for j := range got[i] {
					largest = max(largest, math.Abs(float64(want[i][j])))
					worst = max(worst, math.Abs(float64(got[i][j])-float64(want[i][j])))
				}
				if !(worst <= allowed*largest) {
					t.Errorf("%s is off by %g, the largest is %g", name, worst, largest)
				}
			}
		})
	}
}

// TestLongAttentionOverPagesHasTheBitsOfAttend decodes behind histories of several parts, by tiles and row by row.
func TestLongAttentionOverPagesHasTheBitsOfAttend(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{Exact: true})
	for _, l := range longAttentions() {
		t.Run(l.String(), func(t *testing.T) {
			if got, want := l.decoded(t, d), l.results(t, d)[0]; !slices.Equal(got, want) {
				t.Error("the cache gives other bits")
			}
		})
	}
}

// scarce is a device that finds no memory for the parts of single rows.
type scarce struct {
	*Device
	t *testing.T
}

func (d scarce) AttendPages(out, q device.Rows, p device.Pages, layer, heads int, scale float32, at *device.Placement) {
	set(d.t, "memory", 1)
	defer set(d.t, "memory", 1<<30)
	if _, err := d.Allocate(device.ForWorkspace, device.F32, 1); err == nil {
		d.t.Error("there is memory")
	}
	d.Device.AttendPages(out, q, p, layer, heads, scale, at)
}

// TestDecodingWithoutMemoryForParts falls back to tiles, which have the same bits.
func TestDecodingWithoutMemoryForParts(t *testing.T) {
	arithmetic(t)
	d := scarce{open(t, Options{Exact: true, Separate: true}), t}
	l := longAttentions()[0]
	if got, want := l.decoded(t, d), l.results(t, d)[0]; !slices.Equal(got, want) {
		t.Error("the cache gives other bits")
	}
}
