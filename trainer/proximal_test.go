package trainer

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/kernels/ref"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// decoupled is decoupled PPO: the ratio is of the current to the proximal policy, weighed by proximal over behavior.
var decoupled = func() kernels.Program {
	p := clip
	p.OffPolicy = []kernels.Correction{kernels.BehaviorWeight{Level: kernels.LevelToken, Action: kernels.ActionClamp, High: 5}}
	return p
}()

// scored are the log-probabilities that a model gives to sequences, one sequence a pass.
func scored(t testing.TB, m *policy.Model, batch []Sequence) [][]float32 {
	t.Helper()
	out := make([][]float32, len(batch))
	for i := range batch {
		var p packing
		p.layTokens(batch[i : i+1])
		scores, err := m.Score(t.Context(), p.packed, 1)
		if err != nil {
			t.Fatal(err)
		}
		out[i] = scores.LogProbs
	}
	return out
}

// moved is a learner some imitation away from the one that sampled the batch, which says that version 0 did.
func moved(t testing.TB, loss Evaluator) (*Learner, []Sequence) {
	t.Helper()
	l := newLearner(t, loss)
	batch := played(t, l, 6, 1)
	step(t, l, imitated(batch[:3]), Update{Program: Imitation, LearningRate: 0.02, Minibatches: 1, MicroBatchTokens: 1000})
	for i := range batch {
		batch[i].Versions = make([]int32, len(batch[i].Tokens))
	}
	return l, batch
}

// TestDecoupledUpdate trains what an old policy sampled in two minibatches. What the loss is evaluated on, its value
// and its derivatives are those of the oracle on three policies told apart by hand: the one that sampled, the one the
// step begins with and the one after the first minibatch.
func TestDecoupledUpdate(t *testing.T) {
	for name, u := range map[string]Update{
		"asked for":         {Program: decoupled, LearningRate: 0.01, Minibatches: 2, MicroBatchTokens: 30, Version: 1, MeasureProximal: true},
		"told by versions":  {Program: decoupled, LearningRate: 0.01, Minibatches: 2, MicroBatchTokens: 30, Version: 2},
		"in one micropiece": {Program: decoupled, LearningRate: 0.01, Minibatches: 2, MicroBatchTokens: 1000, Version: 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := &witness{Evaluator: graph.New[float32]()}
			l, batch := moved(t, w)
			w.seen = nil
			proximal := scored(t, l.Model, batch)
			halfway, _ := moved(t, graph.New[float32]())
			first := u
			first.Minibatches, first.MeasureProximal = 1, true
			step(t, halfway, batch[:3], first)
			current := append(slices.Clone(proximal[:3]), scored(t, halfway.Model, batch[3:])...)

			report := step(t, l, batch, u)
			loss, kl, largest, tokens := 0.0, 0.0, 0.0, 0.0
			for half := range 2 {
				part := batch[3*half : 3*half+3]
				var totals kernels.Totals
				for _, s := range part {
					totals = totals.Add(s.totals())
				}
				for i, s := range part {
					at := 3*half + i
					want, err := ref.Evaluate(decoupled, kernels.Batch[float64]{
						Offsets: []int32{0, int32(len(s.Tokens))}, Sampled: s.Sampled, Turn: s.Turn, Advantages: widen(s.Advantage),
						LogProbs: widen(current[at]), Proximal: widen(proximal[at]), Behavior: widen(s.Behavior),
					}, totals)
					if err != nil {
						t.Fatal(err)
					}
					loss += want.Loss / 2
					for k, sampled := range s.Sampled {
						if sampled {
							x := float64(proximal[at][k]) - float64(s.Behavior[k])
							kl, largest, tokens = kl+math.Exp(x)-1-x, math.Max(largest, math.Abs(x)), tokens+1
						}
					}
				}
			}
			if math.Abs(report.Loss-loss) > 1e-5 {
				t.Errorf("loss %g, the oracle's is %g", report.Loss, loss)
			}
			if math.Abs(report.ProximalKL-kl/tokens) > 1e-9 || report.ProximalKL < 1e-4 || report.OnPolicyGap != largest {
				t.Errorf("proximal KL %g and gap %g, want %g and %g", report.ProximalKL, report.OnPolicyGap, kl/tokens, largest)
			}
			if report.StalenessVersions != float64(u.Version-1) || report.StalenessMax != int(u.Version-1) {
				t.Errorf("staleness %g, %d at most; want %d", report.StalenessVersions, report.StalenessMax, u.Version-1)
			}
			var seen kernels.Batch[float32]
			for _, b := range w.seen {
				seen.LogProbs, seen.Proximal = append(seen.LogProbs, b.LogProbs...), append(seen.Proximal, b.Proximal...)
			}
			for stream, pair := range map[string][2][]float32{
				"current": {slices.Concat(current...), seen.LogProbs}, "proximal": {slices.Concat(proximal...), seen.Proximal},
			} {
				if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
					t.Errorf("%s log-probabilities (-want +seen):\n%s", stream, diff)
				}
			}
			if slices.Equal(seen.Proximal, seen.LogProbs) || report.RatioMean == 1 {
				t.Error("the second minibatch does not see other weights than the first")
			}
		})
	}
}

// TestOneUpdateNeedsNoScoringPass trains in one update: the proximal policy is the forward's own, which gives the
// bits of a scoring pass before, and the ratio is exactly 1.
func TestOneUpdateNeedsNoScoringPass(t *testing.T) {
	for _, tokens := range []int{1, 30, 1000} {
		u := Update{Program: decoupled, LearningRate: 0.01, Minibatches: 1, MicroBatchTokens: tokens, Version: 2, MeasureProximal: true}
		own, batch := moved(t, graph.New[float32]())
		brought, _ := moved(t, graph.New[float32]())
		with := slices.Clone(batch)
		for i, proximal := range scored(t, brought.Model, batch) {
			with[i].Proximal = proximal
		}
		a, b := step(t, own, batch, u), step(t, brought, with, u)
		if a != b || digest(t, own.Model) != digest(t, brought.Model) {
			t.Errorf("%d tokens:\nmeasured %+v\nscored before %+v", tokens, a, b)
		}
		if a.RatioMean != 1 || a.OnPolicyGap == 0 {
			t.Errorf("%d tokens: mean ratio %g, gap %g; want 1 and a gap", tokens, a.RatioMean, a.OnPolicyGap)
		}
	}
}

// TestMeasuringOnPolicyChangesNoBit measures where it is not needed: the same weights, also behind silent sequences
// and when the whole update is evaluated at once.
func TestMeasuringOnPolicyChangesNoBit(t *testing.T) {
	whole := decoupled
	whole.Rejected = kernels.RejectedLeave
	for _, program := range []kernels.Program{clip, decoupled, whole} {
		for _, minibatches := range []int{1, 3} {
			assumed, measured := newLearner(t, graph.New[float32]()), newLearner(t, graph.New[float32]())
			batch := played(t, assumed, 6, 1)
			clear(batch[0].Advantage)
			clear(batch[1].Advantage)
			clear(batch[4].Advantage)
			u := Update{Program: program, LearningRate: 0.01, Minibatches: minibatches, MicroBatchTokens: 25, Version: 4}
			a := step(t, assumed, batch, u)
			u.MeasureProximal = true
			b := step(t, measured, batch, u)
			if a != b || digest(t, assumed.Model) != digest(t, measured.Model) || a.OnPolicyGap != 0 || a.ProximalKL != 0 {
				t.Errorf("%s, %d minibatches:\nassumed  %+v\nmeasured %+v", program, minibatches, a, b)
			}
		}
	}
}

// TestMeasuringNeedsNoBehavior trains sequences of an unknown sampler, whose proximal policy is measured.
func TestMeasuringNeedsNoBehavior(t *testing.T) {
	l, batch := moved(t, graph.New[float32]())
	for i := range batch {
		batch[i].Behavior = nil
	}
	u := usual
	u.Version = 1 // nothing says that other weights sampled
	if _, err := l.Step(t.Context(), batch, u); err == nil || !strings.Contains(err.Error(), "the loss reads proximal") {
		t.Errorf("assumed: %v; want a complaint that nothing is known", err)
	}
	u.MeasureProximal = true
	if report := step(t, l, batch, u); report.RatioMean != 1 || report.OnPolicyGap != -1 {
		t.Errorf("mean ratio %g, gap %g; want 1, and no gap to tell", report.RatioMean, report.OnPolicyGap)
	}
}

// TestProximalMustBeEverywhere refuses a batch of which some sequences bring what the others leave to be measured.
func TestProximalMustBeEverywhere(t *testing.T) {
	l, batch := moved(t, graph.New[float32]())
	batch[0].Proximal = slices.Clone(batch[0].Behavior)
	u := usual
	u.MeasureProximal = true
	if _, err := l.Step(t.Context(), batch, u); err == nil || !strings.Contains(err.Error(), "sequence 1: proximal") {
		t.Errorf("%v; want a complaint about sequence 1", err)
	}
}
