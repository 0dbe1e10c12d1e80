package cuda

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/devicetest"
)

// decoder is a cache whose contents are random, and the queries, keys and values of one new row of each sequence.
type decoder struct {
	d            device.Device
	shape        device.PageShape
	heads        int
	cache        device.Pages
	q, k, v, out device.Buffer
	sequences    int
	at           device.Placement
}

func newDecoder(t *testing.T, d device.Device, shape device.PageShape, heads, sequences int) *decoder {
	t.Helper()
	x := &decoder{d: d, shape: shape, heads: heads, sequences: sequences}
	random := rand.New(rand.NewPCG(3, uint64(sequences)))
	draw := func(n int) []float32 {
		all := make([]float32, n)
		for i := range all {
			all[i] = round(shape.DType, float32(random.NormFloat64()))
		}
		return all
	}
	var err error
	x.cache, err = d.NewPages(shape)
	must(t, err)
	t.Cleanup(func() { d.FreePages(x.cache) })
	width, kv := heads*shape.Dim, shape.KVHeads*shape.Dim
	// All pages are filled once, in one sequence.
	fill := &device.Placement{Offsets: []int32{0, int32(shape.Pages * device.PageTokens)}, Cached: []int32{0}, Tables: [][]int32{nil}}
	for page := range shape.Pages {
		fill.Tables[0] = append(fill.Tables[0], int32(page))
	}
	rows := shape.Pages * device.PageTokens
	d.Place(fill)
	for layer := range shape.Layers {
		k, v := uploaded(t, d, shape.DType, draw(rows*kv), rows*kv), uploaded(t, d, shape.DType, draw(rows*kv), rows*kv)
		d.WritePages(x.cache, layer, device.Dense(k, kv), device.Dense(v, kv), fill)
	}
	d.Free(fill.Device)
	x.q, x.out = uploaded(t, d, shape.DType, draw(sequences*width), sequences*width), uploaded(t, d, shape.DType, nil, sequences*width)
	x.k, x.v = uploaded(t, d, shape.DType, draw(sequences*kv), sequences*kv), uploaded(t, d, shape.DType, draw(sequences*kv), sequences*kv)
	for i := range sequences + 1 {
		x.at.Offsets = append(x.at.Offsets, int32(i))
	}
	t.Cleanup(func() { d.Free(x.at.Device) })
	return x
}

// place places the sequences behind so many cached positions, on these pages.
func (x *decoder) place(cached []int32, tables [][]int32, capacity int) {
	x.at.Cached, x.at.Tables, x.at.Capacity = cached, tables, capacity
	x.d.Place(&x.at)
}

// pass writes the new rows and attends to all, in each layer.
func (x *decoder) pass() {
	width, kv := x.heads*x.shape.Dim, x.shape.KVHeads*x.shape.Dim
	for layer := range x.shape.Layers {
		x.d.WritePages(x.cache, layer, device.Dense(x.k, kv), device.Dense(x.v, kv), &x.at)
		x.d.AttendPages(device.Dense(x.out, width), device.Dense(x.q, width), x.cache, layer, x.heads, 0.3, &x.at)
	}
}

// run is the result of a pass.
func (x *decoder) run(t *testing.T, pass func()) []float32 {
	t.Helper()
	x.d.Upload(x.out, make([]float32, x.out.Len()))
	pass()
	return downloaded(t, x.d, x.out)
}

// spread gives each sequence its own pages, in an order of their own, so that positions fit.
func spread(random *rand.Rand, cached []int32, pages int) [][]int32 {
	order := random.Perm(pages)
	tables := make([][]int32, len(cached))
	for i, n := range cached {
		for range n/device.PageTokens + 1 {
			tables[i], order = append(tables[i], int32(order[0])), order[1:]
		}
	}
	return tables
}

// TestReplayFollowsPlacements replays a recorded pass behind other placements, which have room for more parts than they use.
func TestReplayFollowsPlacements(t *testing.T) {
	arithmetic(t)
	for _, exact := range []bool{true, false} {
		d := open(t, Options{Exact: exact})
		for _, dtype := range []device.DType{device.F32, device.BF16} {
			x := newDecoder(t, d, device.PageShape{DType: dtype, Layers: 2, KVHeads: 2, Dim: 64, Pages: 60}, 4, 3)
			random := rand.New(rand.NewPCG(1, 1))
			first := []int32{3, 0, 40}
			x.place(first, spread(random, first, 60), 6)
			stable := x.at.Device
			if fallback := dtype == device.F32 && !exact; fallback {
				if _, err := d.Record(x.pass); err == nil || !strings.Contains(err.Error(), "attend_row_f32") || !strings.Contains(err.Error(), "once") {
					t.Errorf("recording what is not loaded yet: %v", err)
				}
			}
			x.pass()
			g, err := d.Record(x.pass)
			must(t, err)
			for round, cached := range [][]int32{{3, 0, 40}, {255, 256, 511}, {600, 500, 1}, {0, 0, 0}, {257, 31, 32}, {300, 310, 400}} {
				tables := spread(random, cached, 60)
				for i := range tables {
					if round == 5 { // they share their first parts
						copy(tables[i], tables[0][:device.PartPages])
					}
				}
				x.place(cached, tables, 6)
				if x.at.Device != stable {
					t.Fatal("the placement has moved")
				}
				got, again := x.run(t, g.Replay), x.run(t, g.Replay)
				x.at.Device = device.Buffer{}
				x.place(cached, tables, 0)
				want := x.run(t, x.pass)
				if !slices.Equal(got, want) || !slices.Equal(got, again) {
					t.Errorf("exact %v, %v, behind %v: a replay differs from the calls", exact, dtype, cached)
				}
				d.Free(x.at.Device)
				x.at.Device = stable
			}
			g.Free()
		}
	}
}

// TestFastPagesConform holds the fast mode to the suite, whose sequences are of one part.
func TestFastPagesConform(t *testing.T) {
	arithmetic(t)
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			set(t, "order", order)
			defer set(t, "order", 0)
			for _, f := range devicetest.Check(open(t, Options{}), devicetest.Options{Quick: order != 0 || raceEnabled || testing.Short()}, "AttendPages", "CopyPage") {
				t.Error(f)
			}
		})
	}
}

// spoil makes positions behind the sequences' ends no numbers, as far as their pages go.
func (x *decoder) spoil(t *testing.T) {
	t.Helper()
	kv := x.shape.KVHeads * x.shape.Dim
	rest := &device.Placement{Offsets: []int32{0}, Tables: x.at.Tables}
	for i, cached := range x.at.Cached {
		rest.Cached = append(rest.Cached, cached+1)
		rest.Offsets = append(rest.Offsets, rest.Offsets[i]+int32(len(x.at.Tables[i])*device.PageTokens)-cached-1)
	}
	none := make([]float32, rest.Rows()*kv)
	for i := range none {
		none[i] = float32(math.NaN())
	}
	b := uploaded(t, x.d, x.shape.DType, none, len(none))
	x.d.Place(rest)
	for layer := range x.shape.Layers {
		x.d.WritePages(x.cache, layer, device.Dense(b, kv), device.Dense(b, kv), rest)
	}
	x.d.Free(rest.Device)
}

// worstOf is the largest distance of numbers as a share of the largest; infinite where one is no number.
func worstOf(got, want []float32) float64 {
	worst, largest := 0.0, 0.0
	for i := range want {
		difference := math.Abs(float64(got[i]) - float64(want[i]))
		if difference != difference {
			return math.Inf(1)
		}
		worst, largest = max(worst, difference), max(largest, math.Abs(float64(want[i])))
	}
	return worst / largest
}

// TestFastRowsAreThoseOfTheReference decodes behind histories of all kinds: none, of a part but for a position, of a part, of
// several.
func TestFastRowsAreThoseOfTheReference(t *testing.T) {
	arithmetic(t)
	for name, order := range orders {
		for _, shape := range [][3]int{{4, 2, 128}, {3, 3, 64}, {16, 1, 64}, {6, 2, 40}, {16, 2, 128}} {
			if order != 0 && (shape[2] == 64 || shape[0] == 16) {
				continue
			}
			t.Run(fmt.Sprintf("%s, %v", name, shape), func(t *testing.T) {
				set(t, "order", order)
				defer set(t, "order", 0)
				d, pages := open(t, Options{}), device.PageShape{DType: device.BF16, Layers: 1, KVHeads: shape[1], Dim: shape[2], Pages: 60}
				cached := []int32{0, 14, 15, 16, 254, 255, 256, 511, 100}
				tables := spread(rand.New(rand.NewPCG(5, 5)), cached, pages.Pages)
				run := func(d device.Device) []float32 {
					x := newDecoder(t, d, pages, shape[0], len(cached))
					x.place(cached, tables, 0)
					x.spoil(t)
					return x.run(t, x.pass)
				}
				if worst := worstOf(run(d), run(devicetest.NewReference())); !(worst < 1.0/128) {
					t.Errorf("off by %g of the largest", worst)
				}
			})
		}
	}
}

// TestFastRowsWithoutMemoryForParts wants an error and not another kernel, whose bits are others, and a device that goes on.
func TestFastRowsWithoutMemoryForParts(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{Separate: true})
	cached := []int32{0, 300, 31}
	x := newDecoder(t, d, device.PageShape{DType: device.BF16, Layers: 1, KVHeads: 2, Dim: 64, Pages: 20}, 4, len(cached))
	x.place(cached, spread(rand.New(rand.NewPCG(2, 2)), cached, 20), 0)
	want := x.run(t, x.pass)
	x.d = scarce{d, t}
	x.pass()
	var lacking *device.OutOfMemory
	if err := d.Sync(); !errors.As(err, &lacking) || lacking.For != device.ForWorkspace {
		t.Errorf("got %v, want an *OutOfMemory for workspace", err)
	}
	x.d = d
	if got := x.run(t, x.pass); !slices.Equal(got, want) {
		t.Error("the device gives other bits after it had no memory")
	}
}

// TestSharedPrefixesChangeNoBit decodes behind pages that many sequences share, in all ways of having copies of their own
// of them.
func TestSharedPrefixesChangeNoBit(t *testing.T) {
	arithmetic(t)
	d := open(t, Options{})
	const sequences, shared, own = 11, 2 * device.PartPages, 3
	for _, heads := range []int{2, 6} { // of which a tile has those of 8 sequences, and of fewer
		x := newDecoder(t, d, device.PageShape{DType: device.BF16, Layers: 1, KVHeads: 1, Dim: 64, Pages: sequences * (shared + own)}, heads, sequences)
		var tables [][]int32
		var cached []int32
		for i := range sequences {
			var table []int32
			for page := range shared + own {
				table = append(table, int32(i*(shared+own)+page))
				if page < shared {
					x.d.CopyPage(x.cache, i*(shared+own)+page, page)
				}
			}
			tables, cached = append(tables, table), append(cached, int32((shared+i%own)*device.PageTokens+i))
		}
		x.place(cached, tables, 0)
		want := x.run(t, x.pass)
		for _, who := range []func(i, part int) bool{
			func(int, int) bool { return true },
			func(i, _ int) bool { return i%2 == 0 },
			func(i, part int) bool { return i > 2+4*part },
		} {
			together := make([][]int32, sequences)
			for i, table := range tables {
				together[i] = slices.Clone(table)
				for page := range shared {
					if who(i, page/device.PartPages) {
						together[i][page] = int32(page)
					}
				}
			}
			x.place(cached, together, 0)
			var g grouping
			if g.group(&x.at); len(g.items) >= 3*sequences {
				t.Error("nobody shares anything")
			}
			if !slices.Equal(x.run(t, x.pass), want) {
				t.Errorf("%d heads: shared pages give other bits", heads)
			}
		}
	}
}

func TestItemsShareFullParts(t *testing.T) {
	page := func(first int32) (pages []int32) {
		for i := range int32(device.PartPages) {
			pages = append(pages, first+i)
		}
		return pages
	}
	a, b, c := page(0), page(8), page(16)
	table := func(parts ...[]int32) []int32 { return slices.Concat(parts...) }
	at := &device.Placement{
		Offsets: []int32{0, 1, 2, 3, 3, 8, 9},
		Cached:  []int32{511, 512, 510, 511, 511, 300},
		Tables:  [][]int32{table(a, b), table(a, b, c), table(a, b), table(a, b), table(a, b, c), table(c, a)},
	}
	type part struct {
		members     []int32
		part, count int32
	}
	var g grouping
	group := func(at *device.Placement) (all []part) {
		g.group(at)
		for _, it := range g.items {
			all = append(all, part{slices.Clone(g.members[it.first:][:it.members]), it.part, it.count})
		}
		return all
	}
	want := []part{ // in the third the last position of the part is not there
		{[]int32{0, 1, 2}, 0, 256}, {[]int32{0, 1}, 1, 256}, {[]int32{1}, 2, 1}, {[]int32{2}, 1, 255}, {[]int32{5}, 0, 256}, {[]int32{5}, 1, 45},
	}
	if got := group(at); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	at.Tables[1][3] = 23 // another page in the middle, where the end is the same
	want[0].members = []int32{0}
	want = slices.Insert(want, 2, part{[]int32{1, 2}, 0, 256})
	want[1].members, want[3] = []int32{0, 1}, part{[]int32{1}, 2, 1}
	at.Tables[2] = at.Tables[1]
	if got := group(at); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	many := &device.Placement{Offsets: []int32{0}}
	for i := range int32(2*mostMembers + 1) {
		many.Offsets, many.Cached, many.Tables = append(many.Offsets, i+1), append(many.Cached, 255), append(many.Tables, a)
	}
	if got := group(many); len(got) != 3 || len(got[0].members) != mostMembers || len(got[2].members) != 1 {
		t.Errorf("%d sequences make items %v", 2*mostMembers+1, got)
	}
	// One that goes on behind the part, the first: its own part comes behind all items of the shared one.
	many.Cached[0], many.Tables[0] = 256, table(a, []int32{30})
	var s placing
	p := placed{items: 1, parts: 2*mostMembers + 4}
	numbers := s.of(many, p)[4*many.Sequences()+2:]
	for i, want := range [][]int32{{0, mostMembers, 256}, {mostMembers, mostMembers, 256}, {2 * mostMembers, 1, 256}, {2*mostMembers + 1, 1, 1}, {0, 0, 0}} {
		if got := numbers[i*itemIntegers:][:3]; !slices.Equal(got, want) {
			t.Errorf("item %d is %v, want %v", i, got, want)
		}
	}
	rows := numbers[p.parts*itemIntegers:]
	for i := range 2*mostMembers + 2 {
		want := []int32{int32(i), int32(i + 1)} // the first has two parts
		if i == 0 {
			want[1] = 0
		} else if i == 2*mostMembers+1 {
			want = []int32{0, 1}
		}
		if got := rows[i*memberIntegers:][:memberIntegers]; !slices.Equal(got, want) {
			t.Errorf("member %d is %v, want %v", i, got, want)
		}
	}
}

// TestFastTilesAreThoseOfTheReference computes several new rows of each sequence, more and fewer than a tile, behind cached
// positions and none; one is alone.
func TestFastTilesAreThoseOfTheReference(t *testing.T) {
	arithmetic(t)
	for name, order := range orders {
		for _, shape := range [][3]int{{4, 2, 128}, {3, 3, 64}, {6, 1, 40}} {
			t.Run(fmt.Sprintf("%s, %v", name, shape), func(t *testing.T) {
				set(t, "order", order)
				defer set(t, "order", 0)
				pages := device.PageShape{DType: device.BF16, Layers: 1, KVHeads: shape[1], Dim: shape[2], Pages: 30}
				offsets, cached := []int32{0, 131, 132, 132, 137, 170}, []int32{0, 70, 5, 100, 63}
				ends := make([]int32, len(cached))
				for i, c := range cached {
					ends[i] = max(0, c+offsets[i+1]-offsets[i]-1)
				}
				tables := spread(rand.New(rand.NewPCG(5, 5)), ends, pages.Pages)
				run := func(d device.Device) []float32 {
					x := newDecoder(t, d, pages, shape[0], int(offsets[len(offsets)-1]))
					x.at.Offsets = []int32{0, 1, 2, 3, 4, 5}
					x.place(ends, tables, 0)
					x.spoil(t)
					x.at.Offsets = offsets
					x.place(cached, tables, 0)
					return x.run(t, x.pass)
				}
				if worst := worstOf(run(open(t, Options{})), run(devicetest.NewReference())); !(worst < 1.0/128) {
					t.Errorf("off by %g of the largest", worst)
				}
			})
		}
	}
}
