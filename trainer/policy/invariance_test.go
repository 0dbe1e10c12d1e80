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
	for name, c := range shapes() {
		t.Run(name, func(t *testing.T) {
			m := newModel(t, c, 7)
			p := randomPacked(c, 11, 40, 3, 17, 1, 29, 40, 40, 8, 33, 2)
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

func TestPassesDoNotDependOnThreads(t *testing.T) {
	c := shapes()["wide"]
	m := newModel(t, c, 7)
	lengths := make([]int, 30)
	for i := range lengths {
		lengths[i] = 20 + 3*i
	}
	p := randomPacked(c, 13, lengths...)
	var wantL, wantH, wantG []float32
	for _, threads := range []int{1, 2, 5} {
		before := runtime.GOMAXPROCS(threads)
		l, h := score(t, m, p, 1)
		m.ZeroGrad()
		var accumulatedL []float32
		err := m.Accumulate(context.Background(), p, 1, func(now Scores) (Scores, error) {
			accumulatedL = append(accumulatedL, now.LogProbs...)
			return now, nil
		})
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		equalBits(t, "log-probabilities the loss sees", accumulatedL, l)
		if wantL == nil {
			wantL, wantH, wantG = l, h, values(t, m.grads)
			continue
		}
		equalBits(t, "log-probabilities", l, wantL)
		equalBits(t, "entropies", h, wantH)
		equalBits(t, "gradient", values(t, m.grads), wantG)
	}
}
