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
	optimizer, err := trainer.NewOptimizer(model, settings, 1)
	if err != nil {
		return nil, err
	}
	l := &learner{
		shape: s, model: model, optimizer: optimizer, rate: settings.LearningRate,
		batch: policy.Packed{Tokens: s.randomTokens(tokenSource(), s.Tokens())}, derivative: make([]float32, s.Tokens()),
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
	forms, err := l.model.Forms()
	if err != nil {
		return err
	}
	_, err = l.optimizer.Step(l.rate, forms...)
	l.model.Rejoin()
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
	m := l.model.Memory()
	a := Accounted{Parameters: m.Parameters, Optimizer: l.optimizer.Bytes(), Gradients: m.Gradients, Activations: m.Activations}
	a.Total = a.Parameters + a.Optimizer + a.Gradients + a.Activations
	return a
}

// workspace is what the passes need besides, and devicePeak all that the device ever held for the learner:
// what is accounted, the workspace, and the forms in which products read the weights.
func (l *learner) workspace() (workspace, devicePeak int64) {
	return l.model.Memory().Workspace, l.model.Device().Usage().Peak
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
	network, err := model.Share()
	if err != nil {
		return nil, err
	}
	return engine, engine.Load(network, 1)
}

// request asks for new tokens at temperature 1, without anything that ends them early.
func request(sequence string, prompt []int32, newTokens int, seed uint64) sampler.Request {
	return sampler.Request{Sequence: sequence, Tokens: prompt, MaxTokens: newTokens, Temperature: 1, Seed: seed}
}
