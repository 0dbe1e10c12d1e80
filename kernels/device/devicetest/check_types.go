package devicetest

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// other is a matrix of the compute type that is not the check's.
func (b *bench) other(width int) device.Rows {
	t := device.BF16
	if b.c.dtype == t {
		t = device.F32
	}
	return b.typed(t, width)
}

// typed is a matrix of finite numbers of a type.
func (b *bench) typed(t device.DType, width int) device.Rows {
	return b.lay("operand", t, b.c.numbers(benchRows*width, 1), benchRows, width, guard).matrix()
}

// half is a dense buffer of finite bf16 numbers.
func (b *bench) half(n int) device.Buffer {
	return b.lay("operand", device.BF16, b.c.numbers(n, 1), 1, n, guard).data()
}

// operands are matrices of so many columns for the places of a call.
type operands func(place, width int) device.Rows

// mixtures are calls of an operation in each of which the matrix at another place is of the other type.
func mixtures(operation string, places int, call func(b *bench, at operands)) []badCall {
	var calls []badCall
	for odd := range places {
		calls = append(calls, badCall{operation, fmt.Sprintf("matrix %d of %d of the other type", odd+1, places), func(b *bench) {
			call(b, func(place, width int) device.Rows {
				if place == odd {
					return b.other(width)
				}
				return b.full(width)
			})
		}})
	}
	return calls
}

// badTypes are calls whose operands are of types that do not go together: activations of both compute types, types
// for storage alone, parameters and statistics that are not float32.
func badTypes() []badCall {
	calls := []badCall{
		{"NewWeights", "a matrix of bf16 for products of f32", func(b *bench) { _, _ = b.d.NewWeights(b.half(35), device.F32, 5, 7, device.Forward) }},
		{"NewWeights", "a type for storage", func(b *bench) { _, _ = b.d.NewWeights(b.vector(35), device.F16, 5, 7, device.Forward) }},
		{"NewWeights", "no type", func(b *bench) { _, _ = b.d.NewWeights(b.vector(35), 0, 5, 7, device.Forward) }},
		{"NewPages", "a type for storage", func(b *bench) {
			_, _ = b.d.NewPages(device.PageShape{DType: device.F16, Layers: 1, KVHeads: 1, Dim: 2, Pages: 1})
		}},
		{"NewPages", "no type", func(b *bench) { _, _ = b.d.NewPages(device.PageShape{Layers: 1, KVHeads: 1, Dim: 2, Pages: 1}) }},
		{"Product", "an operand of the other type", func(b *bench) { b.d.Product(b.full(benchOut), b.other(benchIn), benchRows, b.both, false) }},
		{"Product", "a result of a type for storage", func(b *bench) {
			b.d.Product(b.typed(device.F16, benchOut), b.full(benchIn), benchRows, b.both, false)
		}},
		{"ProductOnto", "a base of the other type", func(b *bench) {
			b.d.ProductOnto(b.full(benchOut), b.other(benchOut), b.full(benchIn), benchRows, b.both)
		}},
		{"ProductGrad", "a gradient of bf16", func(b *bench) {
			b.d.ProductGrad(b.half(35), b.full(benchOut), b.full(benchIn), benchRows, benchOut, benchIn)
		}},
		{"AddBias", "a bias of bf16", func(b *bench) { b.d.AddBias(b.full(5), b.half(5), benchRows) }},
		{"BiasGrad", "a sum of bf16", func(b *bench) { b.d.BiasGrad(b.half(5), b.full(5), benchRows) }},
		{"RMSNorm", "a weight of bf16", func(b *bench) { b.d.RMSNorm(b.full(7), b.full(7), b.half(7), b.vector(3), benchRows, 1e-6) }},
		{"RMSNorm", "roots of bf16", func(b *bench) { b.d.RMSNorm(b.full(7), b.full(7), b.vector(7), b.half(3), benchRows, 1e-6) }},
		{"RMSNormBack", "a dWeight of bf16", func(b *bench) {
			b.d.RMSNormBack(b.full(7), b.half(7), b.full(7), b.full(7), b.vector(7), b.vector(3), benchRows)
		}},
		{"Gather", "a table narrower than dst", func(b *bench) {
			b.d.Gather(b.typed(device.F32, 7), b.typed(device.BF16, 7), b.indices(3), benchRows, 7)
		}},
		{"ScatterAdd", "a table narrower than src", func(b *bench) {
			b.d.ScatterAdd(b.typed(device.BF16, 7), b.indices(3), b.typed(device.F32, 7), benchRows, 7)
		}},
		{"Draw", "logits of bf16", func(b *bench) {
			b.d.Draw(b.draws([]device.Sampling{{TopP: 1}, {TopP: 1}, {TopP: 1}}), b.typed(device.BF16, benchOut))
		}},
		{"AdamW", "a parameter of bf16", func(b *bench) {
			b.d.AdamW(device.AdamWStep{Param: b.half(7), Grad: b.vector(7), M: b.vector(7), V: b.vector(7), BiasCorrection1: 1, BiasCorrection2: 1})
		}},
		{"Add", "sums of bf16", func(b *bench) { b.d.Add(b.half(7), b.half(7), 1) }},
		{"Scale", "a type for storage", func(b *bench) { b.d.Scale(b.typed(device.F16, 7).Data, 2) }},
		{"SquaredNorm", "numbers of bf16", func(b *bench) { _, _ = b.d.SquaredNorm(b.half(7)) }},
		{"FirstNonFinite", "numbers of bf16", func(b *bench) { _, _ = b.d.FirstNonFinite(b.half(7)) }},
	}
	calls = append(calls, mixedLayers()...)
	return append(calls, mixedSequences()...)
}

func mixedLayers() []badCall {
	heads := func(b *bench, x device.Rows) device.Heads {
		return device.Heads{X: x, Rows: benchRows, Count: 2, Dim: 6, Positions: b.indices(benchRows), Cos: b.vector(12), Sin: b.vector(12)}
	}
	calls := mixtures("ProductBack", 2, func(b *bench, at operands) {
		b.d.ProductBack(at(0, benchIn), at(1, benchOut), benchRows, b.both, false)
	})
	for _, more := range [][]badCall{
		mixtures("ProductGrad", 2, func(b *bench, at operands) {
			b.d.ProductGrad(b.vector(35), at(0, benchOut), at(1, benchIn), benchRows, benchOut, benchIn)
		}),
		mixtures("RMSNorm", 2, func(b *bench, at operands) {
			b.d.RMSNorm(at(0, 7), at(1, 7), b.vector(7), b.vector(3), benchRows, 1e-6)
		}),
		mixtures("RMSNormBack", 3, func(b *bench, at operands) {
			b.d.RMSNormBack(at(0, 7), b.vector(7), at(1, 7), at(2, 7), b.vector(7), b.vector(3), benchRows)
		}),
		mixtures("SwiGLU", 2, func(b *bench, at operands) { b.d.SwiGLU(at(0, 7), at(1, 14), benchRows, 7) }),
		mixtures("SwiGLUBack", 3, func(b *bench, at operands) {
			b.d.SwiGLUBack(at(0, 14), at(1, 7), at(2, 14), benchRows, 7)
		}),
		mixtures("Rotate", 2, func(b *bench, at operands) { b.d.Rotate(at(0, 12), heads(b, at(1, 12))) }),
		mixtures("RotateBack", 3, func(b *bench, at operands) {
			b.d.RotateBack(at(0, 12), device.Buffer{}, at(1, 12), heads(b, at(2, 12)))
		}),
		mixtures("CopyRows", 2, func(b *bench, at operands) { b.d.CopyRows(at(0, 7), at(1, 7), benchRows, 7) }),
	} {
		calls = append(calls, more...)
	}
	return calls
}

func mixedSequences() []badCall {
	const qw, kw = benchHeads * benchDim, benchKV * benchDim
	attended := func(b *bench, q, k, v device.Rows) device.Attended {
		return device.Attended{Q: q, K: k, V: v, Offsets: b.offsets([]int32{0, 1, benchRows}), Heads: benchHeads, KVHeads: benchKV, Dim: benchDim, Scale: 0.5}
	}
	placed := func(b *bench) *device.Placement {
		at := &device.Placement{Offsets: []int32{0, 1, benchRows}, Cached: []int32{0, 0}, Tables: [][]int32{{0}, {2}}}
		b.d.Place(at)
		return at
	}
	scored := func(b *bench, x device.Rows) device.Scored {
		return device.Scored{X: x, Rows: benchRows, Head: b.both, Matrix: b.vector(35), Targets: b.indices(benchRows),
			InverseTemperature: 1, LogProbs: b.vector(benchRows), Entropies: b.vector(benchRows)}
	}
	calls := []badCall{
		{"Score", "a matrix of the other type", func(b *bench) { b.d.Score(scored(b, b.other(benchIn))) }},
		{"Score", "log-probabilities of bf16", func(b *bench) {
			s := scored(b, b.full(benchIn))
			s.LogProbs = b.half(benchRows)
			b.d.Score(s)
		}},
		{"ScoreBack", "a dHead of bf16", func(b *bench) {
			b.d.ScoreBack(b.full(benchIn), b.half(35), b.vector(3), b.vector(3), scored(b, b.full(benchIn)))
		}},
	}
	for _, more := range [][]badCall{
		mixtures("Attend", 4, func(b *bench, at operands) {
			b.d.Attend(at(0, qw), attended(b, at(1, qw), at(2, kw), at(3, kw)))
		}),
		mixtures("AttendBack", 8, func(b *bench, at operands) {
			b.d.AttendBack(at(0, qw), at(1, kw), at(2, kw), at(3, qw), at(4, qw), attended(b, at(5, qw), at(6, kw), at(7, kw)))
		}),
		mixtures("WritePages", 2, func(b *bench, at operands) { b.d.WritePages(b.pages, 0, at(0, kw), at(1, kw), placed(b)) }),
		mixtures("AttendPages", 2, func(b *bench, at operands) {
			b.d.AttendPages(at(0, qw), at(1, qw), b.pages, 0, benchHeads, 1, placed(b))
		}),
		mixtures("ScoreBack", 2, func(b *bench, at operands) {
			b.d.ScoreBack(at(0, benchIn), b.vector(35), b.vector(3), b.vector(3), scored(b, at(1, benchIn)))
		}),
	} {
		calls = append(calls, more...)
	}
	return calls
}
