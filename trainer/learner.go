package trainer

import (
	"context"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
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
}

// NewOptimizer makes the optimizer of what the model trains. Weight decay applies to matrices, not to
// norms' scales and biases.
func NewOptimizer(m *policy.Model, c optim.Config) (*optim.AdamW, error) {
	var tensors []optim.Tensor
	for _, p := range m.Parameters() {
		if !p.Grad.Absent() {
			tensors = append(tensors, optim.Tensor{Name: p.Name, Decay: len(p.Shape) > 1, Data: p.Data, Grad: p.Grad})
		}
	}
	return optim.NewAdamW(m.Device(), c, tensors)
}

// Imitation is the loss of supervised imitation: the mean of −log π over the sampled tokens, written
// as a program whose advantages are all one.
var Imitation = kernels.Program{
	Ratio: kernels.RatioOne, RatioGradient: kernels.GradientOwn, Anchor: kernels.AnchorProximal, Objective: kernels.Reinforce{},
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
	// Minibatches cuts the batch into that many consecutive parts, each with an optimizer update of
	// its own; at least 1. A batch with fewer sequences makes one update a sequence.
	Minibatches int
	// MicroBatchTokens bounds the tokens of one forward and backward pass, which bounds memory. It does
	// not change the loss. A longer sequence is a pass of its own.
	MicroBatchTokens int
}

// Report describes one batch of updates.
type Report struct {
	Loss float64 `json:"loss"`
	// GradNorm is the mean over the updates of the gradient's norm before clipping.
	GradNorm float64 `json:"grad_norm"`
	// ClipRatio is the share of sampled tokens whose surrogate is clipped.
	ClipRatio float64 `json:"clip_ratio"`
	// RatioMean is the mean ratio of current to anchor policy; exactly 1 in the first update on-policy.
	RatioMean float64 `json:"ratio_mean"`
	// BehaviorKL is the k3 estimate of KL(behavior‖current) per sampled token.
	BehaviorKL float64 `json:"behavior_kl"`
	// ReferenceKL is the program's divergence from the reference policy per sampled token.
	ReferenceKL float64 `json:"reference_kl"`
	// Entropy is the mean policy entropy per sampled token, in nats.
	Entropy float64 `json:"entropy"`
	// OnPolicyGap is the largest |log π − log μ| over sampled tokens before the first update: 0 when
	// sampler and learner agree to the last bit. Negative when the behavior is unknown.
	OnPolicyGap float64 `json:"on_policy_gap"`
	// TokensTrained counts sampled tokens; Tokens counts all tokens that went through the network.
	TokensTrained int `json:"tokens_trained"`
	Tokens        int `json:"tokens"`
	Updates       int `json:"updates"`
}

// Step makes update.Minibatches optimizer updates from the batch, in order. A batch that cannot be
// trained, a gradient or a figure of the report that is not finite, and a context that ends are
// errors. On an error the model may have changed: the caller goes back to a committed version.
func (l *Learner) Step(ctx context.Context, batch []Sequence, update Update) (Report, error) {
	if err := checkBatch(batch, update); err != nil {
		return Report{}, err
	}
	tally := tally{report: Report{OnPolicyGap: -1}}
	for part := range update.Minibatches {
		lo, hi := part*len(batch)/update.Minibatches, (part+1)*len(batch)/update.Minibatches
		if lo == hi {
			continue
		}
		first := tally.report.Updates == 0 // earlier parts of a batch smaller than Minibatches are empty
		if err := l.minibatch(ctx, batch[lo:hi], update, first, &tally); err != nil {
			return Report{}, fmt.Errorf("minibatch %d of %d: %w", part+1, update.Minibatches, err)
		}
	}
	report := tally.finish()
	return report, report.check()
}

// minibatch accumulates the gradient of one part over its micro-batches and updates the weights.
func (l *Learner) minibatch(ctx context.Context, part []Sequence, update Update, first bool, tally *tally) error {
	l.Model.ZeroGrad()
	var totals kernels.Totals
	for _, s := range part {
		totals = totals.Add(s.totals())
	}
	for _, micro := range cut(part, update.MicroBatchTokens) {
		if err := l.accumulate(ctx, micro, update, totals, first, tally); err != nil {
			return err
		}
	}
	norm, err := l.Optimizer.Step(update.LearningRate)
	if err != nil {
		return err
	}
	l.Model.Refresh()
	tally.report.GradNorm += norm
	tally.report.Updates++
	return nil
}

// accumulate adds one micro-batch's gradient.
func (l *Learner) accumulate(ctx context.Context, micro []Sequence, update Update, totals kernels.Totals, first bool, tally *tally) error {
	packed, batch := pack(micro)
	temperature := float32(update.Temperature)
	if temperature == 0 {
		temperature = 1
	}
	if update.Program.Reads().Has(kernels.ReadsReference) {
		if l.Reference == nil {
			return fmt.Errorf("the loss reads the reference policy and the learner has none (%s)", update.Program)
		}
		reference, err := l.Reference.Score(ctx, packed, temperature)
		if err != nil {
			return fmt.Errorf("reference policy: %w", err)
		}
		batch.Reference = reference.LogProbs
	}
	return l.Model.Accumulate(ctx, packed, temperature, func(now policy.Scores) (policy.Scores, error) {
		batch.LogProbs, batch.Entropy = now.LogProbs, now.Entropies
		if batch.Behavior == nil {
			// Without a behavior policy (imitation) the anchor is the current policy itself.
			batch.Proximal = now.LogProbs
		} else {
			batch.Proximal = batch.Behavior
			if first {
				tally.report.OnPolicyGap = math.Max(tally.report.OnPolicyGap, gap(batch))
			}
		}
		result, err := l.Loss.Evaluate(update.Program, batch, totals)
		if err != nil {
			return policy.Scores{}, err
		}
		tally.report.Loss += result.Loss
		tally.report.Tokens += batch.Tokens()
		tally.metrics.Add(result.Metrics)
		return policy.Scores{LogProbs: result.DLogProbs, Entropies: result.DEntropy}, nil
	})
}

// gap is the largest difference between the learner's and the sampler's log-probabilities.
func gap(b kernels.Batch[float32]) float64 {
	largest := 0.0
	for t, sampled := range b.Sampled {
		if sampled {
			largest = math.Max(largest, math.Abs(float64(b.LogProbs[t])-float64(b.Behavior[t])))
		}
	}
	return largest
}

// check reports the first figure that is not a number to record.
func (r Report) check() error {
	for _, figure := range []struct {
		name  string
		value float64
	}{
		{"loss", r.Loss}, {"gradient norm", r.GradNorm}, {"mean ratio", r.RatioMean}, {"behavior KL", r.BehaviorKL},
		{"reference KL", r.ReferenceKL}, {"entropy", r.Entropy}, {"on-policy gap", r.OnPolicyGap},
	} {
		if math.IsNaN(figure.value) || math.IsInf(figure.value, 0) {
			return fmt.Errorf("%s is %g: lower the learning rate", figure.name, figure.value)
		}
	}
	return nil
}

// tally gathers sums over micro-batches and updates.
type tally struct {
	report  Report
	metrics kernels.Metrics
}

// finish turns sums into means.
func (t tally) finish() Report {
	r, m := t.report, t.metrics
	r.TokensTrained = int(m.Tokens)
	if r.Updates > 0 {
		r.Loss /= float64(r.Updates)
		r.GradNorm /= float64(r.Updates)
	}
	if m.Tokens > 0 {
		r.ClipRatio = m.Clipped / m.Tokens
		r.RatioMean = m.RatioSum / m.Tokens
		r.BehaviorKL = m.BehaviorK3Sum / m.Tokens
		r.ReferenceKL = m.ReferenceKLSum / m.Tokens
		r.Entropy = m.EntropySum / m.Tokens
	}
	return r
}

func checkBatch(batch []Sequence, update Update) error {
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
	}
	behavior := batch[0].Behavior != nil
	for i, s := range batch {
		if err := s.check(); err != nil {
			return fmt.Errorf("sequence %d: %w", i, err)
		}
		if (s.Behavior != nil) != behavior {
			return fmt.Errorf("sequence %d: behavior log-probabilities are present in some sequences and absent in others", i)
		}
	}
	return nil
}
