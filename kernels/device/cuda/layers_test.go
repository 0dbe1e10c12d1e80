package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// orders are the orders in which the threads of a block run.
var orders = map[string]int64{"ascending": 0, "descending": 1, "shuffled": 20261121}

// lab is a device with operands for a test.
type lab struct {
	*testing.T
	d      *Device
	random *rand.Rand
}

func newLab(t *testing.T) *lab {
	t.Helper()
	return &lab{t, open(t, Options{Exact: true}), rand.New(rand.NewPCG(7, 11))}
}

// draw draws numbers that both compute types hold.
func (l *lab) draw(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = nearest(float32(l.random.NormFloat64()))
	}
	return out
}

// nearest rounds to bf16.
func nearest(v float32) float32 {
	u := math.Float32bits(v)
	return math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff)
}

func (l *lab) put(t device.DType, values []float32) device.Buffer {
	l.Helper()
	b, err := l.d.Allocate(device.ForWorkspace, t, len(values))
	if err != nil {
		l.Fatal(err)
	}
	l.d.Upload(b, values)
	return b
}

func (l *lab) putInts(values []int32) device.Buffer {
	l.Helper()
	b, err := l.d.Allocate(device.ForWorkspace, device.I32, len(values))
	if err != nil {
		l.Fatal(err)
	}
	l.d.UploadInts(b, values)
	return b
}

func (l *lab) get(b device.Buffer) []float32 {
	l.Helper()
	out := make([]float32, b.Len())
	if err := l.d.Download(out, b); err != nil {
		l.Fatal(err)
	}
	return out
}

// equal compares bits.
func (l *lab) equal(what string, got, want []float32) {
	l.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			l.Errorf("%s: element %d is %g, want %g", what, i, got[i], want[i])
			return
		}
	}
}

// cuts are ways to cut rows into calls, at the borders of tiles and off them.
func cuts(rows int) [][]int {
	return [][]int{{rows}, {1, rows}, {127, 128, rows}, {100, 256, 257, rows}}
}

// TestNormWeightGradIsAChain wants each element to be one chain over the rows in ascending order, whatever the calls.
func TestNormWeightGradIsAChain(t *testing.T) {
	arithmetic(t)
	l := newLab(t)
	const rows, width = 300, 33
	x, dy, start, roots := l.draw(rows*width), l.draw(rows*width), l.draw(width), l.draw(rows)
	want := slices.Clone(start)
	for i := range rows {
		for j := range width {
			scaled := x[i*width+j] * roots[i]
			term := dy[i*width+j] * scaled
			want[j] += term
		}
	}
	for _, dtype := range []device.DType{device.F32, device.BF16} {
		xs, dx := device.Dense(l.put(dtype, x), width), device.Dense(l.put(dtype, dy), width)
		weight, r := l.put(device.F32, start), l.put(device.F32, roots)
		for _, ends := range cuts(rows) {
			sum, dys, lo := l.put(device.F32, start), device.Dense(l.put(dtype, dy), width), 0
			for _, hi := range ends {
				l.d.RMSNormBack(dx.From(lo), sum, dys.From(lo), xs.From(lo), weight, r.Slice(lo, rows), hi-lo)
				lo = hi
			}
			l.equal(dtype.String(), l.get(sum), want)
		}
	}
}

// TestHeadsWeightGradIsAChain wants the same sums of a head norm's weight however the rows are cut, into calls and by
// the room for their terms.
func TestHeadsWeightGradIsAChain(t *testing.T) {
	arithmetic(t)
	l := newLab(t)
	const rows, count, dim, most = 300, 3, 34, 9
	const width = count * dim
	x, dy, start, roots := l.draw(rows*width), l.draw(rows*width), l.draw(dim), l.draw(rows*count)
	positions := make([]int32, rows)
	for i := range positions {
		positions[i] = l.random.Int32N(most)
	}
	cos, sin := l.put(device.F32, l.draw(most*dim/2)), l.put(device.F32, l.draw(most*dim/2))
	weight, r, at := l.put(device.F32, l.draw(dim)), l.put(device.F32, roots), l.putInts(positions)
	for _, dtype := range []device.DType{device.F32, device.BF16} {
		xs, dys, dx := device.Dense(l.put(dtype, x), width), device.Dense(l.put(dtype, dy), width), device.Dense(l.put(dtype, dy), width)
		var want []float32
		for _, room := range []int{termsElements, 0, 130 * dim, 128*dim + 1} {
			for _, ends := range cuts(rows) {
				sum, lo := l.put(device.F32, start), 0
				for _, hi := range ends {
					l.d.rotateBack(dx.From(lo), sum, dys.From(lo), device.Heads{X: xs.From(lo), Rows: hi - lo, Count: count, Dim: dim,
						Positions: at.Slice(lo, rows), Cos: cos, Sin: sin, Weight: weight, Roots: r.Slice(lo*count, rows*count)}, room)
					lo = hi
				}
				if want == nil {
					want = l.get(sum)
				}
				l.equal(dtype.String(), l.get(sum), want)
			}
		}
	}
}

// TestGatherConverts gathers rows wider than a block takes at once from tables of either type.
func TestGatherConverts(t *testing.T) {
	arithmetic(t)
	l := newLab(t)
	const width, entries = 1031, 5
	table, index := make([]float32, entries*width), []int32{4, 0, 4, 2}
	for i := range table {
		table[i] = float32(l.random.NormFloat64())
	}
	for _, types := range [][2]device.DType{{device.F32, device.F32}, {device.F32, device.BF16}, {device.BF16, device.BF16}} {
		dst := l.put(types[1], make([]float32, len(index)*width))
		l.d.Gather(device.Dense(dst, width), device.Dense(l.put(types[0], table), width), l.putInts(index), len(index), width)
		var want []float32
		for _, number := range index {
			for _, v := range table[int(number)*width:][:width] {
				if types[1] == device.BF16 {
					v = nearest(v)
				}
				want = append(want, v)
			}
		}
		l.equal(types[0].String()+" to "+types[1].String(), l.get(dst), want)
	}
}

// TestNumbersOutsideAreNoticed wants whoever waits next to hear of numbers that only the device has.
func TestNumbersOutsideAreNoticed(t *testing.T) {
	arithmetic(t)
	const rows, width = 3, 4
	for _, bad := range []int32{-1, rows, math.MaxInt32, math.MinInt32} {
		l := newLab(t)
		matrix := func() device.Rows { return device.Dense(l.put(device.F32, l.draw(rows*width)), width) }
		numbers, table := l.putInts([]int32{0, 1, bad}), matrix()
		before := l.get(table.Data)
		heads := device.Heads{X: matrix(), Rows: rows, Count: 2, Dim: 2, Positions: numbers, Cos: l.put(device.F32, l.draw(rows)),
			Sin: l.put(device.F32, l.draw(rows)), Weight: l.put(device.F32, l.draw(2)), Roots: l.put(device.F32, l.draw(2*rows))}
		for _, test := range []struct {
			name, want string
			call       func()
		}{
			{"Gather", "row 2: index %d is outside the table", func() { l.d.Gather(matrix(), table, numbers, rows, width) }},
			{"ScatterAdd", "row 2: index %d is outside the table", func() { l.d.ScatterAdd(matrix(), numbers, table, rows, width) }},
			{"Rotate", "row 2: position %d is outside", func() { l.d.Rotate(matrix(), heads) }},
			{"RotateBack", "row 2: position %d is outside", func() { l.d.RotateBack(matrix(), device.Buffer{}, table, heads) }},
			{"RotateBack of weights", "row 2: position %d is outside", func() { l.d.RotateBack(matrix(), l.put(device.F32, l.draw(2)), table, heads) }},
		} {
			test.call()
			err, want := l.d.Sync(), fmt.Sprintf(test.want, bad)
			var mistake *Mistake
			if !errors.As(err, &mistake) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: want %q, got %v", test.name, want, err)
			}
		}
		l.equal("an input", l.get(table.Data), before)
	}
}

// TestNaNShowsInGradients wants a NaN of a row's gradient in the row's results and in the sums.
func TestNaNShowsInGradients(t *testing.T) {
	arithmetic(t)
	l := newLab(t)
	const rows, width, bad = 5, 6, 3*6 + 2
	nan := float32(math.NaN())
	dy := l.draw(rows * width)
	dy[bad] = nan
	shows := func(what string, b device.Buffer, rows int) {
		got := l.get(b)
		each := len(got) / rows
		for i := range rows {
			has := slices.ContainsFunc(got[i*each:(i+1)*each], func(v float32) bool { return v != v })
			if wanted := rows == 1 || i == 3; has != wanted {
				l.Errorf("%s: row %d: NaN is %v, want %v", what, i, has, wanted)
			}
		}
	}
	matrix := func(columns int) device.Buffer { return l.put(device.F32, l.draw(rows*columns)) }
	vector := func(n int) device.Buffer { return l.put(device.F32, l.draw(n)) }
	d := func() device.Rows { return device.Dense(l.put(device.F32, dy), width) }

	dx, sum := matrix(width), vector(width)
	l.d.RMSNormBack(device.Dense(dx, width), sum, d(), device.Dense(matrix(width), width), vector(width), vector(rows), rows)
	shows("RMSNormBack: dx", dx, rows)
	shows("RMSNormBack: dWeight", sum, 1)

	dx = matrix(2 * width)
	l.d.SwiGLUBack(device.Dense(dx, 2*width), d(), device.Dense(matrix(2*width), 2*width), rows, width)
	shows("SwiGLUBack", dx, rows)

	dx, sum = matrix(width), vector(2)
	l.d.RotateBack(device.Dense(dx, width), sum, d(), device.Heads{X: device.Dense(matrix(width), width), Rows: rows, Count: 3, Dim: 2,
		Positions: l.putInts(make([]int32, rows)), Cos: vector(1), Sin: vector(1), Weight: vector(2), Roots: vector(3 * rows)})
	shows("RotateBack: dx", dx, rows)
	shows("RotateBack: dWeight", sum, 1)

	table := matrix(width)
	l.d.ScatterAdd(device.Dense(table, width), l.putInts([]int32{0, 1, 2, 3, 4}), d(), rows, width)
	shows("ScatterAdd", table, rows)
}
