package devicetest

import "github.com/turnwise-rl/turnwise/kernels/device"

func badAttention() []badCall {
	const qw, kw = benchHeads * benchDim, benchKV * benchDim
	attended := func(b *bench) device.Attended {
		return device.Attended{Q: b.full(qw), K: b.full(kw), V: b.full(kw), Offsets: b.offsets([]int32{0, 1, benchRows}),
			Heads: benchHeads, KVHeads: benchKV, Dim: benchDim, Scale: 0.5}
	}
	faults := []struct {
		name   string
		damage func(b *bench, a *device.Attended)
	}{
		{"a short Q", func(_ *bench, a *device.Attended) { a.Q = short(a.Q) }},
		{"a short K", func(_ *bench, a *device.Attended) { a.K = short(a.K) }},
		{"a short V", func(_ *bench, a *device.Attended) { a.V = short(a.V) }},
		{"heads that do not divide", func(_ *bench, a *device.Attended) { a.Heads = 3 }},
		{"keys that overlap", func(_ *bench, a *device.Attended) { a.K = crowded(a.K, kw) }},
	}
	calls := []badCall{{"Attend", "a short out", func(b *bench) { b.d.Attend(short(b.full(qw)), attended(b)) }}}
	for i, name := range []string{"dq", "dk", "dv", "dOut", "out"} {
		calls = append(calls, badCall{"AttendBack", "a short " + name, func(b *bench) {
			rows := []device.Rows{b.full(qw), b.full(kw), b.full(kw), b.full(qw), b.full(qw)}
			rows[i] = short(rows[i])
			b.d.AttendBack(rows[0], rows[1], rows[2], rows[3], rows[4], attended(b))
		}})
	}
	for _, f := range faults {
		calls = append(calls,
			badCall{"Attend", f.name, func(b *bench) {
				a := attended(b)
				f.damage(b, &a)
				b.d.Attend(b.full(qw), a)
			}},
			badCall{"AttendBack", f.name, func(b *bench) {
				a := attended(b)
				f.damage(b, &a)
				b.d.AttendBack(b.full(qw), b.full(kw), b.full(kw), b.full(qw), b.full(qw), a)
			}})
	}
	return calls
}

func badCache() []badCall {
	const qw, kw = benchHeads * benchDim, benchKV * benchDim
	// placed is a placement of the bench's rows that fits.
	placed := func(b *bench) *device.Placement {
		at := &device.Placement{Offsets: []int32{0, 1, benchRows}, Cached: []int32{0, 0}, Tables: [][]int32{{0}, {2}}}
		b.d.Place(at)
		return at
	}
	return []badCall{
		{"NewPages", "no heads", func(b *bench) { _, _ = b.d.NewPages(device.PageShape{DType: b.c.dtype, Layers: 1, Dim: 2, Pages: 1}) }},
		{"Place", "a table that does not cover its rows", func(b *bench) {
			b.d.Place(&device.Placement{Offsets: []int32{0, 2}, Cached: []int32{31}, Tables: [][]int32{{0}}})
		}},
		{"Place", "a table too few", func(b *bench) {
			b.d.Place(&device.Placement{Offsets: []int32{0, 1, 2}, Cached: []int32{0, 0}, Tables: [][]int32{{0}}})
		}},
		{"Place", "a cached length too few", func(b *bench) {
			b.d.Place(&device.Placement{Offsets: []int32{0, 1, 2}, Cached: []int32{0}, Tables: [][]int32{{0}, {1}}})
		}},
		{"Place", "a page before the first", func(b *bench) {
			b.d.Place(&device.Placement{Offsets: []int32{0, 1}, Cached: []int32{0}, Tables: [][]int32{{-1}}})
		}},
		{"Place", "more parts than there is room for", func(b *bench) {
			b.d.Place(&device.Placement{Offsets: []int32{0, 1, 2}, Cached: []int32{0, 0}, Tables: [][]int32{{0}, {1}}, Capacity: 1})
		}},
		{"Place", "room for fewer than no parts", func(b *bench) {
			b.d.Place(&device.Placement{Offsets: []int32{0, 1}, Cached: []int32{0}, Tables: [][]int32{{0}}, Capacity: -1})
		}},
		{"AttendPages", "a page that the cache does not have", func(b *bench) {
			at := &device.Placement{Offsets: []int32{0, 1}, Cached: []int32{0}, Tables: [][]int32{{1000}}}
			b.d.Place(at)
			b.d.AttendPages(b.full(qw), b.full(qw), b.pages, 0, benchHeads, 1, at)
		}},
		{"WritePages", "short keys", func(b *bench) { b.d.WritePages(b.pages, 0, short(b.full(kw)), b.full(kw), placed(b)) }},
		{"WritePages", "short values", func(b *bench) { b.d.WritePages(b.pages, 0, b.full(kw), short(b.full(kw)), placed(b)) }},
		{"WritePages", "a layer too many", func(b *bench) { b.d.WritePages(b.pages, 2, b.full(kw), b.full(kw), placed(b)) }},
		{"AttendPages", "a short out", func(b *bench) {
			b.d.AttendPages(short(b.full(qw)), b.full(qw), b.pages, 0, benchHeads, 1, placed(b))
		}},
		{"AttendPages", "a short q", func(b *bench) {
			b.d.AttendPages(b.full(qw), short(b.full(qw)), b.pages, 0, benchHeads, 1, placed(b))
		}},
		{"AttendPages", "a layer too many", func(b *bench) {
			b.d.AttendPages(b.full(qw), b.full(qw), b.pages, 2, benchHeads, 1, placed(b))
		}},
		{"AttendPages", "heads that do not divide", func(b *bench) { b.d.AttendPages(b.full(qw), b.full(qw), b.pages, 0, 3, 1, placed(b)) }},
		{"CopyPage", "a source that is not there", func(b *bench) { b.d.CopyPage(b.pages, 0, 3) }},
		{"CopyPage", "a destination that is not there", func(b *bench) { b.d.CopyPage(b.pages, -1, 0) }},
	}
}

func badHead() []badCall {
	scored := func(b *bench) device.Scored {
		return device.Scored{X: b.full(benchIn), Rows: benchRows, Head: b.both, Matrix: b.vector(benchOut * benchIn), Targets: b.indices(benchRows),
			InverseTemperature: 1, LogProbs: b.vector(benchRows), Entropies: b.vector(benchRows)}
	}
	damaged := func(damage func(b *bench, s *device.Scored)) func(b *bench) {
		return func(b *bench) {
			s := scored(b)
			damage(b, &s)
			b.d.Score(s)
		}
	}
	sampling := make([]device.Sampling, benchRows)
	for i := range sampling {
		sampling[i] = device.Sampling{Temperature: 1, TopP: 1}
	}
	return []badCall{
		{"Score", "a short X", damaged(func(_ *bench, s *device.Scored) { s.X = short(s.X) })},
		{"Score", "short Targets", damaged(func(_ *bench, s *device.Scored) { s.Targets = less(s.Targets) })},
		{"Score", "Targets of f32", damaged(func(b *bench, s *device.Scored) { s.Targets = b.vector(benchRows) })},
		{"Score", "short LogProbs", damaged(func(_ *bench, s *device.Scored) { s.LogProbs = less(s.LogProbs) })},
		{"Score", "short Entropies", damaged(func(_ *bench, s *device.Scored) { s.Entropies = less(s.Entropies) })},
		{"ScoreBack", "a short dx", func(b *bench) {
			b.d.ScoreBack(short(b.full(benchIn)), b.vector(35), b.vector(3), b.vector(3), scored(b))
		}},
		{"ScoreBack", "a short dHead", func(b *bench) { b.d.ScoreBack(b.full(benchIn), b.vector(34), b.vector(3), b.vector(3), scored(b)) }},
		{"ScoreBack", "short dLogProbs", func(b *bench) { b.d.ScoreBack(b.full(benchIn), b.vector(35), b.vector(2), b.vector(3), scored(b)) }},
		{"ScoreBack", "short dEntropies", func(b *bench) { b.d.ScoreBack(b.full(benchIn), b.vector(35), b.vector(3), b.vector(2), scored(b)) }},
		{"ScoreBack", "short known LogProbs", func(b *bench) {
			s := scored(b)
			s.Known, s.LogProbs = true, less(s.LogProbs)
			b.d.ScoreBack(b.full(benchIn), b.vector(35), b.vector(3), b.vector(3), s)
		}},
		{"PlaceSampling", "a temperature below 0", func(b *bench) {
			_ = b.d.PlaceSampling(new(device.Draws), []device.Sampling{{Temperature: -1, TopP: 1}}, benchOut)
		}},
		{"PlaceSampling", "no tokens", func(b *bench) { _ = b.d.PlaceSampling(new(device.Draws), sampling, 0) }},
		{"Draw", "short logits", func(b *bench) { b.d.Draw(b.draws(sampling), device.Dense(b.vector(benchRows*benchOut-1), benchOut)) }},
		{"Drawn", "too few results", func(b *bench) { _ = b.d.Drawn(make([]device.Sampled, 2), b.draws(sampling)) }},
	}
}

func badOptimizer() []badCall {
	step := func(fault string, param, grad, m, v int) badCall {
		return badCall{"AdamW", fault, func(b *bench) {
			b.d.AdamW(device.AdamWStep{Param: b.vector(param), Grad: b.vector(grad), M: b.vector(m), V: b.vector(v), LearningRate: 1, Beta1: 0.9, Beta2: 0.99,
				Epsilon: 1e-8, BiasCorrection1: 1, BiasCorrection2: 1})
		}}
	}
	return append(badUpdates(), []badCall{
		step("a short gradient", 7, 6, 7, 7),
		step("a short first moment", 7, 7, 6, 7),
		step("a short second moment", 7, 7, 7, 6),
		{"Add", "a shorter source", func(b *bench) { b.d.Add(b.vector(7), b.vector(6), 1) }},
		{"Add", "a longer source", func(b *bench) { b.d.Add(b.vector(6), b.vector(7), 1) }},
		{"Scale", "integers", func(b *bench) { b.d.Scale(b.indices(7), 2) }},
		{"SquaredNorm", "integers", func(b *bench) { _, _ = b.d.SquaredNorm(b.indices(7)) }},
		{"FirstNonFinite", "integers", func(b *bench) { _, _ = b.d.FirstNonFinite(b.indices(7)) }},
	}...)
}

// draws are placed rows.
func (b *bench) draws(how []device.Sampling) *device.Draws {
	b.c.must(b.d.PlaceSampling(&b.placed, how, benchOut))
	return &b.placed
}
