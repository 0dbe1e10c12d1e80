package devicetest

import (
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// badCall is a call whose operands do not fit. It must panic with a message that names the operation, and
// leave every operand as it was.
type badCall struct {
	operation, fault string
	call             func(b *bench)
}

// bench lays out operands of one small shape, of which a bad call breaks one.
type bench struct {
	*scene
	d            device.Device
	frozen, both device.Weights // 5 × 7
	pages        device.Pages
	placed       device.Draws
}

const (
	benchRows, benchOut, benchIn  = 3, 5, 7
	benchHeads, benchKV, benchDim = 4, 2, 6
)

// checkShapes makes every bad call.
func checkShapes(c *check) {
	b := &bench{d: c.device}
	matrix := c.allocate(device.F32, benchOut*benchIn)
	defer c.device.Free(matrix)
	var err error
	b.frozen, err = c.device.NewWeights(matrix, c.dtype, benchOut, benchIn, device.Forward)
	c.must(err)
	defer c.device.FreeWeights(b.frozen)
	b.both, err = c.device.NewWeights(matrix, c.dtype, benchOut, benchIn, device.ForwardBack)
	c.must(err)
	defer c.device.FreeWeights(b.both)
	b.pages, err = c.device.NewPages(device.PageShape{DType: c.dtype, Layers: 2, KVHeads: benchKV, Dim: benchDim, Pages: 3})
	c.must(err)
	defer c.device.FreePages(b.pages)
	defer func() { c.device.FreeDraws(&b.placed) }()
	for _, calls := range [][]badCall{badStorage(), badProducts(), badLayers(), badRotations(), badAttention(), badCache(), badHead(), badOptimizer(), badTypes()} {
		for i, bad := range calls {
			b.scene = c.scene(uint64(i), "%s, %s", bad.operation, bad.fault)
			c.refused(bad, b)
			b.finish()
		}
	}
}

func (c *check) refused(bad badCall, b *bench) {
	defer func() {
		r := recover()
		if _, stopped := r.(stop); stopped {
			panic(r)
		}
		switch message := fmt.Sprint(r); {
		case r == nil:
			c.failf("%s with %s does not panic", bad.operation, bad.fault)
		case !strings.Contains(message, bad.operation):
			c.failf("%s with %s panics without naming %s: %q", bad.operation, bad.fault, bad.operation, message)
		}
	}()
	bad.call(b)
	c.sync()
}

// full is a matrix of finite numbers of the check's type.
func (b *bench) full(width int) device.Rows {
	return b.sum("operand", b.c.numbers(benchRows*width, 1), benchRows, width).matrix()
}

// vector is a dense float32 buffer of finite numbers.
func (b *bench) vector(n int) device.Buffer { return b.gradient("operand", b.c.weights(n, 1)).data() }

// indices are as many small integers.
func (b *bench) indices(n int) device.Buffer { return b.integers("indices", make([]int32, n)).data() }

// short is a matrix without its last element.
func short(r device.Rows) device.Rows {
	r.Data = r.Data.Slice(0, r.Data.Len()-1)
	return r
}

// crowded is a matrix whose rows overlap.
func crowded(r device.Rows, width int) device.Rows {
	r.Stride = width - 1
	return r
}

func less(b device.Buffer) device.Buffer { return b.Slice(0, b.Len()-1) }

func badStorage() []badCall {
	return []badCall{
		{"Allocate", "a negative length", func(b *bench) { _, _ = b.d.Allocate(device.ForWorkspace, device.F32, -1) }},
		{"Upload", "too few numbers", func(b *bench) { b.d.Upload(b.vector(7), make([]float32, 6)) }},
		{"Upload", "too many numbers", func(b *bench) { b.d.Upload(b.vector(7), make([]float32, 8)) }},
		{"Upload", "a destination of integers", func(b *bench) { b.d.Upload(b.indices(7), make([]float32, 7)) }},
		{"UploadInts", "too few numbers", func(b *bench) { b.d.UploadInts(b.indices(7), make([]int32, 6)) }},
		{"UploadInts", "a destination of f32", func(b *bench) { b.d.UploadInts(b.vector(7), make([]int32, 7)) }},
		{"Download", "a destination too short", func(b *bench) { _ = b.d.Download(make([]float32, 6), b.vector(7)) }},
		{"Download", "a source of integers", func(b *bench) { _ = b.d.Download(make([]float32, 7), b.indices(7)) }},
		{"DownloadInts", "a destination too short", func(b *bench) { _ = b.d.DownloadInts(make([]int32, 6), b.indices(7)) }},
		{"DownloadInts", "a source of f32", func(b *bench) { _ = b.d.DownloadInts(make([]int32, 7), b.vector(7)) }},
		{"Copy", "a shorter source", func(b *bench) { b.d.Copy(b.vector(7), b.vector(6)) }},
		{"Copy", "a shorter destination", func(b *bench) { b.d.Copy(b.vector(6), b.vector(7)) }},
		{"CopyRows", "a short destination", func(b *bench) { b.d.CopyRows(short(b.full(7)), b.full(7), benchRows, 7) }},
		{"CopyRows", "a short source", func(b *bench) { b.d.CopyRows(b.full(7), short(b.full(7)), benchRows, 7) }},
		{"CopyRows", "rows that overlap", func(b *bench) { b.d.CopyRows(crowded(b.full(7), 7), b.full(7), benchRows, 7) }},
	}
}

func badProducts() []badCall {
	product := func(fault string, y, x func(device.Rows) device.Rows) []badCall {
		return []badCall{
			{"Product", fault, func(b *bench) { b.d.Product(y(b.full(benchOut)), x(b.full(benchIn)), benchRows, b.frozen, true) }},
			{"ProductBack", fault, func(b *bench) { b.d.ProductBack(y(b.full(benchIn)), x(b.full(benchOut)), benchRows, b.both, true) }},
		}
	}
	fits := func(r device.Rows) device.Rows { return r }
	absent := func(device.Rows) device.Rows { return device.Rows{} }
	calls := []badCall{
		{"NewWeights", "a matrix too short", func(b *bench) { _, _ = b.d.NewWeights(b.vector(34), b.c.dtype, 5, 7, device.Forward) }},
		{"NewWeights", "a matrix too long", func(b *bench) { _, _ = b.d.NewWeights(b.vector(36), b.c.dtype, 5, 7, device.Forward) }},
		{"NewWeights", "no such use", func(b *bench) { _, _ = b.d.NewWeights(b.vector(35), b.c.dtype, 5, 7, 0) }},
		{"ProductBack", "weights made for Product alone", func(b *bench) { b.d.ProductBack(b.full(benchIn), b.full(benchOut), benchRows, b.frozen, true) }},
		{"Product", "rows that overlap", func(b *bench) {
			b.d.Product(crowded(b.full(benchOut), benchOut), b.full(benchIn), benchRows, b.frozen, true)
		}},
		{"Product", "an operand of integers", func(b *bench) {
			b.d.Product(b.full(benchOut), device.Dense(b.indices(benchRows*benchIn), benchIn), benchRows, b.frozen, true)
		}},
		{"ProductOnto", "a short base", func(b *bench) {
			b.d.ProductOnto(b.full(benchOut), short(b.full(benchOut)), b.full(benchIn), benchRows, b.frozen)
		}},
		{"ProductOnto", "a short result", func(b *bench) {
			b.d.ProductOnto(short(b.full(benchOut)), b.full(benchOut), b.full(benchIn), benchRows, b.frozen)
		}},
		{"ProductOnto", "a short operand", func(b *bench) {
			b.d.ProductOnto(b.full(benchOut), b.full(benchOut), short(b.full(benchIn)), benchRows, b.frozen)
		}},
		{"ProductGrad", "a short gradient", func(b *bench) {
			b.d.ProductGrad(b.vector(34), b.full(benchOut), b.full(benchIn), benchRows, benchOut, benchIn)
		}},
		{"ProductGrad", "a short dy", func(b *bench) {
			b.d.ProductGrad(b.vector(35), short(b.full(benchOut)), b.full(benchIn), benchRows, benchOut, benchIn)
		}},
		{"ProductGrad", "a short x", func(b *bench) {
			b.d.ProductGrad(b.vector(35), b.full(benchOut), short(b.full(benchIn)), benchRows, benchOut, benchIn)
		}},
		{"AddBias", "a short y", func(b *bench) { b.d.AddBias(short(b.full(5)), b.vector(5), benchRows) }},
		{"AddBias", "rows that overlap", func(b *bench) { b.d.AddBias(crowded(b.full(5), 5), b.vector(5), benchRows) }},
		{"BiasGrad", "a short dy", func(b *bench) { b.d.BiasGrad(b.vector(5), short(b.full(5)), benchRows) }},
	}
	calls = append(calls, product("a short result", short, fits)...)
	calls = append(calls, product("a short operand", fits, short)...)
	calls = append(calls, product("an absent operand", fits, absent)...)
	return append(calls, product("an absent result", absent, fits)...)
}

func badLayers() []badCall {
	return []badCall{
		{"RMSNorm", "a short y", func(b *bench) { b.d.RMSNorm(short(b.full(7)), b.full(7), b.vector(7), b.vector(3), benchRows, 1e-6) }},
		{"RMSNorm", "a short x", func(b *bench) { b.d.RMSNorm(b.full(7), short(b.full(7)), b.vector(7), b.vector(3), benchRows, 1e-6) }},
		{"RMSNorm", "short roots", func(b *bench) { b.d.RMSNorm(b.full(7), b.full(7), b.vector(7), b.vector(2), benchRows, 1e-6) }},
		{"RMSNorm", "a weight of integers", func(b *bench) { b.d.RMSNorm(b.full(7), b.full(7), b.indices(7), b.vector(3), benchRows, 1e-6) }},
		{"RMSNormBack", "a short dx", func(b *bench) {
			b.d.RMSNormBack(short(b.full(7)), b.vector(7), b.full(7), b.full(7), b.vector(7), b.vector(3), benchRows)
		}},
		{"RMSNormBack", "a short dy", func(b *bench) {
			b.d.RMSNormBack(b.full(7), b.vector(7), short(b.full(7)), b.full(7), b.vector(7), b.vector(3), benchRows)
		}},
		{"RMSNormBack", "a short x", func(b *bench) {
			b.d.RMSNormBack(b.full(7), b.vector(7), b.full(7), short(b.full(7)), b.vector(7), b.vector(3), benchRows)
		}},
		{"RMSNormBack", "short roots", func(b *bench) {
			b.d.RMSNormBack(b.full(7), b.vector(7), b.full(7), b.full(7), b.vector(7), b.vector(2), benchRows)
		}},
		{"RMSNormBack", "a short dWeight", func(b *bench) {
			b.d.RMSNormBack(b.full(7), b.vector(6), b.full(7), b.full(7), b.vector(7), b.vector(3), benchRows)
		}},
		{"SwiGLU", "a short y", func(b *bench) { b.d.SwiGLU(short(b.full(7)), b.full(14), benchRows, 7) }},
		{"SwiGLU", "a short gateUp", func(b *bench) { b.d.SwiGLU(b.full(7), short(b.full(14)), benchRows, 7) }},
		{"SwiGLU", "rows that overlap", func(b *bench) { b.d.SwiGLU(b.full(7), crowded(b.full(14), 14), benchRows, 7) }},
		{"SwiGLUBack", "a short dGateUp", func(b *bench) { b.d.SwiGLUBack(short(b.full(14)), b.full(7), b.full(14), benchRows, 7) }},
		{"SwiGLUBack", "a short dy", func(b *bench) { b.d.SwiGLUBack(b.full(14), short(b.full(7)), b.full(14), benchRows, 7) }},
		{"SwiGLUBack", "a short gateUp", func(b *bench) { b.d.SwiGLUBack(b.full(14), b.full(7), short(b.full(14)), benchRows, 7) }},
		{"Gather", "a short dst", func(b *bench) { b.d.Gather(short(b.full(7)), b.full(7), b.indices(3), benchRows, 7) }},
		{"Gather", "a short index", func(b *bench) { b.d.Gather(b.full(7), b.full(7), b.indices(2), benchRows, 7) }},
		{"Gather", "an index of f32", func(b *bench) { b.d.Gather(b.full(7), b.full(7), b.vector(3), benchRows, 7) }},
		{"ScatterAdd", "a short src", func(b *bench) { b.d.ScatterAdd(b.full(7), b.indices(3), short(b.full(7)), benchRows, 7) }},
		{"ScatterAdd", "a short index", func(b *bench) { b.d.ScatterAdd(b.full(7), b.indices(2), b.full(7), benchRows, 7) }},
		{"ScatterAdd", "an index of f32", func(b *bench) { b.d.ScatterAdd(b.full(7), b.vector(3), b.full(7), benchRows, 7) }},
	}
}

func badRotations() []badCall {
	const count, dim = 2, 6
	heads := func(b *bench) device.Heads {
		return device.Heads{X: b.full(count * dim), Rows: benchRows, Count: count, Dim: dim, Positions: b.indices(benchRows),
			Cos: b.vector(4 * dim / 2), Sin: b.vector(4 * dim / 2), Weight: b.vector(dim), Roots: b.vector(benchRows * count), Eps: 1e-6}
	}
	faults := []struct {
		name   string
		damage func(b *bench, h *device.Heads)
	}{
		{"a short X", func(_ *bench, h *device.Heads) { h.X = short(h.X) }},
		{"an odd Dim", func(_ *bench, h *device.Heads) { h.Count, h.Dim = 4, 3 }},
		{"short Positions", func(_ *bench, h *device.Heads) { h.Positions = less(h.Positions) }},
		{"Positions of f32", func(b *bench, h *device.Heads) { h.Positions = b.vector(benchRows) }},
		{"a short Weight", func(_ *bench, h *device.Heads) { h.Weight = less(h.Weight) }},
		{"short Roots", func(_ *bench, h *device.Heads) { h.Roots = less(h.Roots) }},
		{"a Sin shorter than Cos", func(_ *bench, h *device.Heads) { h.Sin = less(h.Sin) }},
	}
	calls := []badCall{
		{"Rotate", "a short y", func(b *bench) { b.d.Rotate(short(b.full(count*dim)), heads(b)) }},
		{"RotateBoth", "a short yk", func(b *bench) {
			h := heads(b)
			b.d.RotateBoth(b.full(count*dim), short(b.full(count*dim)), h, h)
		}},
		{"RotateBoth", "keys of other rows", func(b *bench) {
			q := heads(b)
			k := q
			k.Rows--
			b.d.RotateBoth(b.full(count*dim), b.full(count*dim), q, k)
		}},
		{"RotateBack", "a short dx", func(b *bench) { b.d.RotateBack(short(b.full(count*dim)), b.vector(dim), b.full(count*dim), heads(b)) }},
		{"RotateBack", "a short dy", func(b *bench) { b.d.RotateBack(b.full(count*dim), b.vector(dim), short(b.full(count*dim)), heads(b)) }},
		{"RotateBack", "a short dWeight", func(b *bench) { b.d.RotateBack(b.full(count*dim), b.vector(dim-1), b.full(count*dim), heads(b)) }},
	}
	for _, f := range faults {
		calls = append(calls,
			badCall{"Rotate", f.name, func(b *bench) {
				h := heads(b)
				f.damage(b, &h)
				b.d.Rotate(b.full(count*dim), h)
			}},
			badCall{"RotateBack", f.name, func(b *bench) {
				h := heads(b)
				f.damage(b, &h)
				b.d.RotateBack(b.full(count*dim), b.vector(dim), b.full(count*dim), h)
			}})
	}
	return calls
}
