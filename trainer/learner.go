package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// Evaluator differentiates a loss program on a batch.
type Evaluator interface {
	Evaluate(kernels.Program, kernels.Batch[float32], kernels.Totals) (kernels.Result[float32], error)
}

// Learner makes optimizer updates to one policy. It is used by one goroutine at a time.
type Learner struct {
	Model     *policy.Model
	Optimizer *optim.AdamW
	// Reference is the frozen policy of a program's divergence term; nil when no program has one.
	Reference *policy.Model
	Loss      Evaluator
	// Laps is where Step adds up its time; nil measures nothing.
	Laps *Laps
	// Relieve is asked to give memory back, such as networks of the model that nobody uses, where a step has none for forms
	// beside those that networks read; then the step tries once more. nil has nothing to give.
	Relieve func()

	moves int // of the model, when the optimizer was told last where weights are
}

// NewOptimizer makes the optimizer of what the model trains. Weight decay applies to matrices, not to
// norms' scales and biases. The seed decides how weights are rounded that the model keeps in BF16.
func NewOptimizer(m *policy.Model, c optim.Config, seed uint64) (*optim.AdamW, error) {
	return optim.NewAdamW(m.Device(), c, seed, trained(m))
}

// trained are the tensors that an optimizer updates.
func trained(m *policy.Model) []optim.Tensor {
	var tensors []optim.Tensor
	for _, p := range m.Parameters() {
		if !p.Grad.Absent() {
			tensors = append(tensors, optim.Tensor{Name: p.Name, Decay: len(p.Shape) > 1, Rounded: p.Rounded, Data: p.Data, Grad: p.Grad})
		}
	}
	return tensors
}

// updatable returns the forms that the next update writes, and has the optimizer know where the weights are.
func (l *Learner) updatable() ([]device.Weights, error) {
	forms, err := l.Model.Forms()
	var full *device.OutOfMemory
	if l.Relieve != nil && errors.As(err, &full) {
		l.Relieve()
		forms, err = l.Model.Forms()
	}
	if err != nil || l.moves == l.Model.Moves() {
		return forms, err
	}
	if err := l.Optimizer.Move(trained(l.Model)); err != nil {
		return nil, err
	}
	l.moves = l.Model.Moves()
	return forms, nil
}

// Imitation is the loss of supervised imitation: the mean of −log π over the sampled tokens.
var Imitation = kernels.Program{
	Ratio: kernels.RatioOne, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal, Objective: kernels.CrossEntropy{},
	Rejected: kernels.RejectedStay, Aggregate: kernels.TokenMean,
}

// Update says how one batch becomes optimizer updates.
type Update struct {
	Program kernels.Program
	// LearningRate of this update; finite and not negative. 0, where a schedule ends, changes no weight.
	LearningRate float64
	// Temperature is the one the tokens were sampled at, so that the learner's log-probabilities are
	// of the same distribution. 0 means 1.
	Temperature float64
	// Minibatches cuts the batch into that many parts, each with an optimizer update of its own; at
	// least 1. Sequences that the program compares stay in one part. A batch with fewer sequences, or
	// fewer such companies of them, makes one update of each.
	Minibatches int
	// Version is that of the policy the updates make: one more than that of the weights before.
	Version int32
	// MeasureProximal measures the proximal policy with the weights before the first update. Without it the
	// sampling engine's log-probabilities stand for them, as long as no sequence says that a token comes of
	// another version than Version − 1.
	MeasureProximal bool
	// MicroBatchTokens bounds the tokens of one forward and backward pass, which bounds memory. It does
	// not change the loss: one that compares sequences is evaluated once for all passes of an update. A
	// longer sequence is a pass of its own.
	MicroBatchTokens int
}

// Step makes update.Minibatches optimizer updates from the batch, in order. A batch that cannot be
// trained, a gradient or a figure of the report that is not finite, and a context that ends are
// errors. On an error the model may have changed: the caller goes back to a committed version.
func (l *Learner) Step(ctx context.Context, batch []Sequence, update Update) (Report, error) {
	if err := l.check(batch, update); err != nil {
		return Report{}, err
	}
	s := batchStep{Learner: l, update: update, layout: newLayout(batch, update), temperature: float32(update.Temperature), measured: update.measures(batch)}
	if s.temperature == 0 {
		s.temperature = 1
	}
	s.tally.begin(batch, update)
	parts := divide(batch, update.Minibatches, s.layout.reads)
	if s.measured {
		if err := s.measure(ctx, parts); err != nil {
			return Report{}, err
		}
	}
	for i, part := range parts {
		if err := s.minibatch(ctx, part); err != nil {
			return Report{}, fmt.Errorf("minibatch %d of %d: %w", i+1, len(parts), err)
		}
	}
	report := s.tally.finish()
	return report, report.check()
}

// batchStep is one batch of updates at work.
type batchStep struct {
	*Learner
	update      Update
	layout      layout
	temperature float32
	// measured is true when the proximal policy is measured and not assumed to be the one that sampled.
	measured bool
	packing  packing
	tally    tally
}

// minibatch accumulates the gradient of one part over its micro-batches and updates the weights.
func (s *batchStep) minibatch(ctx context.Context, part []Sequence) error {
	s.Model.ZeroGrad()
	var totals kernels.Totals
	for _, sequence := range part {
		totals = totals.Add(sequence.totals())
	}
	part = speaking(part, s.update.Program)
	if len(part) == 0 {
		return nil // nothing to learn from, and an optimizer's momentum is no reason to move
	}
	micros := cut(part, s.update.MicroBatchTokens)
	if s.update.Program.Scope() == kernels.WholeUpdate && len(micros) > 1 {
		if err := s.accumulateWhole(ctx, part, micros, totals); err != nil {
			return err
		}
	} else {
		for _, micro := range micros {
			if err := s.accumulate(ctx, micro, totals); err != nil {
				return err
			}
		}
	}
	updated := s.Laps.start()
	forms, err := s.updatable()
	if err != nil {
		return err
	}
	norm, err := s.Optimizer.Step(s.update.LearningRate, forms...)
	if err != nil {
		return err
	}
	s.Model.Rejoin()
	updated.end(Optimize)
	s.tally.report.GradNorm += norm
	s.tally.report.Updates++
	return nil
}

// accumulate adds the gradient of one micro-batch, whose loss is a share of the minibatch's.
func (s *batchStep) accumulate(ctx context.Context, micro []Sequence, totals kernels.Totals) error {
	s.lay(micro)
	batch := &s.packing.batch
	if err := s.reference(ctx, s.packing.packed, &batch.Reference); err != nil {
		return err
	}
	return s.accumulatePacked(ctx, func(now policy.Scores) (policy.Scores, error) {
		return s.evaluate(now, totals)
	})
}

// accumulateWhole adds the gradient of a minibatch whose loss is evaluated in one piece while the network
// takes it in micro-batches: these are scored, then the loss is evaluated, then each is gone through again
// with its part of the derivatives. Both passes give the same scores to the last bit.
func (s *batchStep) accumulateWhole(ctx context.Context, part []Sequence, micros [][]Sequence, totals kernels.Totals) error {
	var scores policy.Scores
	var reference []float32
	for _, micro := range micros {
		s.packing.layTokens(micro)
		scored := s.Laps.start()
		now, err := s.Model.Score(ctx, s.packing.packed, s.temperature)
		if err != nil {
			return err
		}
		scored.end(Forward)
		scores.LogProbs = append(scores.LogProbs, now.LogProbs...)
		scores.Entropies = append(scores.Entropies, now.Entropies...)
		scores.Values = append(scores.Values, now.Values...)
		var own []float32
		if err := s.reference(ctx, s.packing.packed, &own); err != nil {
			return err
		}
		reference = append(reference, own...)
	}
	s.lay(part)
	if s.asksReference() {
		s.packing.batch.Reference = reference
	}
	derivatives, err := s.evaluate(scores, totals)
	if err != nil {
		return err
	}
	from := 0
	for _, micro := range micros {
		s.packing.layTokens(micro)
		to := from + len(s.packing.packed.Tokens)
		err := s.accumulatePacked(ctx, func(policy.Scores) (policy.Scores, error) {
			return policy.Scores{
				LogProbs: derivatives.LogProbs[from:to], Entropies: piece(derivatives.Entropies, from, to), Values: piece(derivatives.Values, from, to),
			}, nil
		})
		if err != nil {
			return err
		}
		from = to
	}
	return nil
}

// piece is values[from:to]; nil stays nil.
func piece(values []float32, from, to int) []float32 {
	if values == nil {
		return nil
	}
	return values[from:to]
}

// asksReference is true when the program reads the reference policy and the sequences do not bring what it says.
func (s *batchStep) asksReference() bool {
	return s.layout.reads.Has(kernels.ReadsReference) && !s.layout.reference
}

// reference scores packed sequences with the reference policy, if they have to be.
func (s *batchStep) reference(ctx context.Context, packed policy.Packed, into *[]float32) error {
	if !s.asksReference() {
		return nil
	}
	scores, err := s.Reference.Score(ctx, packed, s.temperature)
	if err != nil {
		return fmt.Errorf("reference policy: %w", err)
	}
	*into = scores.LogProbs
	return nil
}

// evaluate computes the loss of the sequences laid out, which have these scores, and its derivatives.
func (s *batchStep) evaluate(now policy.Scores, totals kernels.Totals) (policy.Scores, error) {
	batch := s.packing.batch
	batch.LogProbs, batch.Entropy = now.LogProbs, now.Entropies
	if s.layout.reads.Has(kernels.ReadsValues) {
		batch.Values = now.Values
	}
	before := s.tally.report.Updates == 0
	if s.measured && before {
		batch.Proximal = now.LogProbs
	}
	if s.layout.behavior {
		switch {
		case before:
			s.tally.drift.add(batch, now.LogProbs)
		case s.measured:
			s.tally.drift.add(batch, batch.Proximal)
		}
	}
	evaluated := s.Laps.start()
	result, err := s.Loss.Evaluate(s.update.Program, batch, totals)
	if err != nil {
		return policy.Scores{}, err
	}
	evaluated.end(Loss)
	s.tally.add(result, batch.Tokens())
	return policy.Scores{LogProbs: result.DLogProbs, Entropies: result.DEntropy, Values: result.DValues}, nil
}

// check reports what keeps a batch from being trained.
func (l *Learner) check(batch []Sequence, update Update) error {
	reads := update.Program.Reads()
	switch {
	case len(batch) == 0:
		return fmt.Errorf("empty batch")
	case update.Minibatches < 1:
		return fmt.Errorf("minibatches %d: must be at least 1", update.Minibatches)
	case update.MicroBatchTokens < 1:
		return fmt.Errorf("micro-batch of %d tokens: must be at least 1", update.MicroBatchTokens)
	case !(update.LearningRate >= 0) || math.IsInf(update.LearningRate, 0):
		return fmt.Errorf("learning rate %g: must be finite and not negative", update.LearningRate)
	case !(update.Temperature >= 0) || math.IsInf(update.Temperature, 0):
		return fmt.Errorf("temperature %g: must be finite and not negative", update.Temperature)
	case reads.Has(kernels.ReadsValues) && !l.Model.Options().ValueHead:
		return fmt.Errorf("the loss reads a critic's values and the policy has no value head (%s)", update.Program)
	}
	behavior, reference := batch[0].Behavior != nil, l.Reference != nil || !reads.Has(kernels.ReadsReference)
	if update.measures(batch) {
		reads &^= kernels.ReadsProximal
	}
	brought := brings(batch)
	for i, s := range batch {
		if err := s.check(reads, behavior); err != nil {
			return fmt.Errorf("sequence %d: %w", i, err)
		}
		if brought && s.Proximal == nil && update.MeasureProximal {
			return fmt.Errorf("sequence %d: proximal log-probabilities are missing here and present in others", i)
		}
		if s.Reference == nil && !reference {
			return fmt.Errorf("the loss reads the reference policy and the learner has none (%s)", update.Program)
		}
	}
	return nil
}
