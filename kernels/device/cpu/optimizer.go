package cpu

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// NewTensors checks the tensors. Its error is always nil.
func (d *Device) NewTensors(list []device.Tensor) (device.Tensors, error) {
	device.CheckTensors(list)
	return device.PlainTensors(list), nil
}

// FreeTensors has nothing to give back.
func (d *Device) FreeTensors(device.Tensors) {}

// Update takes one step on every tensor, one after the other.
func (d *Device) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	return device.UpdateOneByOne(d, t.List(), u)
}

// RoundBF16 rounds the elements of a tensor.
func (d *Device) RoundBF16(b device.Buffer, seed uint64, step, tensor uint32) {
	device.CheckElements("RoundBF16", b)
	if b.Len() > 0 {
		d.spreads.round.overRows(roundWork{floats(b), seed, step, tensor}, b.Len(), 1)
	}
}

type roundWork struct {
	x            []float32
	seed         uint64
	step, tensor uint32
}

func (w roundWork) run(lo, hi int) {
	device.RoundBF16(w.x[lo:hi], w.seed, w.step, w.tensor, uint64(lo))
}

// AdamW takes one step on every element.
func (d *Device) AdamW(s device.AdamWStep) {
	device.CheckAdamW(s)
	if n := s.Param.Len(); n > 0 {
		d.spreads.adamW.overRows(adamWWork{floats(s.Param), floats(s.Grad), floats(s.M), floats(s.V), s}, n, 1)
	}
}

type adamWWork struct {
	param, grad, m, v []float32
	step              device.AdamWStep
}

func (w adamWWork) run(lo, hi int) {
	s := w.step
	AdamW(w.param[lo:hi], w.grad[lo:hi], w.m[lo:hi], w.v[lo:hi],
		s.LearningRate, s.Beta1, s.Beta2, s.Epsilon, s.WeightDecay, s.BiasCorrection1, s.BiasCorrection2)
}

// Scale multiplies every element by a factor.
func (d *Device) Scale(b device.Buffer, factor float32) {
	device.CheckScale(b)
	if b.Len() > 0 {
		d.spreads.scale.overRows(scaleWork{floats(b), factor}, b.Len(), 1)
	}
}

type scaleWork struct {
	x      []float32
	factor float32
}

func (w scaleWork) run(lo, hi int) { Scale(w.factor, w.x[lo:hi]) }

// Add computes dst += factor·src.
func (d *Device) Add(dst, src device.Buffer, factor float32) {
	device.CheckAdd(dst, src)
	if dst.Len() > 0 {
		d.spreads.add.overRows(addWork{floats(dst), floats(src), factor}, dst.Len(), 1)
	}
}

type addWork struct {
	dst, src []float32
	factor   float32
}

func (w addWork) run(lo, hi int) { Axpy(w.factor, w.src[lo:hi], w.dst[lo:hi]) }

// normBlock is the number of elements whose squares are summed on their own.
const normBlock = 4096

// SquaredNorm is Σ b², block by block. Its error is always nil.
func (d *Device) SquaredNorm(b device.Buffer) (float64, error) {
	device.CheckElements("SquaredNorm", b)
	total := 0.0
	for x := floats(b); len(x) > 0; {
		n := min(normBlock, len(x))
		total += SquaredNorm(x[:n])
		x = x[n:]
	}
	return total, nil
}

// FirstNonFinite is the index of the first element that is infinite or not a number, −1 when there is
// none. Its error is always nil.
func (d *Device) FirstNonFinite(b device.Buffer) (int, error) {
	device.CheckElements("FirstNonFinite", b)
	x := floats(b)
	for from := 0; from < len(x); from += normBlock {
		block := x[from:min(from+normBlock, len(x))]
		if allFinite(block) {
			continue
		}
		for i, v := range block {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return from + i, nil
			}
		}
	}
	return -1, nil
}
