package cuda

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// chain is ScatterAdd on the host: each sum of two rows is rounded to the table's type.
func chain(t device.DType, table, src []float32, index []int32, width int) []float32 {
	sums := slices.Clone(table)
	for i, number := range index {
		for j := range width {
			v := sums[int(number)*width+j] + src[i*width+j]
			if t == device.BF16 {
				v = nearest(v)
			}
			sums[int(number)*width+j] = v
		}
	}
	return sums
}

// tableTypes are the types of a table and of the rows that are added to it.
var tableTypes = [][2]device.DType{{device.F32, device.F32}, {device.F32, device.BF16}, {device.BF16, device.BF16}}

// TestScatterAddIsAChain adds more rows than one tile has, many of one number, between all types.
func TestScatterAddIsAChain(t *testing.T) {
	arithmetic(t)
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			l := newLab(t)
			const rows, width, entries = 4*tileRows + 77, 3, 50
			src, table, index := l.draw(rows*width), l.draw(entries*width), make([]int32, rows)
			for i := range index {
				if index[i] = 31; i%3 > 0 { // every third row is of one number
					index[i] = l.random.Int32N(entries)
				}
			}
			at := l.putInts(index)
			for _, types := range tableTypes {
				want := chain(types[0], table, src, index, width)
				from := device.Dense(l.put(types[1], src), width)
				for _, ends := range [][]int{{rows}, {tileRows + 1, rows}} {
					to, lo := device.Dense(l.put(types[0], table), width), 0
					for _, hi := range ends {
						l.d.ScatterAdd(to, at.Slice(lo, rows), from.From(lo), hi-lo, width)
						lo = hi
					}
					l.equal(types[1].String()+" to "+types[0].String(), l.get(to.Data), want)
				}
			}
		})
	}
}

// numberings are ways to give rows the numbers of a table.
var numberings = map[string]func(r *rand.Rand, index []int32, entries int){
	"one number":      func(_ *rand.Rand, index []int32, entries int) { fillInts(index, int32(entries-1)) },
	"the first alone": func(_ *rand.Rand, index []int32, _ int) { fillInts(index, 0) },
	"all numbers once": func(r *rand.Rand, index []int32, entries int) {
		for i, number := range r.Perm(entries)[:len(index)] {
			index[i] = int32(number)
		}
	},
	"few numbers": func(r *rand.Rand, index []int32, entries int) {
		for i := range index {
			index[i] = int32(r.IntN(3) * (entries - 1) / 2)
		}
	},
	"as words are": func(r *rand.Rand, index []int32, entries int) {
		z := rand.NewZipf(r, 1.2, 1, uint64(entries-1))
		for i := range index {
			index[i] = int32(z.Uint64())
		}
	},
	// As many rows as are added by one kernel, as by the other, and one more, from all places of a tile.
	"as long as it gets": func(r *rand.Rand, index []int32, entries int) {
		number := 0
		for from, i := 0, 0; from < len(index); i++ {
			n := min(len(index)-from, longRows-1+i%3)
			fillInts(index[from:from+n], int32(number%entries))
			from, number = from+n, number+entries/7+1
		}
		r.Shuffle(len(index), func(i, j int) { index[i], index[j] = index[j], index[i] })
	},
	"in order, with gaps": func(_ *rand.Rand, index []int32, entries int) {
		for i := range index {
			index[i] = int32(i * entries / len(index))
		}
	},
}

func fillInts(to []int32, v int32) {
	for i := range to {
		to[i] = v
	}
}

// TestScatterAddKeepsTheOrder holds the sums of many numberings to the bits of a chain, over numbers of up to three digits, widths
// on both sides of what a thread, a warp and a block have, and rows that are not at multiples of 16 bytes.
func TestScatterAddKeepsTheOrder(t *testing.T) {
	arithmetic(t)
	shapes := []struct{ rows, width, entries, gap int }{
		{1, 1, 1, 0}, {2, 5, 2, 3}, {127, 8, 200, 0}, {128, 33, 128, 8}, {129, 40, 512, 1}, {512, 9, 513, 0}, {513, 24, 600, 0}, {700, 1100, 700, 4},
		{3*tileRows + 1, 2, 1 << 18, 0}, {2 * tileRows, 7, 1<<18 - 1, 0},
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			for i, s := range shapes {
				l := newLab(t)
				for _, how := range slices.Sorted(maps.Keys(numberings)) {
					index := make([]int32, s.rows)
					numberings[how](l.random, index, s.entries)
					src, table := l.draw(s.rows*s.width), l.draw(s.entries*s.width)
					types := tableTypes[(i+len(how))%3]
					want := chain(types[0], table, src, index, s.width)
					from, to := l.spread(types[1], src, s.rows, s.width, s.gap), l.spread(types[0], table, s.entries, s.width, s.gap)
					l.d.ScatterAdd(to, l.putInts(index), from, s.rows, s.width)
					l.equal(fmt.Sprintf("%d rows of %d to %d of them, %s", s.rows, s.width, s.entries, how), l.gathered(to, s.entries, s.width), want)
				}
			}
		})
	}
}

// spread are rows with gaps behind them, from an element on that is none of 16 bytes where there are gaps.
func (l *lab) spread(t device.DType, values []float32, rows, width, gap int) device.Rows {
	l.Helper()
	stride, begin := width+gap, min(gap, 1)
	all := make([]float32, begin+rows*stride)
	for i := range rows {
		copy(all[begin+i*stride:], values[i*width:(i+1)*width])
	}
	b := l.put(t, all)
	return device.Rows{Data: b.Slice(begin, b.Len()-gap), Stride: stride}
}

// gathered are rows, one after the other.
func (l *lab) gathered(from device.Rows, rows, width int) []float32 {
	l.Helper()
	all := l.get(from.Data)
	var values []float32
	for i := range rows {
		values = append(values, all[i*from.Stride:i*from.Stride+width]...)
	}
	return values
}

// TestScatterAddLeavesOthersAlone adds nothing for numbers outside of the table, and adds the other rows all the same.
func TestScatterAddLeavesOthersAlone(t *testing.T) {
	arithmetic(t)
	for name, order := range orders {
		set(t, "order", order)
		for _, rows := range []int{5, tileRows, 2*tileRows + 3} {
			l := newLab(t)
			const width, entries = 9, 31
			src, table, index := l.draw(rows*width), l.draw(entries*width), make([]int32, rows)
			var sound []int32
			var added []float32
			for i := range index {
				if index[i] = int32(l.random.IntN(entries)); i%5 == 1 {
					index[i] = []int32{-1, entries, 1 << 30, -1 << 31}[i/5%4]
					continue
				}
				sound, added = append(sound, index[i]), append(added, src[i*width:(i+1)*width]...)
			}
			to := device.Dense(l.put(device.F32, table), width)
			l.d.ScatterAdd(to, l.putInts(index), device.Dense(l.put(device.F32, src), width), rows, width)
			if err := l.d.Sync(); err == nil {
				l.Errorf("%s, %d rows: no complaint", name, rows)
			}
			l.equal(fmt.Sprintf("%s, %d rows", name, rows), l.get(to.Data), chain(device.F32, table, added, sound, width))
		}
	}
	set(t, "order", 0)
}

// TestScatterAddNeedsMemory keeps what is lacking for Sync, changes nothing, and goes on.
func TestScatterAddNeedsMemory(t *testing.T) {
	arithmetic(t)
	l := newLab(t)
	const rows = 200_000
	table, src, index := l.put(device.F32, []float32{1, 2}), l.put(device.F32, make([]float32, rows)), l.putInts(make([]int32, rows))
	set(t, "memory", 1<<20)
	defer set(t, "memory", 1<<30)
	l.d.ScatterAdd(device.Dense(table, 1), index, device.Dense(src, 1), rows, 1)
	var lacking *device.OutOfMemory
	if err := l.d.Sync(); !errors.As(err, &lacking) || lacking.For != device.ForWorkspace {
		t.Fatalf("%v, want one about memory for a workspace", err)
	}
	l.d.ScatterAdd(device.Dense(table, 1), index, device.Dense(src, 1), 3, 1)
	l.equal("the table", l.get(table), []float32{1, 2})
}
