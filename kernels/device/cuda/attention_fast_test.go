package cuda

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// fastAttention is attention in BF16 over sequences of so many rows.
func fastAttention(seed uint64, heads, keyHeads, dim int, size float64, lengths ...int32) longAttention {
	random := rand.New(rand.NewPCG(seed, 8))
	l := longAttention{dtype: device.BF16, heads: heads, keyHeads: keyHeads, dim: dim, offsets: []int32{0}}
	for i, n := range lengths {
		l.offsets = append(l.offsets, l.offsets[i]+n)
	}
	for _, values := range []*[]float32{&l.q, &l.k, &l.v, &l.dOut} {
		*values = make([]float32, l.rows()*l.width(values == &l.q || values == &l.dOut))
		scale := 1.0
		if values == &l.q || values == &l.k {
			scale = size
		}
		for j := range *values {
			(*values)[j] = round(l.dtype, float32(scale*random.NormFloat64()))
		}
	}
	return l
}

// keptResults are those of Attend and of AttendBack that reads what Attend kept, and what it kept. Gradients are of the out that is
// given, or of its own.
func (l longAttention) keptResults(t *testing.T, d device.Device, out []float32) [5][]float32 {
	t.Helper()
	a := l.on(t, d)
	q, k := l.width(true), l.width(false)
	outs, dOut := uploaded(t, d, l.dtype, nil, len(l.q)), uploaded(t, d, l.dtype, l.dOut, len(l.q))
	dq, dk, dv := uploaded(t, d, l.dtype, nil, len(l.q)), uploaded(t, d, l.dtype, nil, len(l.k)), uploaded(t, d, l.dtype, nil, len(l.v))
	a.Kept = uploaded(t, d, device.F32, nil, l.rows()*d.KeptWidth(l.dtype, l.heads))
	d.Attend(device.Dense(outs, q), a)
	got := downloaded(t, d, outs)
	if out != nil {
		d.Upload(outs, out)
	}
	d.AttendBack(device.Dense(dq, q), device.Dense(dk, k), device.Dense(dv, k), device.Dense(dOut, q), device.Dense(outs, q), a)
	return [5][]float32{got, downloaded(t, d, dq), downloaded(t, d, dk), downloaded(t, d, dv), downloaded(t, d, a.Kept)}
}

// far returns the root of the mean square of the differences, as a share of that of the numbers.
func far(got, want []float32) float64 {
	var off, all float64
	for i := range got {
		d := float64(got[i]) - float64(want[i])
		off += d * d
		all += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(off / all)
}

// fastShapes cross every border of tiles: of 32, 64 and 128 queries and positions, with 1 to 8 query heads a key head.
func fastShapes() []longAttention {
	return []longAttention{
		fastAttention(1, 4, 2, 128, 1, 1, 63, 64, 65, 200),
		fastAttention(2, 4, 4, 64, 1, 33, 0, 129, 1),
		fastAttention(3, 8, 1, 128, 1, 40, 17),
		fastAttention(4, 3, 1, 96, 1, 70, 5, 64),
		fastAttention(5, 2, 1, 8, 1, 130),
		fastAttention(6, 2, 2, 64, 5, 100, 31),
	}
}

// TestFastAttentionIsThatOfTheReference allows for the roundings to BF16 of shares and of slopes, 2⁻⁹ each at most, of out, which D is
// computed from, and of results: each is a third of that where it is as likely as any.
func TestFastAttentionIsThatOfTheReference(t *testing.T) {
	arithmetic(t)
	d, reference := open(t, Options{}), devicetest.NewReference()
	for _, l := range fastShapes() {
		t.Run(l.String(), func(t *testing.T) {
			want := l.results(t, reference)
			got := l.keptResults(t, d, nil)
			for i, name := range []string{"out", "dq", "dk", "dv"} {
				distance := far(got[i], want[i])
				if !(distance < 1.0/128) {
					t.Errorf("%s is off by %.3g of its size", name, distance)
				}
			}
			again := l.results(t, d)
			for i, name := range []string{"out", "dq", "dk", "dv"} {
				if !slices.Equal(got[i], again[i]) {
					t.Errorf("%s has other bits when nothing is kept", name)
				}
			}
		})
	}
}

// TestFastAttentionConforms has the suite look at it, in all orders of threads.
func TestFastAttentionConforms(t *testing.T) {
	arithmetic(t)
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			for _, f := range devicetest.Check(open(t, Options{}), devicetest.Options{Quick: order != 0 || raceEnabled}, "Attend", "AttendBack") {
				t.Error(f)
			}
		})
	}
}

// TestFastAttentionOfManyShapes is what a model's layers ask for, in a pack of sequences around the sizes of tiles.
func TestFastAttentionOfManyShapes(t *testing.T) {
	arithmetic(t)
	if testing.Short() || raceEnabled {
		t.Skip("it takes half a minute, and one goroutine")
	}
	d, reference := open(t, Options{}), devicetest.NewReference()
	for i, shape := range [][3]int{{16, 8, 128}, {4, 4, 64}, {8, 1, 128}, {7, 1, 64}} {
		l := fastAttention(uint64(20+i), shape[0], shape[1], shape[2], 1.5, 1, 63, 64, 65, 200, 257+256*int32(i%2))
		want, got := l.results(t, reference), l.keptResults(t, d, nil)
		for i, name := range []string{"out", "dq", "dk", "dv"} {
			if distance := far(got[i], want[i]); !(distance < 1.0/128) {
				t.Errorf("%v: %s is off by %.3g of its size", l, name, distance)
			}
		}
	}
}

// TestFastAttentionHasTheSameBitsInAllOrders would find a barrier or a wait that lacks.
func TestFastAttentionHasTheSameBitsInAllOrders(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{})
	for _, l := range []longAttention{fastAttention(7, 2, 1, 64, 1, 3, 150), fastAttention(8, 1, 1, 128, 1, 200)} {
		var want [5][]float32
		for name, order := range orders {
			set(t, "order", order)
			got := l.keptResults(t, d, nil)
			set(t, "order", 0)
			for i := range got {
				if slices.ContainsFunc(got[i], func(v float32) bool { return v != v }) {
					t.Errorf("%v, %s: result %d has what is not a number", l, name, i)
				} else if want[i] != nil && !slices.Equal(got[i], want[i]) {
					t.Errorf("%v, %s: result %d has other bits", l, name, i)
				}
			}
			want = got
		}
	}
}

// sequence is the i-th alone.
func (l longAttention) sequence(i int) longAttention {
	lo, hi := int(l.offsets[i]), int(l.offsets[i+1])
	cut := func(values []float32, queries bool) []float32 {
		return values[lo*l.width(queries) : hi*l.width(queries)]
	}
	l.q, l.k, l.v, l.dOut = cut(l.q, true), cut(l.k, false), cut(l.v, false), cut(l.dOut, true)
	l.offsets = []int32{0, int32(hi - lo)}
	return l
}

// joined packs sequences.
func joined(sequences ...longAttention) longAttention {
	all := sequences[0]
	for _, l := range sequences[1:] {
		all.q, all.k = slices.Concat(all.q, l.q), slices.Concat(all.k, l.k)
		all.v, all.dOut = slices.Concat(all.v, l.v), slices.Concat(all.dOut, l.dOut)
		last := all.offsets[len(all.offsets)-1]
		all.offsets = append(slices.Clone(all.offsets), last+l.offsets[1])
	}
	return all
}

// TestFastAttentionOfASequenceIsItsOwn packs sequences in other orders, alone, and beside one of what is not a number: the
// bits of its rows stay.
func TestFastAttentionOfASequenceIsItsOwn(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{})
	for _, packed := range []longAttention{fastAttention(9, 4, 2, 128, 2, 40, 1, 70), fastAttention(10, 3, 1, 64, 2, 129, 31, 64)} {
		want := packed.keptResults(t, d, nil)
		var bad longAttention
		for i := range 3 {
			bad = fastAttention(11, packed.heads, packed.keyHeads, packed.dim, math.NaN(), 35)
			bad.v = slices.Repeat([]float32{float32(math.NaN())}, len(bad.v))
			bad.dOut = slices.Repeat([]float32{float32(math.Inf(1))}, len(bad.dOut))
			one := packed.sequence(i)
			for name, pack := range map[string]longAttention{
				"alone": joined(one), "first": joined(one, bad), "last": joined(bad, one), "between": joined(bad, one, bad),
				"turned": joined(one, packed.sequence((i+1)%3), packed.sequence((i+2)%3)),
			} {
				lead := 0
				if name == "last" || name == "between" {
					lead = bad.rows()
				}
				got := pack.keptResults(t, d, nil)
				for j := range got {
					width := len(got[j]) / pack.rows()
					own := got[j][lead*width : (lead+one.rows())*width]
					if !slices.Equal(own, want[j][int(packed.offsets[i])*width:int(packed.offsets[i+1])*width]) {
						t.Errorf("%v: sequence %d %s: result %d has other bits", packed, i, name, j)
					}
				}
			}
		}
	}
}

// TestFastAttentionOfLargeScores has shares that are 0 or 1, and queries and keys far beyond what an exponential takes.
// Slopes are then what the rounding of out leaves of 0, in the exact mode's kernels as well.
func TestFastAttentionOfLargeScores(t *testing.T) {
	arithmetic(t)
	d, exact, reference := open(t, Options{}), open(t, Options{Exact: true}), devicetest.NewReference()
	l := fastAttention(12, 2, 1, 64, 60, 90, 33)
	want, got, other := l.results(t, reference), l.keptResults(t, d, nil), l.results(t, exact)
	for i, name := range []string{"out", "dq", "dk", "dv"} {
		if distance, allowed := far(got[i], want[i]), 1.0/512+1.25*far(other[i], want[i]); !(distance < allowed) {
			t.Errorf("%s is off by %.3g of its size, want at most %.3g", name, distance, allowed)
		}
	}
}

// TestFastAttentionKeepsTheLogarithmOfTheSum compares what is kept with the sum itself.
func TestFastAttentionKeepsTheLogarithmOfTheSum(t *testing.T) {
	arithmetic(t)
	l := fastAttention(13, 6, 2, 64, 1, 20, 150)
	kept, share := l.keptResults(t, open(t, Options{}), nil)[4], 3
	for s := range len(l.offsets) - 1 {
		for row := l.offsets[s]; row < l.offsets[s+1]; row++ {
			for head := range l.heads {
				sum := 0.0
				for other := l.offsets[s]; other <= row; other++ {
					score := 0.0
					for c := range l.dim {
						score += float64(l.q[int(row)*l.width(true)+head*l.dim+c]) * float64(l.k[int(other)*l.width(false)+head/share*l.dim+c])
					}
					sum += math.Exp(score * float64(l.scale()))
				}
				if got, want := float64(kept[int(row)*l.heads+head]), math.Log2(sum); math.Abs(got-want) > 1e-5 {
					t.Fatalf("row %d, head %d: kept %v, want %v", row, head, got, want)
				}
			}
		}
	}
}
