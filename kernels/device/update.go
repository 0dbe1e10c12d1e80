package device

import (
	"fmt"
	"math"
)

// Tensor is one parameter that an update changes.
type Tensor struct {
	// Param is of F32 or of BF16. In BF16 an update computes in float32 and rounds stochastically: see [StochasticBF16].
	Param Buffer
	// Grad is its gradient, M and V are its first and second moment: float32 of Param's length. An update may clip
	// Grad in place.
	Grad, M, V Buffer
	// Decay is true when weight decay applies.
	Decay bool
	// Rounded is true when Param of F32 has numbers of BF16 alone. Then an update rounds it as one of BF16, to the same numbers.
	Rounded bool
}

// rounds reports whether an update rounds the tensor.
func (t Tensor) rounds() bool { return t.Rounded || t.Param.DType() == BF16 }

// Rounder is a device that rounds by itself. Of others the host rounds in their stead.
type Rounder interface {
	// RoundBF16 rounds F32 elements as those of a tensor are rounded, by its number among those that an update is of: see
	// [StochasticBF16] and [RoundingBits].
	RoundBF16(b Buffer, seed uint64, step, tensor uint32)
}

// Tensors are parameters that are updated together, and what the device keeps in order to do so.
type Tensors interface {
	// List is what they were made of. It is shared: do not change its entries.
	List() []Tensor
}

// Update is one step of AdamW on all tensors; see [AdamWStep], whose scalars these are. Its bits are those of Scale by the factor
// that clips and of AdamW, whatever tensors it takes the step of together: only the sum behind the norm has the device's own order.
type Update struct {
	LearningRate, Beta1, Beta2, Epsilon float32
	// WeightDecay is λ of the tensors that decay; it is 0 of others.
	WeightDecay                      float32
	BiasCorrection1, BiasCorrection2 float32
	// ClipNorm bounds the norm of all gradients together: a longer gradient is scaled down to it. 0 means no bound.
	ClipNorm float64
	// Seed and Step decide how parameters of BF16 are rounded, and nothing else; see [RoundingBits].
	Seed uint64
	Step uint32
	// Forms are what products read of matrices that the update changes. They are brought up to date with them, as
	// Refresh does.
	Forms []Weights
}

// Updated is what an update has found.
type Updated struct {
	// GradNorm is the norm of all gradients together before clipping; meaningless when one is not finite.
	GradNorm float64
	// Tensor and Element are the place of the first gradient, in the order of the tensors, that is not finite. Then
	// nothing has changed. Tensor is −1 when all are finite.
	Tensor, Element int
}

// CheckTensors checks the operands of NewTensors.
func CheckTensors(list []Tensor) {
	for i, t := range list {
		o, n := operation(fmt.Sprintf("NewTensors: tensor %d", i)), t.Param.Len()
		if n > 0 {
			o.computes("Param", t.Param.DType())
		}
		o.exactly("Grad", t.Grad, F32, n)
		o.exactly("M", t.M, F32, n)
		o.exactly("V", t.V, F32, n)
	}
}

// CheckUpdate checks the scalars of Update.
func CheckUpdate(u Update) {
	if !(u.ClipNorm >= 0) || math.IsInf(u.ClipNorm, 0) {
		operation("Update").fail("ClipNorm", "want a finite number of at least 0, got %v", u.ClipNorm)
	}
}

// PlainTensors are tensors of which a device keeps nothing.
type PlainTensors []Tensor

// List is what they were made of.
func (p PlainTensors) List() []Tensor { return p }

// updating is what a device needs to update tensors one by one.
type updating interface {
	Storage
	Schedule
	Optimizer
	Refresh(w Weights)
}

// UpdateOneByOne is Update in terms of a device's operations on single tensors: the squares of each gradient are
// summed on their own, and the sums added in the tensors' order. Clipping scales the gradients in place. The error is
// the device's.
func UpdateOneByOne(d updating, list []Tensor, u Update) (Updated, error) {
	CheckUpdate(u)
	total := 0.0
	for i, t := range list {
		sum, err := d.SquaredNorm(t.Grad)
		if err != nil {
			return Updated{}, err
		}
		if math.IsNaN(sum) || math.IsInf(sum, 0) { // the squares of finite float32 have a finite sum in float64
			at, err := d.FirstNonFinite(t.Grad)
			return Updated{GradNorm: sum, Tensor: i, Element: at}, err
		}
		total += sum
	}
	made := Updated{GradNorm: math.Sqrt(total), Tensor: -1}
	scale := u.scale(made.GradNorm)
	for i, t := range list {
		if scale != 1 {
			d.Scale(t.Grad, scale)
		}
		s := u.Of(t)
		if !t.rounds() {
			d.AdamW(s)
		} else if err := updateRounded(d, s, u, i); err != nil {
			return Updated{}, err
		}
	}
	d.Each(len(u.Forms), func(i int) { d.Refresh(u.Forms[i]) })
	return made, d.Sync()
}

// scale is what gradients of this norm are multiplied by.
func (u Update) scale(norm float64) float32 {
	if u.ClipNorm > 0 && norm > u.ClipNorm {
		return float32(u.ClipNorm / norm)
	}
	return 1
}

// Of is the step of one tensor.
func (u Update) Of(t Tensor) AdamWStep {
	s := AdamWStep{
		Param: t.Param, Grad: t.Grad, M: t.M, V: t.V, LearningRate: u.LearningRate, Beta1: u.Beta1, Beta2: u.Beta2, Epsilon: u.Epsilon,
		BiasCorrection1: u.BiasCorrection1, BiasCorrection2: u.BiasCorrection2,
	}
	if t.Decay {
		s.WeightDecay = u.WeightDecay
	}
	return s
}

// updateRounded takes the step of tensor i and rounds it: one of BF16 through a copy in float32.
func updateRounded(d updating, s AdamWStep, u Update, i int) error {
	param := s.Param
	if param.DType() == BF16 {
		var err error
		if s.Param, err = d.Allocate(ForWorkspace, F32, param.Len()); err != nil {
			return err
		}
		defer d.Free(s.Param)
		d.Copy(s.Param, param)
	}
	d.AdamW(s)
	if by, ok := d.(Rounder); ok {
		by.RoundBF16(s.Param, u.Seed, u.Step, uint32(i))
		if s.Param != param {
			d.Copy(param, s.Param)
		}
		return nil
	}
	values := make([]float32, param.Len())
	if err := d.Download(values, s.Param); err != nil {
		return err
	}
	RoundBF16(values, u.Seed, u.Step, uint32(i), 0)
	d.Upload(param, values)
	return nil
}
