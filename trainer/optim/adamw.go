// Package optim turns gradients into weights: AdamW with global-norm clipping.
//
// [NewAdamW] is given views of the weights and gradients once; each [AdamW.Step] reads the gradients
// and changes the weights in place. The state encodes to bytes for checkpoints and has a digest, so
// that a replayed step can be compared to the last bit. The package knows nothing of networks.
package optim

import (
	"errors"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
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
	// Data and Grad are views with the same length.
	Data []float32
	Grad []float32
}

// AdamW is the optimizer's state over a fixed list of tensors (Loshchilov and Hutter, arXiv
// 1711.05101). It is used by one goroutine at a time.
//
//	g ← g·min(1, clip/‖g‖)
//	m ← β1·m + (1−β1)·g,  v ← β2·v + (1−β2)·g²
//	w ← w − η·(m/(1−β1ᵗ) / (sqrt(v/(1−β2ᵗ)) + ε) + λ·w)
type AdamW struct {
	config  Config
	tensors []Tensor
	// first and second are the moments of each tensor.
	first, second [][]float32
	steps         int
}

// NewAdamW makes an optimizer with zero moments. The configuration has been validated.
func NewAdamW(c Config, tensors []Tensor) *AdamW {
	o := &AdamW{config: c, tensors: tensors}
	for _, t := range tensors {
		o.first = append(o.first, make([]float32, len(t.Data)))
		o.second = append(o.second, make([]float32, len(t.Data)))
	}
	return o
}

// Steps is how many steps the state has seen since it was made or reset.
func (o *AdamW) Steps() int { return o.steps }

// Reset forgets the moments and the number of steps.
func (o *AdamW) Reset() {
	o.steps = 0
	for i := range o.first {
		clear(o.first[i])
		clear(o.second[i])
	}
}

// Step changes the weights once, with the given learning rate in place of the configured one, and
// returns the gradient's norm before clipping. A gradient that is not finite is an error naming the
// parameter; then nothing has changed.
func (o *AdamW) Step(learningRate float64) (gradNorm float64, err error) {
	if !(learningRate >= 0) || math.IsInf(learningRate, 0) {
		return 0, fmt.Errorf("optimizer step %d: learning rate is %v, must be finite and at least 0", o.steps+1, learningRate)
	}
	total := 0.0
	for _, t := range o.tensors {
		sum := squares(t.Grad)
		if math.IsNaN(sum) || math.IsInf(sum, 0) {
			return 0, fmt.Errorf("optimizer step %d: gradient of %s is not finite: lower the learning rate or clip the loss", o.steps+1, t.Name)
		}
		total += sum
	}
	gradNorm = math.Sqrt(total)
	scale := 1.0
	if o.config.ClipNorm > 0 && gradNorm > o.config.ClipNorm {
		scale = o.config.ClipNorm / gradNorm
	}
	o.steps++
	bias1 := float32(1 - math.Pow(o.config.Beta1, float64(o.steps)))
	bias2 := float32(1 - math.Pow(o.config.Beta2, float64(o.steps)))
	for i, t := range o.tensors {
		decay := 0.0
		if t.Decay {
			decay = o.config.WeightDecay
		}
		update := func(low, high int) {
			grad := t.Grad[low:high]
			if scale != 1 {
				grad = append(make([]float32, 0, high-low), grad...)
				cpu.Scale(float32(scale), grad)
			}
			cpu.AdamW(t.Data[low:high], grad, o.first[i][low:high], o.second[i][low:high], float32(learningRate),
				float32(o.config.Beta1), float32(o.config.Beta2), float32(o.config.Epsilon), float32(decay), bias1, bias2)
		}
		cpu.Parallel(len(t.Data), elementsPerPart, update)
	}
	return gradNorm, nil
}

// elementsPerPart is how many elements are worth a part of their own.
const elementsPerPart = 1 << 14

// squares sums in float64 so that a large float32 gradient does not overflow.
func squares(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}
