// Package optim turns gradients into weights: AdamW with global-norm clipping.
//
// [NewAdamW] is given views of the weights and gradients once; each [AdamW.Step] reads the gradients
// and changes the weights in place, on the device where they are, all by one call that waits once. Weights in BF16 are rounded
// stochastically. The state encodes to bytes for checkpoints and has a digest, so that a replayed step can be compared to the
// last bit. The package knows nothing of networks.
package optim

import (
	"errors"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Config sets the optimizer.
type Config struct {
	// LearningRate is the peak step size; a schedule scales it for each step.
	LearningRate float64 `yaml:"learning_rate"`
	// Beta1 and Beta2 are the decay rates of the first and second moment, in [0, 1).
	Beta1 float64 `yaml:"beta1"`
	Beta2 float64 `yaml:"beta2"`
	// Epsilon is added to the root of the second moment; positive.
	Epsilon float64 `yaml:"epsilon"`
	// WeightDecay shrinks matrices by learning rate × WeightDecay each step; norms are not decayed.
	WeightDecay float64 `yaml:"weight_decay"`
	// ClipNorm bounds the norm of the whole gradient; 0 means no bound.
	ClipNorm float64 `yaml:"clip_norm"`
}

// DefaultConfig suits a small network trained from scratch: a larger step than fine-tuning uses, and
// the second moment's short memory that policy gradients need.
func DefaultConfig() Config {
	return Config{LearningRate: 1e-3, Beta1: 0.9, Beta2: 0.95, Epsilon: 1e-8, WeightDecay: 0.01, ClipNorm: 1}
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	var all []error
	check := func(name string, v, low float64, lowOpen bool, high float64) {
		if !(v >= low) || (lowOpen && v == low) || !(v < high) {
			bracket := "["
			if lowOpen {
				bracket = "("
			}
			all = append(all, fmt.Errorf("%s is %v, must be in %s%v, %v)", name, v, bracket, low, high))
		}
	}
	infinity := math.Inf(1)
	check("learning_rate", c.LearningRate, 0, true, infinity)
	check("beta1", c.Beta1, 0, false, 1)
	check("beta2", c.Beta2, 0, false, 1)
	check("epsilon", c.Epsilon, 0, true, infinity)
	check("weight_decay", c.WeightDecay, 0, false, infinity)
	check("clip_norm", c.ClipNorm, 0, false, infinity)
	if len(all) > 0 {
		return fmt.Errorf("optimizer: %w", errors.Join(all...))
	}
	return nil
}

// Tensor is one parameter: Data is changed by a step, Grad is read.
type Tensor struct {
	// Name appears in errors and identifies the tensor in an encoded state.
	Name string
	// Decay is true when weight decay applies: matrices, not norms' scales.
	Decay bool
	// Rounded is true when Data is float32 that has numbers of BF16 alone, to which steps round it.
	Rounded bool
	// Data and Grad are views of the same length; Grad is float32, Data float32 or BF16.
	Data device.Buffer
	Grad device.Buffer
}

// AdamW is the optimizer's state over a fixed list of tensors (Loshchilov and Hutter, arXiv
// 1711.05101). It is used by one goroutine at a time.
//
//	g ← g·min(1, clip/‖g‖)
//	m ← β1·m + (1−β1)·g,  v ← β2·v + (1−β2)·g²
//	w ← w − η·(m/(1−β1ᵗ) / (sqrt(v/(1−β2ᵗ)) + ε) + λ·w)
type AdamW struct {
	dev     device.Device
	config  Config
	tensors []Tensor
	// memory holds the moments of all tensors; first and second are those of each.
	memory        device.Buffer
	first, second []device.Buffer
	// updated are the tensors as the device updates them, seed decides how it rounds those that it keeps in BF16.
	updated device.Tensors
	seed    uint64
	steps   int
	piece   []float32 // staging for moments on their way
}

// NewAdamW makes an optimizer with zero moments. The configuration has been validated. Of tensors that are kept in
// BF16 the seed decides, with the number of the step, how the weights are rounded; see [device.StochasticBF16]. The
// error is the device's that has no memory for the moments.
func NewAdamW(dev device.Device, c Config, seed uint64, tensors []Tensor) (*AdamW, error) {
	o := &AdamW{dev: dev, config: c, seed: seed, tensors: tensors}
	total := 0
	for _, t := range tensors {
		total += 2 * t.Data.Len()
	}
	var err error
	if o.memory, err = dev.Allocate(device.ForOptimizer, device.F32, total); err != nil {
		return nil, fmt.Errorf("optimizer: %w", err)
	}
	at := 0
	take := func(n int) device.Buffer {
		at += n
		return o.memory.Slice(at-n, at)
	}
	for _, t := range tensors {
		o.first, o.second = append(o.first, take(t.Data.Len())), append(o.second, take(t.Data.Len()))
	}
	if o.updated, err = dev.NewTensors(o.list()); err != nil {
		dev.Free(o.memory)
		return nil, fmt.Errorf("optimizer: %w", err)
	}
	return o, nil
}

// list are the tensors as the device updates them.
func (o *AdamW) list() []device.Tensor {
	list := make([]device.Tensor, len(o.tensors))
	for i, t := range o.tensors {
		list[i] = device.Tensor{Param: t.Data, Grad: t.Grad, M: o.first[i], V: o.second[i], Decay: t.Decay, Rounded: t.Rounded}
	}
	return list
}

// Move goes on with the same tensors where they lie now. The error is the device's; then nothing has changed.
func (o *AdamW) Move(tensors []Tensor) error {
	before := o.tensors
	o.tensors = tensors
	updated, err := o.dev.NewTensors(o.list())
	if err != nil {
		o.tensors = before
		return fmt.Errorf("optimizer: %w", err)
	}
	o.dev.FreeTensors(o.updated)
	o.updated = updated
	return nil
}

// Reseed has another seed decide how the next steps round weights; see [NewAdamW]. Steps of the same number and the same
// seed round alike, so steps that begin to count again after a Reset need another.
func (o *AdamW) Reseed(seed uint64) { o.seed = seed }

// Free gives the moments' memory back. The optimizer must not be used again.
func (o *AdamW) Free() {
	o.dev.FreeTensors(o.updated)
	o.dev.Free(o.memory)
	o.memory, o.first, o.second, o.updated = device.Buffer{}, nil, nil, nil
}

// Steps is how many steps the state has seen since it was made or reset.
func (o *AdamW) Steps() int { return o.steps }

// Bytes is the memory of the moments.
func (o *AdamW) Bytes() int64 { return o.memory.Bytes() }

// Reset forgets the moments and the number of steps.
func (o *AdamW) Reset() {
	o.steps = 0
	o.dev.Zero(o.memory)
}

// Step changes the weights once, with the given learning rate in place of the configured one, and
// returns the gradient's norm before clipping. Clipping may change the gradients in place. forms are what products
// read of weights among the tensors: the step brings them up to date. A gradient that is not finite is an error that
// names the tensor and the element; then nothing has changed.
func (o *AdamW) Step(learningRate float64, forms ...device.Weights) (gradNorm float64, err error) {
	next := o.steps + 1
	if !(learningRate >= 0) || math.IsInf(learningRate, 0) {
		return 0, fmt.Errorf("optimizer step %d: learning rate is %v, must be finite and at least 0", next, learningRate)
	}
	made, err := o.dev.Update(o.updated, device.Update{
		LearningRate: float32(learningRate), Beta1: float32(o.config.Beta1), Beta2: float32(o.config.Beta2), Epsilon: float32(o.config.Epsilon),
		WeightDecay:     float32(o.config.WeightDecay),
		BiasCorrection1: float32(1 - math.Pow(o.config.Beta1, float64(next))),
		BiasCorrection2: float32(1 - math.Pow(o.config.Beta2, float64(next))),
		ClipNorm:        o.config.ClipNorm, Seed: o.seed, Step: uint32(next), Forms: forms,
	})
	if err == nil && made.Tensor >= 0 {
		err = o.explain(o.tensors[made.Tensor], made.Element)
	}
	if err != nil {
		return 0, fmt.Errorf("optimizer step %d: %w", next, err)
	}
	o.steps = next
	return made.GradNorm, nil
}

// explain names an element of a gradient that is not finite.
func (o *AdamW) explain(t Tensor, element int) error {
	var value [1]float32
	if err := o.dev.Download(value[:], t.Grad.Slice(element, element+1)); err != nil {
		return err
	}
	return fmt.Errorf("gradient of %s is not finite: element %d is %v: lower the learning rate or clip the loss", t.Name, element, value[0])
}
