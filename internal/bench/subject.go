package bench

import (
	"context"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/decode"
	"github.com/turnwise-rl/turnwise/trainer/optim"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// This file is all that the measurements know of the policy network.

// config is the network of a shape, for contexts of up to so many tokens.
func (s Shape) config(positions int) policy.Config {
	c := policy.DefaultConfig()
	c.Layers, c.Hidden, c.Heads, c.KVHeads, c.HeadDim, c.FFN = s.Layers, s.Hidden, s.Heads, s.KVHeads, s.HeadDim, s.FFN
	c.VocabSize, c.MaxPositions = s.Vocab, positions
	return c
}

// learner is a network with its optimizer and a batch.
type learner struct {
	shape     Shape
	model     *policy.Model
	optimizer *optim.AdamW
	batch     policy.Packed
	rate      float64
	// derivative is dL/dlogp of L = −mean log p, the same for every predicted token. len = tokens
	derivative []float32
	// objective is crossEntropy, bound once so that a step allocates nothing for it.
	objective policy.Loss
	// loss is that of the last step.
	loss float64
}

func newLearner(s Shape) (*learner, error) {
	model, err := policy.New(cpu.New(), s.config(s.Seq), policy.Options{Seed: 1})
	if err != nil {
		return nil, err
	}
	settings := optim.DefaultConfig()
	optimizer, err := trainer.NewOptimizer(model, settings)
	if err != nil {
		return nil, err
	}
	l := &learner{
		shape: s, model: model, optimizer: optimizer, rate: settings.LearningRate,
		batch: policy.Packed{Tokens: s.randomTokens(s.Tokens())}, derivative: make([]float32, s.Tokens()),
	}
	l.objective = l.crossEntropy
	for i := range s.Batch + 1 {
		l.batch.Offsets = append(l.batch.Offsets, int32(i*s.Seq))
	}
	for i := range l.derivative {
		l.derivative[i] = float32(-1 / float64(l.predicted()))
	}
	return l, nil
}

// predicted is how many tokens have a log-probability: all but the first of each sequence.
func (l *learner) predicted() int { return l.shape.Batch * (l.shape.Seq - 1) }

// step is one training step on the batch.
func (l *learner) step(ctx context.Context) error {
	l.model.ZeroGrad()
	if err := l.model.Accumulate(ctx, l.batch, 1, l.objective); err != nil {
		return err
	}
	_, err := l.optimizer.Step(l.rate)
	l.model.Refresh()
	return err
}

// crossEntropy is the mean of −log p over every predicted token.
func (l *learner) crossEntropy(now policy.Scores) (policy.Scores, error) {
	sum := 0.0
	for i, logProb := range now.LogProbs {
		if i%l.shape.Seq > 0 {
			sum -= float64(logProb)
		}
	}
	l.loss = sum / float64(l.predicted())
	return policy.Scores{LogProbs: l.derivative}, nil
}

// accounted is what the learner holds between its passes.
func (l *learner) accounted() Accounted {
	elements := int64(0)
	for _, p := range l.model.Parameters() {
		elements += int64(p.Data.Len())
	}
	s := l.shape
	q, kv := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
	// Of each row and layer: the residual stream before and between the two parts, the projections, the
	// rotated queries and keys, the attention's output, gate and up, and the norms' roots.
	layer := 2*s.Hidden + (q + 2*kv) + q + kv + q + 2*s.FFN + s.Heads + s.KVHeads
	a := Accounted{
		Parameters: 4 * elements, Gradients: 4 * elements, Optimizer: 8 * elements,
		Activations: 4 * int64(s.Tokens()) * int64(s.Layers*layer+s.Hidden),
	}
	a.Total = a.Parameters + a.Gradients + a.Optimizer + a.Activations
	return a
}

// newEngine is a sampler of random weights with a slot for each sequence of the batch.
func newEngine(s Shape) (*decode.Engine, error) {
	model, err := policy.New(cpu.New(), s.config(s.Seq), policy.Options{Seed: 1, Frozen: true})
	if err != nil {
		return nil, err
	}
	defer model.Free()
	engine, err := decode.New(decode.Config{Slots: s.Batch})
	if err != nil {
		return nil, err
	}
	network, err := model.Snapshot()
	if err != nil {
		return nil, err
	}
	return engine, engine.Load(network, 1)
}

// request asks for new tokens at temperature 1, without anything that ends them early.
func request(sequence string, prompt []int32, newTokens int, seed uint64) sampler.Request {
	return sampler.Request{Sequence: sequence, Tokens: prompt, MaxTokens: newTokens, Temperature: 1, Seed: seed}
}
