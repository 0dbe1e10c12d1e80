package cpu

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// bench is a device with a source of random buffers.
type bench struct {
	t      testing.TB
	d      *Device
	random *rand.Rand
}

func newBench(t testing.TB) *bench {
	return &bench{t: t, d: New(), random: rand.New(rand.NewPCG(3, 5))}
}

func (b *bench) allocate(t device.DType, n int) device.Buffer {
	b.t.Helper()
	buffer, err := b.d.Allocate(device.ForWorkspace, t, n)
	if err != nil {
		b.t.Fatal(err)
	}
	return buffer
}

// normal is a buffer of n normal numbers.
func (b *bench) normal(n int) device.Buffer {
	b.t.Helper()
	buffer := b.allocate(device.F32, n)
	b.d.Upload(buffer, normal(b.random, n))
	return buffer
}

func (b *bench) zeros(n int) device.Buffer { return b.allocate(device.F32, n) }

func (b *bench) ints(values ...int32) device.Buffer {
	b.t.Helper()
	buffer := b.allocate(device.I32, len(values))
	b.d.UploadInts(buffer, values)
	return buffer
}

// below is a buffer of n random numbers in [0, limit).
func (b *bench) below(limit, n int) device.Buffer {
	values := make([]int32, n)
	for i := range values {
		values[i] = int32(b.random.IntN(limit))
	}
	return b.ints(values...)
}

func (b *bench) values(buffer device.Buffer) []float32 {
	b.t.Helper()
	values := make([]float32, buffer.Len())
	if err := b.d.Download(values, buffer); err != nil {
		b.t.Fatal(err)
	}
	return values
}

func (b *bench) weights(out, in int) (device.Weights, device.Buffer) {
	b.t.Helper()
	matrix := b.normal(out * in)
	w, err := b.d.NewWeights(matrix, device.F32, out, in, device.ForwardBack)
	if err != nil {
		b.t.Fatal(err)
	}
	return w, matrix
}

// offsets are those of sequences of the lengths.
func (b *bench) offsets(lengths ...int) device.Offsets {
	host := []int32{0}
	for _, n := range lengths {
		host = append(host, host[len(host)-1]+int32(n))
	}
	return device.Offsets{Host: host, Device: b.ints(host...)}
}

// attended are random operands of attention over sequences of the lengths.
func (b *bench) attended(heads, kvHeads, dim int, lengths ...int) device.Attended {
	o := b.offsets(lengths...)
	rows := o.Rows()
	return device.Attended{
		Q: device.Dense(b.normal(rows*heads*dim), heads*dim), K: device.Dense(b.normal(rows*kvHeads*dim), kvHeads*dim),
		V: device.Dense(b.normal(rows*kvHeads*dim), kvHeads*dim), Offsets: o, Heads: heads, KVHeads: kvHeads, Dim: dim, Scale: 0.3,
	}
}

// operation is a call of an operation and what it writes.
type operation struct {
	call   func()
	writes []device.Buffer
}

// operations are all of them, on operands large enough to be shared among cores.
func (b *bench) operations() map[string]operation {
	const rows, width, vocabulary = 300, 192, 700
	w, matrix := b.weights(width, 128)
	x, y, z, g := b.normal(rows*width), b.normal(rows*width), b.normal(rows*width), b.normal(rows*2*width)
	weight, roots, dWeight := b.normal(width), b.zeros(rows), b.normal(width)
	gateUp := b.normal(rows * 2 * width)
	dense := func(buffer device.Buffer) device.Rows { return device.Dense(buffer, width) }
	index := b.below(50, rows)
	table := b.normal(50 * width)
	heads := device.Heads{
		X: dense(x), Rows: rows, Count: 6, Dim: 32, Positions: b.below(64, rows), Cos: b.normal(64 * 16), Sin: b.normal(64 * 16),
		Weight: b.normal(32), Roots: b.zeros(rows * 6), Eps: 1e-6,
	}
	d := b.d
	d.Rotate(dense(y), heads)
	d.RMSNorm(dense(z), dense(x), weight, roots, rows, 1e-6)
	a := b.attended(6, 2, 32, 130, 1, 0, 70, 99)
	out, dOut := b.zeros(rows*width), b.normal(rows*width)
	d.Attend(dense(out), a)
	dk, dv := b.zeros(rows*64), b.zeros(rows*64)
	head, headMatrix := b.weights(vocabulary, width)
	scored := device.Scored{
		X: dense(x), Rows: rows, Head: head, Matrix: headMatrix, Targets: b.below(vocabulary, rows), InverseTemperature: 1.3,
		LogProbs: b.zeros(rows), Entropies: b.zeros(rows),
	}
	dLogProbs, dEntropies := b.normal(rows), b.normal(rows)
	dHead, dx := b.normal(vocabulary*width), b.normal(rows*width)
	logits, choice := b.normal(rows*vocabulary), b.zeros(rows*5)
	var draws device.Draws
	dst, how := make([]device.Sampled, rows), make([]device.Sampling, rows)
	for i := range how {
		how[i] = device.Sampling{Temperature: float32(i%3) * 0.6, TopK: i % 5 * 40, TopP: 1 - float32(i%4)*0.1, MinP: float32(i%2) * 0.1, Uniform: b.random.Float64()}
	}
	sampled := make([]float32, rows*5)
	pages, at := b.cache(4, 2, 32)
	cached := b.zeros(100 * 128)
	norm := b.zeros(1)
	m, v := b.normal(vocabulary*width), b.zeros(vocabulary*width)
	d.Copy(v, headMatrix)
	for i, e := range floats(v) {
		floats(v)[i] = e * e
	}
	bias, zeroed := b.normal(width), b.normal(width)
	q, keys, values := b.normal(100*128), b.normal(100*64), b.normal(100*64)
	d.WritePages(pages, 1, device.Dense(keys, 64), device.Dense(values, 64), at)
	step := device.AdamWStep{Param: headMatrix, Grad: dHead, M: m, V: v, LearningRate: 1e-3, Beta1: 0.9, Beta2: 0.99, Epsilon: 1e-8,
		WeightDecay: 0.1, BiasCorrection1: 0.1, BiasCorrection2: 0.01}
	narrow := b.allocate(device.BF16, rows*width)
	return map[string]operation{
		"Copy":           {call: func() { d.Copy(narrow, x) }},
		"CopyRows":       {call: func() { d.CopyRows(device.Rows{Data: g, Stride: 2 * width}, dense(x), rows, width) }, writes: []device.Buffer{g}},
		"Zero":           {call: func() { d.Zero(zeroed) }, writes: []device.Buffer{zeroed}},
		"Refresh":        {call: func() { d.Refresh(head) }},
		"Product":        {call: func() { d.Product(dense(y), device.Dense(x, 128), rows, w, true) }, writes: []device.Buffer{y}},
		"ProductBack":    {call: func() { d.ProductBack(device.Dense(y, 128), dense(x), rows, w, false) }, writes: []device.Buffer{y}},
		"ProductGrad":    {call: func() { d.ProductGrad(matrix, dense(x), device.Dense(z, 128), rows, width, 128) }, writes: []device.Buffer{matrix}},
		"AddBias":        {call: func() { d.AddBias(dense(y), bias, rows) }, writes: []device.Buffer{y}},
		"BiasGrad":       {call: func() { d.BiasGrad(bias, dense(x), rows) }, writes: []device.Buffer{bias}},
		"RMSNorm":        {call: func() { d.RMSNorm(dense(y), dense(x), weight, roots, rows, 1e-6) }, writes: []device.Buffer{y, roots}},
		"RMSNormBack":    {call: func() { d.RMSNormBack(dense(z), dWeight, dense(y), dense(x), weight, roots, rows) }, writes: []device.Buffer{z, dWeight, y}},
		"RMSNormBack dx": {call: func() { d.RMSNormBack(dense(z), device.Buffer{}, dense(y), dense(x), weight, roots, rows) }, writes: []device.Buffer{z, y}},
		"SwiGLU":         {call: func() { d.SwiGLU(dense(y), device.Dense(gateUp, 2*width), rows, width) }, writes: []device.Buffer{y}},
		"SwiGLUBack": {call: func() { d.SwiGLUBack(device.Dense(g, 2*width), dense(y), device.Dense(gateUp, 2*width), rows, width) },
			writes: []device.Buffer{g, y}},
		"Rotate":     {call: func() { d.Rotate(dense(y), heads) }, writes: []device.Buffer{y, heads.Roots}},
		"RotateBack": {call: func() { d.RotateBack(dense(z), heads.Weight, dense(y), heads) }, writes: []device.Buffer{z, y, heads.Weight}},
		"Gather":     {call: func() { d.Gather(dense(y), dense(table), index, rows, width) }, writes: []device.Buffer{y}},
		"ScatterAdd": {call: func() { d.ScatterAdd(dense(table), index, dense(x), rows, width) }, writes: []device.Buffer{table}},
		"Attend":     {call: func() { d.Attend(dense(y), a) }, writes: []device.Buffer{y}},
		"AttendBack": {call: func() {
			d.AttendBack(dense(y), device.Dense(dk, 64), device.Dense(dv, 64), dense(dOut), dense(out), a)
		}, writes: []device.Buffer{y, dk, dv}},
		"Place":       {call: func() { d.Place(at) }},
		"WritePages":  {call: func() { d.WritePages(pages, 2, device.Dense(keys, 64), device.Dense(values, 64), at) }},
		"AttendPages": {call: func() { d.AttendPages(device.Dense(cached, 128), device.Dense(q, 128), pages, 1, 4, 0.3, at) }, writes: []device.Buffer{cached}},
		"CopyPage":    {call: func() { d.CopyPage(pages, 3, 4) }},
		"Score":       {call: func() { d.Score(scored) }, writes: []device.Buffer{scored.LogProbs, scored.Entropies}},
		"ScoreBack": {call: func() { d.ScoreBack(dense(dx), dHead, dLogProbs, dEntropies, scored) },
			writes: []device.Buffer{dx, dHead}},
		"ScoreBack without entropies": {call: func() { d.ScoreBack(dense(dx), device.Buffer{}, dLogProbs, device.Buffer{}, scored) },
			writes: []device.Buffer{dx}},
		"Draw": {call: func() {
			if err := d.PlaceSampling(&draws, how, vocabulary); err != nil {
				b.t.Error(err)
			}
			d.Draw(&draws, device.Dense(logits, vocabulary))
			if err := d.Drawn(dst, &draws); err != nil {
				b.t.Error(err)
			}
			for i, c := range dst {
				copy(sampled[5*i:], []float32{float32(c.Token), c.LogProb, c.SamplingLogProb, c.UntemperedLogProb, c.Entropy})
			}
			d.Upload(choice, sampled)
		}, writes: []device.Buffer{choice}},
		"AdamW": {call: func() { d.AdamW(step) }, writes: []device.Buffer{step.Param, m, v}},
		"Scale": {call: func() { d.Scale(gateUp, 1.0001) }, writes: []device.Buffer{gateUp}},
		"Add":   {call: func() { d.Add(x, y, 0.1) }, writes: []device.Buffer{x}},
		"SquaredNorm": {call: func() {
			total, err := d.SquaredNorm(headMatrix)
			if err != nil {
				b.t.Error(err)
			}
			floats(norm)[0] = float32(total)
		}, writes: []device.Buffer{norm}},
		"FirstNonFinite": {call: func() {
			if at, err := d.FirstNonFinite(headMatrix); at != -1 || err != nil {
				b.t.Errorf("got %d, %v, want -1", at, err)
			}
		}},
	}
}

// cache is a cache of three layers and a placement of 100 rows, most of them single, in a shuffled order of
// pages.
func (b *bench) cache(heads, kvHeads, dim int) (device.Pages, *device.Placement) {
	b.t.Helper()
	p, err := b.d.NewPages(device.PageShape{DType: device.F32, Layers: 3, KVHeads: kvHeads, Dim: dim, Pages: 400})
	if err != nil {
		b.t.Fatal(err)
	}
	c := p.(*pages)
	copy(c.data, normal(b.random, len(c.data)))
	order := b.random.Perm(400)
	at := &device.Placement{Offsets: []int32{0}}
	for i := range 50 {
		rows, cached := 1, b.random.IntN(130)
		if i == 20 {
			rows = 51
		}
		used := (cached + rows + device.PageTokens - 1) / device.PageTokens
		var table []int32
		for _, page := range order[:used] {
			table = append(table, int32(page))
		}
		order = order[used:]
		at.Offsets = append(at.Offsets, at.Offsets[i]+int32(rows))
		at.Cached, at.Tables = append(at.Cached, int32(cached)), append(at.Tables, table)
	}
	return p, at
}

func TestOperationsHaveTheSameBitsOnAnyNumberOfThreads(t *testing.T) {
	onEveryISA(t, func(t *testing.T) {
		b := newBench(t)
		for name, o := range b.operations() {
			t.Run(name, func(t *testing.T) {
				var before [][]float32
				for _, w := range o.writes {
					before = append(before, b.values(w))
				}
				if len(before) > 0 { // not what an operation on the same operands left there
					before[0][0]++
				}
				compute := func(threads int) (after [][]float32) {
					useThreads(t, threads)
					for i, w := range o.writes {
						b.d.Upload(w, before[i])
					}
					o.call()
					for _, w := range o.writes {
						after = append(after, b.values(w))
					}
					return after
				}
				want := compute(1)
				if len(want) > 0 && slices.EqualFunc(want, before, slices.Equal) {
					t.Error("nothing has changed")
				}
				for _, threads := range []int{2, 5} {
					for i, got := range compute(threads) {
						sameBits(t, label(name), got, want[i])
					}
				}
			})
		}
	})
}

type label string

func (l label) String() string { return string(l) }
