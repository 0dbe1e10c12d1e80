package trainer

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/graph"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// critical is the loss of PPO with a critic.
var critical = func() kernels.Program {
	p := clip
	p.Regularizers = []kernels.Regularizer{kernels.NewValue()}
	return p
}()

// newCritic returns a learner whose policy has a value head.
func newCritic(t *testing.T, loss Evaluator) *Learner {
	t.Helper()
	model, err := policy.New(dev, shape, policy.Options{Seed: 7, ValueHead: true})
	if err != nil {
		t.Fatal(err)
	}
	c := optim.DefaultConfig()
	c.ClipNorm = 10
	optimizer, err := NewOptimizer(model, c, 7)
	if err != nil {
		t.Fatal(err)
	}
	return &Learner{Model: model, Optimizer: optimizer, Loss: loss}
}

// groupOf is the sequences as the trajectories of one group.
func groupOf(batch []Sequence) rollout.Group {
	var group rollout.Group
	for _, s := range batch {
		group.Trajectories = append(group.Trajectories, rollout.Trajectory{Tokens: s.Tokens, Sampled: s.Sampled})
	}
	return group
}

// annotated returns the sequences with the critic's values before the step, and returns that depend on the
// place in the sequence.
func annotated(t *testing.T, l *Learner, batch []Sequence) []Sequence {
	t.Helper()
	groups := []rollout.Group{groupOf(batch)}
	if err := l.Annotate(t.Context(), groups, Annotation{Values: true, MicroBatchTokens: 30}); err != nil {
		t.Fatal(err)
	}
	for i := range batch {
		batch[i].OldValues, batch[i].Returns = groups[0].Trajectories[i].Values, make([]float32, len(batch[i].Tokens))
		for k := range batch[i].Returns {
			batch[i].Returns[k] = 1 + float32(k%4)
		}
	}
	return batch
}

// TestCriticLearns fits the value head to returns: its error falls, and it explains their variance.
func TestCriticLearns(t *testing.T) {
	l := newCritic(t, graph.New[float32]())
	batch := played(t, l, 6, 1)
	u := usual
	u.Program, u.LearningRate, u.MicroBatchTokens, u.Minibatches = critical, 0.02, 40, 2
	u.Program.Regularizers = []kernels.Regularizer{kernels.Value{Coef: 0.5, Loss: kernels.ValueSquared, Delta: 10}}
	first := step(t, l, annotated(t, l, batch), u)
	last := first
	for range 60 {
		last = step(t, l, annotated(t, l, batch), u)
	}
	if first.ExplainedVariance != 0 || first.ValueError < 2 || last.ValueError > first.ValueError/4 || last.ExplainedVariance < 0.5 || last.ExplainedVariance > 1 {
		t.Errorf("value error %g to %g, explained variance %g to %g", first.ValueError, last.ValueError, first.ExplainedVariance, last.ExplainedVariance)
	}
}

// TestCriticInMicroBatches cuts one update of a critic in many ways.
func TestCriticInMicroBatches(t *testing.T) {
	run := func(loss Evaluator, tokens int) (*Learner, Report) {
		l := newCritic(t, loss)
		u := usual
		u.Program, u.MicroBatchTokens = critical, tokens
		return l, step(t, l, annotated(t, l, played(t, l, 6, 1)), u)
	}
	whole, want := run(graph.New[float32](), 1000)
	for name, test := range map[string]struct {
		loss   Evaluator
		tokens int
	}{"one by one": {graph.New[float32](), 1}, "some": {graph.New[float32](), 40}, "by hand": {oracle{}, 1000}} {
		parts, got := run(test.loss, test.tokens)
		if math.Abs(got.Loss-want.Loss) > 1e-5 || math.Abs(got.ValueError-want.ValueError) > 1e-5 || got.RatioMean != 1 {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		if worst := largestDifference(gradients(parts), gradients(whole)); worst > 1e-5 {
			t.Errorf("%s: a gradient differs by %g", name, worst)
		}
	}
	if want.ValueError == 0 || want.GradNorm == 0 {
		t.Errorf("%+v: nothing to learn", want)
	}
}

// TestAnnotate writes what the networks say, bit for bit however it is cut.
func TestAnnotate(t *testing.T) {
	l := newCritic(t, graph.New[float32]())
	l.Reference = newModel(t, 8)
	batch := played(t, l, 5, 1)
	step(t, l, annotated(t, l, batch), func() Update { u := usual; u.Program = critical; return u }()) // values other than 0
	var groups [2][]rollout.Group
	for i, tokens := range []int{1, 1000} {
		groups[i] = []rollout.Group{groupOf(batch[:2]), groupOf(batch[2:])}
		a := Annotation{Values: true, Reference: true, Temperature: 0.7, MicroBatchTokens: tokens}
		if err := l.Annotate(t.Context(), groups[i], a); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(groups[0], groups[1]); diff != "" {
		t.Errorf("one by one, and all at once, differ:\n%s", diff)
	}
	last := groups[0][1].Trajectories[2]
	packed := policy.Packed{Tokens: last.Tokens, Offsets: []int32{0, int32(len(last.Tokens))}}
	values, err := l.Model.Score(t.Context(), packed, 1)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := l.Reference.Score(t.Context(), packed, 0.7)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(values.Values, last.Values) + cmp.Diff(reference.LogProbs, last.ReferenceLogProbs); diff != "" {
		t.Errorf("not what the networks say:\n%s", diff)
	}
	if last.Values[len(last.Values)-1] == 0 || last.ReferenceLogProbs[len(last.Values)-1] == 0 {
		t.Errorf("values %v, reference %v", last.Values, last.ReferenceLogProbs)
	}
}

// TestAnnotateRefuses what there is no network for.
func TestAnnotateRefuses(t *testing.T) {
	for want, a := range map[string]Annotation{
		"no value head": {Values: true, MicroBatchTokens: 1}, "the learner has none": {Reference: true, MicroBatchTokens: 1}, "micro-batch of 0 tokens": {},
	} {
		if err := newLearner(t, oracle{}).Annotate(t.Context(), nil, a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an error with %q", err, want)
		}
	}
}
