package policy

import (
	"context"
	"runtime"
	"strings"
	"testing"
)

func contains(err error, part string) bool { return strings.Contains(err.Error(), part) }

// shapes are networks whose widths are and are not multiples of vector and tile widths.
func shapes() map[string]Config {
	wide := DefaultConfig()
	wide.Layers, wide.VocabSize, wide.MaxPositions = 2, 150, 160
	return map[string]Config{"tiny": tinyConfig(), "wide": wide}
}

func TestScoreDoesNotDependOnBatch(t *testing.T) {
	all := variants()
	for name, c := range shapes() {
		all[name] = variant{c, Options{}}
	}
	for name, v := range all {
		t.Run(name, func(t *testing.T) {
			v.options.Seed = 7
			m := newModelWith(t, v.config, v.options)
			p := randomPacked(v.config, 11, 40, 3, 17, 1, 29, 40, 40, 8, 33, 2)
			packed, packedH := score(t, m, p, 0.7)
			for i := range p.Sequences() {
				from, to := p.Offsets[i], p.Offsets[i+1]
				alone := Packed{p.Tokens[from:to], []int32{0, to - from}}
				l, h := score(t, m, alone, 0.7)
				equalBits(t, "log-probabilities alone", l, packed[from:to])
				equalBits(t, "entropies alone", h, packedH[from:to])
				// A prefix has the bits of the whole.
				half := (to - from + 1) / 2
				l, _ = score(t, m, Packed{alone.Tokens[:half], []int32{0, half}}, 0.7)
				equalBits(t, "log-probabilities of a prefix", l, packed[from:from+half])
			}
		})
	}
}

// TestTrainingBitsAreFixed computes scores and gradients on 1 to 4 threads, with activations kept and
// computed again: one set of bits.
func TestTrainingBitsAreFixed(t *testing.T) {
	all := variants()
	all["wide"] = variant{shapes()["wide"], Options{}}
	for name, v := range all {
		t.Run(name, func(t *testing.T) {
			v.options.Seed = 7
			lengths := make([]int, 60)
			for i := range lengths {
				lengths[i] = 1 + (7*i)%min(v.config.MaxPositions, 90)
			}
			p := randomPacked(v.config, 13, lengths...)
			var want, gradient []float32
			for _, recompute := range []bool{false, true} {
				v.options.Recompute = recompute
				m := newModelWith(t, v.config, v.options)
				for threads := 1; threads <= 4; threads++ {
					before := runtime.GOMAXPROCS(threads)
					s := scores(t, m, p, 1)
					m.ZeroGrad()
					var seen Scores
					err := m.Accumulate(context.Background(), p, 1, func(now Scores) (Scores, error) {
						seen.LogProbs = append(seen.LogProbs, now.LogProbs...)
						return now, nil
					})
					runtime.GOMAXPROCS(before)
					if err != nil {
						t.Fatal(err)
					}
					equalBits(t, "log-probabilities the loss sees", seen.LogProbs, s.LogProbs)
					if want == nil {
						want, gradient = append(s.LogProbs, append(s.Entropies, s.Values...)...), values(t, m.grads)
						continue
					}
					equalBits(t, "scores", append(s.LogProbs, append(s.Entropies, s.Values...)...), want)
					equalBits(t, "gradient", values(t, m.grads), gradient)
				}
				m.Free()
			}
		})
	}
}

// TestRecomputationKeepsLess compares the memory of activations.
func TestRecomputationKeepsLess(t *testing.T) {
	c := shapes()["wide"]
	p := randomPacked(c, 1, 100, 100)
	var kept [2]int64
	for i, recompute := range []bool{false, true} {
		m := newModelWith(t, c, Options{Seed: 1, Recompute: recompute})
		if err := m.Accumulate(context.Background(), p, 1, ones); err != nil {
			t.Fatal(err)
		}
		kept[i] = m.Memory().Activations
	}
	if want := int64(4 * 200 * c.Hidden * (c.Layers + 1)); kept[1] != want || kept[0] < 3*want {
		t.Errorf("%d bytes of activations, %d with recomputation, which needs %d", kept[0], kept[1], want)
	}
}

// TestBatchesFollowEachOther grows, shrinks and changes what is kept on one model.
func TestBatchesFollowEachOther(t *testing.T) {
	v := variants()["adapters and tied head"]
	v.options.Seed = 3
	m := newModelWith(t, v.config, v.options)
	for round, lengths := range [][]int{{5}, {30, 2, 40, 1}, {}, {7, 7}, {40, 40, 40}} {
		p := randomPacked(v.config, uint64(round), lengths...)
		m.ZeroGrad()
		if err := m.Accumulate(context.Background(), p, 1, ones); err != nil {
			t.Fatal(err)
		}
		scores(t, m, p, 0.5)
		fresh := newModelWith(t, v.config, v.options)
		if err := fresh.Accumulate(context.Background(), p, 1, ones); err != nil {
			t.Fatal(err)
		}
		equalBits(t, "gradient", values(t, m.grads), values(t, fresh.grads))
		fresh.Free()
	}
}

// TestLanesDependOnTheSizeAlone holds the memory of partial gradients down.
func TestLanesDependOnTheSizeAlone(t *testing.T) {
	for _, tc := range []struct{ parameters, lanes int }{{1, 8}, {1 << 18, 8}, {850_000, 4}, {5_800_000, 2}, {100_000_000, 1}} {
		if got := laneCount(tc.parameters); got != tc.lanes {
			t.Errorf("%d parameters: %d lanes, want %d", tc.parameters, got, tc.lanes)
		}
	}
}
