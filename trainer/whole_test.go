package trainer

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/graph"
)

// preferred is the loss of preference pairs.
var preferred = kernels.Program{
	Ratio: kernels.RatioOne, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal,
	Objective: kernels.DPO{Beta: 0.1}, Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
}

// paired makes pairs of sequences far apart in the batch: i and i+half.
func paired(batch []Sequence) []Sequence {
	half := len(batch) / 2
	for i := range half {
		batch[i].Pair, batch[i].Chosen, batch[i+half].Pair = fmt.Sprint("p", i), true, fmt.Sprint("p", i)
	}
	return batch
}

// witness keeps the batches it evaluates.
type witness struct {
	Evaluator
	seen []kernels.Batch[float32]
}

func (w *witness) Evaluate(p kernels.Program, b kernels.Batch[float32], totals kernels.Totals) (kernels.Result[float32], error) {
	kept := b
	kept.LogProbs = append([]float32(nil), b.LogProbs...)
	kept.Proximal = append([]float32(nil), b.Proximal...)
	kept.Entropy = append([]float32(nil), b.Entropy...)
	kept.Pair = append([]int32(nil), b.Pair...)
	w.seen = append(w.seen, kept)
	return w.Evaluator.Evaluate(p, b, totals)
}

// TestWholeUpdate cuts updates whose loss compares sequences: it is evaluated once, on the same bits
// however the network takes them, and the gradient is the same up to the order of summation.
func TestWholeUpdate(t *testing.T) {
	score := func(batch []Sequence) []Sequence {
		for i := range batch {
			value := float64(i % 3)
			batch[i].RankScore, batch[i].Group = &value, fmt.Sprint(i%2)
		}
		return batch
	}
	clipped := func(edit func(*kernels.Program)) kernels.Program {
		p := clip
		edit(&p)
		return p
	}
	ranked := preferred
	ranked.Objective = kernels.Rank{Coef: 1, LengthPower: 1, BestCoef: 1}
	for name, test := range map[string]struct {
		program kernels.Program
		batch   func([]Sequence) []Sequence
	}{
		"pairs": {preferred, paired},
		"ranks": {ranked, score},
		"quantile": {clipped(func(p *kernels.Program) { p.Mask = []kernels.Mask{kernels.EntropyQuantile{Keep: 0.5}} }), func(b []Sequence) []Sequence {
			return b
		}},
		"rejected leave": {clipped(func(p *kernels.Program) {
			p.OffPolicy, p.Rejected = []kernels.Correction{kernels.Veto{Min: 1e-3}}, kernels.RejectedLeave
		}), func(b []Sequence) []Sequence {
			last := len(b[1].Behavior) - 1
			b[1].Behavior[last] = 30 // the trainer finds it impossible
			return b
		}},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(tokens int) (*Learner, *witness, Report) {
				w := &witness{Evaluator: graph.New[float32]()}
				l := newLearner(t, w)
				l.Reference = newModel(t, 8)
				u := usual
				u.Program, u.MicroBatchTokens = test.program, tokens
				return l, w, step(t, l, test.batch(played(t, l, 6, 1)), u)
			}
			whole, saw, want := run(1000)
			if want.GradNorm == 0 {
				t.Fatal("the loss has no gradient")
			}
			for _, tokens := range []int{1, 30} {
				parts, also, got := run(tokens)
				if len(saw.seen) != 1 || len(also.seen) != 1 {
					t.Fatalf("%d tokens: evaluated %d and %d times, want once each", tokens, len(saw.seen), len(also.seen))
				}
				for stream, pair := range map[string][2][]float32{
					"log-probabilities": {saw.seen[0].LogProbs, also.seen[0].LogProbs}, "entropies": {saw.seen[0].Entropy, also.seen[0].Entropy},
					"reference": {saw.seen[0].Reference, also.seen[0].Reference},
				} {
					if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
						t.Errorf("%d tokens: %s differ (-whole +parts):\n%s", tokens, stream, diff)
					}
				}
				want.GradNorm, got.GradNorm = 0, 0
				if got != want {
					t.Errorf("%d tokens: %+v, want %+v", tokens, got, want)
				}
				if worst := largestDifference(gradients(parts), gradients(whole)); worst > 1e-5 {
					t.Errorf("%d tokens: a gradient differs by %g", tokens, worst)
				}
			}
		})
	}
}

// TestPreference raises the margin of the chosen sequences.
func TestPreference(t *testing.T) {
	l := newLearner(t, graph.New[float32]())
	l.Reference = newModel(t, 7) // the policy before
	batch := paired(played(t, l, 6, 1))
	u := usual
	u.Program, u.LearningRate, u.Minibatches = preferred, 0.003, 3
	first := step(t, l, batch, u)
	last := first
	for range 20 {
		last = step(t, l, batch, u)
	}
	if first.Pairs != 3 || last.PairAccuracy != 1 || last.Loss > first.Loss/2 {
		t.Errorf("%d pairs, accuracy %g to %g, loss %g to %g", first.Pairs, first.PairAccuracy, last.PairAccuracy, first.Loss, last.Loss)
	}
}

// TestReferenceComesAlong trains on log-probabilities that the sequences bring: the learner asks nobody.
func TestReferenceComesAlong(t *testing.T) {
	asking, bringing := newLearner(t, graph.New[float32]()), newLearner(t, graph.New[float32]())
	asking.Reference = newModel(t, 8)
	batch := paired(played(t, asking, 4, 1))
	brought := append([]Sequence(nil), batch...)
	for i := range brought {
		var p packing
		p.layTokens(brought[i : i+1])
		scores, err := asking.Reference.Score(t.Context(), p.packed, 1)
		if err != nil {
			t.Fatal(err)
		}
		brought[i].Reference = scores.LogProbs
	}
	for _, program := range []kernels.Program{preferred, func() kernels.Program {
		p := clip
		p.Regularizers = []kernels.Regularizer{kernels.NewKL()}
		return p
	}()} {
		u := usual
		u.Program, u.MicroBatchTokens = program, 30
		if a, b := step(t, asking, batch, u), step(t, bringing, brought, u); a != b || digest(t, asking.Model) != digest(t, bringing.Model) {
			t.Errorf("%s:\nasked %+v\nbrought %+v", program, a, b)
		}
	}
}

// TestProximalOverrides compares with the log-probabilities that a sequence brings in place of the sampler's.
func TestProximalOverrides(t *testing.T) {
	l := newLearner(t, graph.New[float32]())
	batch := played(t, l, 2, 1)
	for i := range batch {
		batch[i].Proximal = make([]float32, len(batch[i].Behavior))
		for k, b := range batch[i].Behavior {
			batch[i].Proximal[k] = b - float32(math.Log(1.5))
		}
	}
	if report := step(t, l, batch, usual); math.Abs(report.RatioMean-1.5) > 1e-6 || report.OnPolicyGap != 0 {
		t.Errorf("mean ratio %g, gap %g; want 1.5 and 0", report.RatioMean, report.OnPolicyGap)
	}
}

// TestDivide keeps what the program compares together, loses nothing and keeps the order otherwise.
func TestDivide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "c", "d"}), 1, 14).Draw(t, "names")
		n := rapid.IntRange(1, 6).Draw(t, "minibatches")
		reads := rapid.SampledFrom([]kernels.Stream{0, kernels.ReadsPairs, kernels.ReadsRankScores}).Draw(t, "reads")
		batch := make([]Sequence, len(names))
		for i, name := range names {
			batch[i] = Sequence{Tokens: []int32{int32(i)}, Pair: name, Group: name}
		}
		parts := divide(batch, n, reads)
		at, partOf, previous := map[int32]bool{}, map[string]int{}, int32(-1)
		for p, part := range parts {
			if len(part) == 0 {
				t.Fatalf("part %d is empty", p)
			}
			for _, s := range part {
				at[s.Tokens[0]] = true
				together := reads == kernels.ReadsPairs && s.Pair != "" || reads == kernels.ReadsRankScores
				if first, seen := partOf[s.Pair]; together && seen && first != p {
					t.Fatalf("company %q lies in parts %d and %d", s.Pair, first, p)
				}
				partOf[s.Pair] = p
				if reads == 0 && s.Tokens[0] != previous+1 {
					t.Fatalf("sequence %d after %d", s.Tokens[0], previous)
				}
				previous = s.Tokens[0]
			}
		}
		if len(at) != len(batch) || len(parts) > n {
			t.Fatalf("%d of %d sequences in %d parts of at most %d", len(at), len(batch), len(parts), n)
		}
	})
}

// TestStreamsThatAreMissing names the sequence and the stream.
func TestStreamsThatAreMissing(t *testing.T) {
	program := func(edit func(*kernels.Program)) kernels.Program {
		p := clip
		edit(&p)
		return p
	}
	ranked := preferred
	ranked.Objective = kernels.Rank{Coef: 1, LengthPower: 1}
	for want, p := range map[string]kernels.Program{
		"the learner has none":                  preferred,
		"sequence 0: the loss reads rank_score": ranked,
		"no value head":                         program(func(p *kernels.Program) { p.Regularizers = []kernels.Regularizer{kernels.NewValue()} }),
		"sequence 0: the loss reads versions and this sequence has none": program(func(p *kernels.Program) { p.Anchor = kernels.AnchorLogLinear }),
	} {
		l := newLearner(t, graph.New[float32]())
		u := usual
		u.Program = p
		if _, err := l.Step(t.Context(), played(t, l, 2, 1), u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an error with %q", err, want)
		}
	}
}
