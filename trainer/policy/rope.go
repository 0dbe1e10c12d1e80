package policy

import (
	"errors"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// RopeType names a rule for the frequencies of rotations, as Hugging Face's rope_type does.
type RopeType string

// The rules this package computes.
const (
	// RopePlain is theta^(−2i/dim) for pair i.
	RopePlain RopeType = "default"
	// RopeLinear divides every frequency by Factor (arXiv 2306.15595).
	RopeLinear RopeType = "linear"
	// RopeLlama3 divides low frequencies by Factor, leaves high ones and goes from one to the other
	// smoothly, as Llama 3.1 does (arXiv 2407.21783).
	RopeLlama3 RopeType = "llama3"
)

// RopeScaling says how rotations are stretched.
type RopeScaling struct {
	// Type is the rule: default, linear or llama3. Empty means default, which reads no other field.
	Type RopeType `yaml:"rope_type" json:"rope_type" jsonschema:"enum=default,enum=linear,enum=llama3"`
	// Factor divides frequencies; at least 1. For linear and llama3.
	Factor float64 `yaml:"factor" json:"factor,omitempty"`
	// LowFreqFactor: pairs that turn fewer than so many times in OriginalMaxPositions are divided by
	// Factor. For llama3.
	LowFreqFactor float64 `yaml:"low_freq_factor" json:"low_freq_factor,omitempty"`
	// HighFreqFactor: pairs that turn more than so many times stay as they are. For llama3.
	HighFreqFactor float64 `yaml:"high_freq_factor" json:"high_freq_factor,omitempty"`
	// OriginalMaxPositions is the longest context before stretching. For llama3.
	OriginalMaxPositions int `yaml:"original_max_positions" json:"original_max_position_embeddings,omitempty"`
}

func (s RopeScaling) validate() error {
	var all []error
	positive := func(name string, v float64) {
		if !(v > 0) || math.IsInf(v, 0) {
			all = append(all, fmt.Errorf("rope_scaling.%s is %v, must be positive and finite", name, v))
		}
	}
	switch s.Type {
	case "", RopePlain:
		if s != (RopeScaling{Type: s.Type}) {
			all = append(all, errors.New("rope_scaling.rope_type is default, which takes no factors: set rope_type to linear or llama3, or leave the factors out"))
		}
		return errors.Join(all...)
	case RopeLinear:
		if s != (RopeScaling{Type: s.Type, Factor: s.Factor}) {
			all = append(all, errors.New("rope_scaling.rope_type is linear, which takes factor alone"))
		}
	case RopeLlama3:
		positive("low_freq_factor", s.LowFreqFactor)
		positive("high_freq_factor", s.HighFreqFactor)
		if s.HighFreqFactor <= s.LowFreqFactor {
			all = append(all, fmt.Errorf("rope_scaling.high_freq_factor is %v, must be above low_freq_factor, %v", s.HighFreqFactor, s.LowFreqFactor))
		}
		if s.OriginalMaxPositions < 1 || s.OriginalMaxPositions > maxDimension {
			all = append(all, fmt.Errorf("rope_scaling.original_max_positions is %d, must be between 1 and %d", s.OriginalMaxPositions, maxDimension))
		}
	default:
		return fmt.Errorf("rope_scaling.rope_type is %q, expected %s", s.Type, listed([]RopeType{RopePlain, RopeLinear, RopeLlama3}))
	}
	if !(s.Factor >= 1) || math.IsInf(s.Factor, 0) {
		all = append(all, fmt.Errorf("rope_scaling.factor is %v, must be at least 1 and finite", s.Factor))
	}
	return errors.Join(all...)
}

// frequencies are the angles per position of each pair. len = HeadDim/2.
func (c Config) frequencies() []float64 {
	all := make([]float64, c.HeadDim/2)
	for i := range all {
		all[i] = c.RopeScaling.stretch(math.Pow(c.RopeTheta, -2*float64(i)/float64(c.HeadDim)))
	}
	return all
}

// stretch is a plain frequency f after scaling. llama3, with L the original context and w = 2π/f the
// length of a turn:
//
//	f/factor                       where w > L/low
//	f                              where w < L/high
//	(1−s)·f/factor + s·f           between, s = (L/w − low)/(high − low)
func (s RopeScaling) stretch(f float64) float64 {
	switch s.Type {
	case RopeLinear:
		return f / s.Factor
	case RopeLlama3:
		turns := float64(s.OriginalMaxPositions) * f / (2 * math.Pi) // L/w
		switch {
		case turns < s.LowFreqFactor:
			return f / s.Factor
		case turns > s.HighFreqFactor:
			return f
		}
		smooth := (turns - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
		return (1-smooth)*f/s.Factor + smooth*f
	}
	return f
}

// rotations are the cosines and sines of the positions seen so far, HeadDim/2 numbers a position. The
// tables grow with the longest sequence: those of a long context are larger than many a network.
type rotations struct {
	cos, sin  device.Buffer
	positions int
}

// reach makes the tables cover so many positions.
func (r *rotations) reach(dev device.Device, c Config, positions int) error {
	if positions <= r.positions {
		return nil
	}
	grown := min(c.MaxPositions, max(positions, 2*r.positions, 256))
	frequencies := c.frequencies()
	half := len(frequencies)
	cos, sin := make([]float32, grown*half), make([]float32, grown*half)
	for position := range grown {
		for i, f := range frequencies {
			s, c := math.Sincos(float64(position) * f)
			cos[position*half+i], sin[position*half+i] = float32(c), float32(s)
		}
	}
	fresh := rotations{positions: grown}
	var err error
	if fresh.cos, err = dev.Allocate(device.ForWorkspace, device.F32, len(cos)); err != nil {
		return err
	}
	if fresh.sin, err = dev.Allocate(device.ForWorkspace, device.F32, len(sin)); err != nil {
		dev.Free(fresh.cos)
		return err
	}
	dev.Upload(fresh.cos, cos)
	dev.Upload(fresh.sin, sin)
	r.free(dev)
	*r = fresh
	return nil
}

func (r *rotations) free(dev device.Device) {
	dev.Free(r.cos)
	dev.Free(r.sin)
	*r = rotations{}
}
