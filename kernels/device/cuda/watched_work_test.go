package cuda

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/kernels/device/cuda/emulator"
)

// work is an operation of the fast mode at a size like a model's in all that kernels' inner loops see: widths, heads, positions. Rows
// are few.
type work struct {
	name string
	// What it takes at least: bytes of operands and results, each once, and the operations of its products, a multiply-add being two.
	// Bytes are 0 where operations decide at the sizes of training. Both are 0 of what is looked at for its order alone.
	bytes, operations float64
	run               func()
}

// bench lays operands out.
type bench struct {
	layerBench
	d *Device
}

func newBench(t *testing.T, d *Device) *bench {
	return &bench{layerBench{t, d, rand.New(rand.NewPCG(2, 7))}, d}
}

// dense are rows without gaps.
func (b *bench) dense(rows, width int) device.Rows { return b.rows(rows, width, width) }

func (b *bench) integers(values ...int32) device.Buffer {
	b.t.Helper()
	x, err := b.d.Allocate(device.ForActivations, device.I32, len(values))
	must(b.t, err)
	b.t.Cleanup(func() { b.d.Free(x) })
	b.d.UploadInts(x, values)
	return x
}

// works are all of them, with attention to sequences of so many tokens.
func (b *bench) works(tokens int) []work {
	b.t.Helper()
	return slices.Concat(b.attention(64, tokens), b.attention(128, tokens), b.pages(64), b.pages(128), b.head(), b.rare(), b.between(1024), b.between(2048), b.turning(), b.movement(), b.choosing(), b.updating())
}

// attention is of a sequence of so many tokens, with two query heads to one of keys.
func (b *bench) attention(dim, rows int) []work {
	const heads = 2
	l := fastAttention(uint64(dim), heads, 1, dim, 1, int32(rows))
	a := l.on(b.t, b.d)
	a.Kept = b.numbers(rows*heads, 0)
	out, dOut, dq, dk, dv := b.dense(rows, heads*dim), b.dense(rows, heads*dim), b.dense(rows, heads*dim), b.dense(rows, dim), b.dense(rows, dim)
	product := float64(heads * dim * rows * (rows + 1))
	return []work{
		{name: sized("attention", dim), operations: 2 * product, run: func() { b.d.Attend(out, a) }},
		{name: sized("attention, backward", dim), operations: 5 * product, run: func() { b.d.AttendBack(dq, dk, dv, dOut, out, a) }},
	}
}

// pages is attention over a cache by four query heads to two of keys: one new row for each of 8 sequences at 768 positions, which share
// nothing or 512 of them, and 256 new rows behind 256.
func (b *bench) pages(dim int) []work {
	const sequences, each, heads, keyHeads, positions = 8, 24, 4, 2, 767
	shape := device.PageShape{DType: device.BF16, Layers: 1, KVHeads: keyHeads, Dim: dim, Pages: sequences * each}
	x, y, z := newDecoder(b.t, b.d, shape, heads, sequences), newDecoder(b.t, b.d, shape, heads, sequences), newDecoder(b.t, b.d, shape, heads, 256)
	cached := slices.Repeat([]int32{positions}, sequences)
	tables := spread(b.random, cached, shape.Pages)
	x.place(cached, tables, 0)
	shared := make([][]int32, sequences)
	for i := range shared {
		shared[i] = slices.Concat(tables[0][:16], tables[i][16:])
	}
	y.place(cached, shared, 0)
	z.at.Offsets = []int32{0, 256}
	z.place([]int32{256}, [][]int32{tables[0]}, 0)
	width, both, tiles := heads*dim, 4.0*float64(keyHeads*dim), 256.0*256+256*257/2
	attend := func(x *decoder) func() {
		return func() {
			b.d.AttendPages(device.Dense(x.out, width), device.Dense(x.q, width), x.cache, 0, heads, 0.1, &x.at)
		}
	}
	queries := 4 * float64(sequences*width)
	return []work{
		{name: sized("attention over pages", dim), bytes: sequences*(positions+1)*both + queries, run: attend(x)},
		{name: sized("attention over pages that are shared", dim), bytes: (sequences*(positions+1-512)+512)*both + queries, run: attend(y)},
		{name: sized("attention of a prompt over pages", dim), operations: 4 * float64(width) * tiles, run: attend(z)},
		{name: "writing of pages", run: func() {
			kv := keyHeads * dim
			b.d.WritePages(x.cache, 0, device.Dense(x.k, kv), device.Dense(x.v, kv), &x.at)
		}},
	}
}

func sized(name string, dim int) string {
	if dim == 64 {
		return name + ", heads of 64"
	}
	return name + ", heads of 128"
}

// head is the loss of two rows: what is beside its products.
func (b *bench) head() []work {
	const rows, vocabulary = 2, 151_936
	l := linesOn(b.t, b.d, rows, 8, vocabulary, 1)
	s := l.Scored
	s.Known = true
	return []work{
		{name: "scores", bytes: 4 * rows * vocabulary, run: func() { b.d.Score(l.Scored) }},
		{name: "gradients of scores", bytes: 6 * rows * vocabulary, run: func() { b.d.ScoreBack(device.Dense(l.dx, l.hidden), device.Buffer{}, l.dLogProbs, l.dEntropies, s) }},
	}
}

// rare are ways that kernels take seldom: gradients of scores that nobody knows, and of targets that can hardly be.
func (b *bench) rare() []work {
	l := linesOn(b.t, b.d, 4, 8, 5000, 300)
	for i := range l.targets {
		all, _ := l.row(i)
		l.targets[i] = int32(slices.Index(all, slices.Min(all)))
	}
	b.d.UploadInts(l.Targets, l.targets)
	b.d.Score(l.Scored)
	known, unknown := l.Scored, l.Scored
	known.Known = true
	unknown.LogProbs, unknown.Entropies = device.Buffer{}, device.Buffer{}
	back := func(s device.Scored) func() {
		return func() { b.d.ScoreBack(device.Dense(l.dx, l.hidden), device.Buffer{}, l.dLogProbs, l.dEntropies, s) }
	}
	return []work{{name: "gradients of scores of what can hardly be", run: back(known)}, {name: "gradients of scores that are not known", run: back(unknown)}}
}

// between is what a layer has between its products, for hidden rows of a width, and a gate of three times that.
func (b *bench) between(width int) []work {
	const rows = 256
	x, y, weight, roots := b.dense(rows, width), b.dense(rows, width), b.numbers(width, 1), b.numbers(rows, 1)
	dx, dy, sum := b.dense(rows, width), b.dense(rows, width), b.numbers(width, 0)
	gateUp, act, dAct := b.dense(rows, 6*width), b.dense(rows, 3*width), b.dense(rows, 3*width)
	row, name := float64(2*rows*width), " of 1024"
	if width == 2048 {
		name = " of 2048"
	}
	return []work{
		{name: "norm" + name, bytes: 2 * row, run: func() { b.d.RMSNorm(y, x, weight, roots, rows, 1e-6) }},
		{name: "norm, backward," + name, bytes: 5 * row, run: func() { b.d.RMSNormBack(dx, sum, dy, x, weight, roots, rows) }},
		{name: "gate" + name, bytes: 9 * row, run: func() { b.d.SwiGLU(act, gateUp, rows, 3*width) }},
		{name: "gate, backward," + name, bytes: 18 * row, run: func() { b.d.SwiGLUBack(gateUp, dAct, gateUp, rows, 3*width) }},
	}
}

// turning is the rotation of 16 heads of queries and 8 of keys with their norms.
func (b *bench) turning() []work {
	const rows, heads, dim, positions = 64, 16, 128, 64
	at := make([]int32, rows)
	for i := range at {
		at[i] = int32(i)
	}
	of := func(count int) device.Heads {
		return device.Heads{X: b.rows(rows, count*dim, 4096), Rows: rows, Count: count, Dim: dim, Positions: b.integers(at...), Eps: 1e-6,
			Cos: b.numbers(positions*dim/2, 0), Sin: b.numbers(positions*dim/2, 0), Weight: b.numbers(dim, 1), Roots: b.numbers(rows*count, 1)}
	}
	q, k := of(heads), of(heads/2)
	k.Positions, k.Cos, k.Sin = q.Positions, q.Cos, q.Sin
	yq, yk, dy, dx, sum := b.dense(rows, heads*dim), b.dense(rows, heads/2*dim), b.dense(rows, heads*dim), b.dense(rows, heads*dim), b.numbers(dim, 0)
	row := float64(2 * rows * heads * dim)
	return []work{
		{name: "rotation of queries and keys", bytes: 3 * row, run: func() { b.d.RotateBoth(yq, yk, q, k) }},
		{name: "rotation of queries, backward", bytes: 3 * row, run: func() { b.d.RotateBack(dx, sum, dy, q) }},
	}
}

// movement is the embedding, its gradient, and rows and numbers that are copied.
func (b *bench) movement() []work {
	const rows, width, table = 64, 1024, 200
	from, to, sums := b.dense(table, width), b.dense(rows, width), device.Dense(b.numbers(table*width, 0), width)
	index := make([]int32, rows)
	for i := range index {
		index[i] = int32(b.random.IntN(table))
	}
	slices.Sort(index)
	apart := float64(len(slices.Compact(slices.Clone(index))))
	at, numbers := b.integers(index...), b.numbers(rows*width, 0)
	const row = rows * width
	return []work{
		{name: "embedding", bytes: 2*width*apart + 2*row, run: func() { b.d.Gather(to, from, at, rows, width) }},
		{name: "gradient of the embedding", bytes: 2*row + 8*width*apart, run: func() { b.d.ScatterAdd(sums, at, to, rows, width) }},
		{name: "float32 to bf16", bytes: 6 * row, run: func() { b.d.Copy(to.Data, numbers) }},
		{name: "copy of rows", bytes: 4 * row, run: func() { b.d.CopyRows(to, from, rows, width) }},
	}
}

// choosing draws the tokens of two rows.
func (b *bench) choosing() []work {
	const rows, vocabulary = 2, 151_936
	logits := device.Dense(b.numbers(rows*vocabulary, 0), vocabulary)
	with := func(name string, how device.Sampling) work {
		draws := new(device.Draws)
		must(b.t, b.d.PlaceSampling(draws, slices.Repeat([]device.Sampling{how}, rows), vocabulary))
		b.t.Cleanup(func() { b.d.FreeDraws(draws) })
		return work{name: name, bytes: 4 * rows * vocabulary, run: func() { b.d.Draw(draws, logits) }}
	}
	return []work{
		with("drawing", device.Sampling{Temperature: 1, TopP: 1, Uniform: 0.4}),
		with("drawing of the likeliest 20", device.Sampling{Temperature: 0.7, TopK: 20, TopP: 0.95, Uniform: 0.4}),
	}
}

// updating is a step of the optimizer for a matrix and a norm.
func (b *bench) updating() []work {
	const out, in = 96, 1024
	list := make([]device.Tensor, 2)
	elements := 0
	for i, n := range []int{out * in, in} {
		list[i] = device.Tensor{Param: b.numbers(n, 0), Grad: b.numbers(n, 0), M: b.numbers(n, 0), V: uploaded(b.t, b.d, device.F32, nil, n)}
		elements += n
	}
	form, err := b.d.NewWeights(list[0].Param, device.BF16, out, in, device.ForwardBack)
	must(b.t, err)
	b.t.Cleanup(func() { b.d.FreeWeights(form) })
	tensors, err := b.d.NewTensors(list)
	must(b.t, err)
	b.t.Cleanup(func() { b.d.FreeTensors(tensors) })
	u := step(form)
	u.ClipNorm = 1
	update := func() {
		_, err := b.d.Update(tensors, u)
		must(b.t, err)
	}
	return []work{{name: "optimizer", bytes: 34 * float64(elements), run: update}, {name: "optimizer, of what is not finite", run: func() {
		b.d.Upload(list[0].Grad.Slice(elements/2, elements/2+1), []float32{float32(math.Inf(1))})
		update()
	}}}
}

// watched are what an emulated GPU that runs the PTX counts and finds while a device does something.
func watched(t *testing.T, d *Device, bits int64, do func()) (counts []emulator.Counts, found []string) {
	t.Helper()
	must(t, d.Sync())
	set(t, "watch", bits)
	defer set(t, "watch", 0)
	do()
	must(t, d.Sync())
	counts, err := emulator.Watched(emulated.Driver)
	must(t, err)
	found, err = emulator.Found(emulated.Driver)
	must(t, err)
	return counts, found
}

// interpreted opens an emulated GPU that runs the PTX.
func interpreted(t *testing.T, o Options) *Device {
	t.Helper()
	set(t, "ptx", 1)
	t.Cleanup(func() { set(t, "ptx", 0) })
	return open(t, o)
}
