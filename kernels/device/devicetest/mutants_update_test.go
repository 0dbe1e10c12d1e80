package devicetest

import (
	"slices"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

func updateMutants() []mutant {
	r := NewReference
	return []mutant{
		{"Update", "each tensor clipped by its own norm", clippedAlone{r()}},
		{"Update", "not clipped", unclipped{r()}},
		{"Update", "all tensors decay", decaying{r()}},
		{"Update", "forms left as they were", formless{r()}},
		{"Update", "rounded to nearest", roundedToNearest{r()}},
		{"Update", "rounded alike in every step", stepless{r()}},
		{"Update", "tensors before the one refused have changed", premature{r()}},
		{"Update", "the last tensor not finite named", lastNamed{r()}},
		{"Update", "a tensor of one element left out", singleLess{r()}},
	}
}

type clippedAlone struct{ *Reference }

func (d clippedAlone) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	whole := u
	whole.LearningRate, whole.Beta1, whole.Beta2, whole.ClipNorm = 0, 1, 1, 0 // changes nothing
	made, err := d.Reference.Update(t, whole)
	for i, one := range t.List() {
		list := make(device.PlainTensors, i+1) // rounding depends on the number
		for j := range i {
			list[j] = device.Tensor{Param: one.Param.Slice(0, 0), Grad: one.Grad.Slice(0, 0), M: one.M.Slice(0, 0), V: one.V.Slice(0, 0)}
		}
		list[i] = one
		if made.Tensor < 0 {
			_, _ = d.Reference.Update(list, u)
		}
	}
	return made, err
}

type unclipped struct{ *Reference }

func (d unclipped) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	u.ClipNorm = 0
	return d.Reference.Update(t, u)
}

type decaying struct{ *Reference }

func (d decaying) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	list := slices.Clone(t.List())
	for i := range list {
		list[i].Decay = true
	}
	return d.Reference.Update(device.PlainTensors(list), u)
}

type formless struct{ *Reference }

func (d formless) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	u.Forms = nil
	return d.Reference.Update(t, u)
}

// roundedToNearest keeps parameters in float32 until they are stored.
type roundedToNearest struct{ *Reference }

func (d roundedToNearest) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	list := slices.Clone(t.List())
	for i, one := range list {
		if one.Param.DType() == device.BF16 {
			list[i].Param, _ = d.Allocate(device.ForWorkspace, device.F32, one.Param.Len())
			d.Copy(list[i].Param, one.Param)
		}
	}
	made, err := d.Reference.Update(device.PlainTensors(list), u)
	for i, one := range t.List() {
		if one.Param.DType() == device.BF16 {
			d.Copy(one.Param, list[i].Param)
			d.Free(list[i].Param)
		}
	}
	return made, err
}

type stepless struct{ *Reference }

func (d stepless) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	u.Step = 0
	return d.Reference.Update(t, u)
}

type premature struct{ *Reference }

func (d premature) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	made, err := d.Reference.Update(t, u)
	if made.Tensor > 0 {
		_, _ = d.Reference.Update(device.PlainTensors(t.List()[:made.Tensor]), u)
	}
	return made, err
}

type lastNamed struct{ *Reference }

func (d lastNamed) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	made, err := d.Reference.Update(t, u)
	for i, one := range t.List() {
		if at, _ := d.FirstNonFinite(one.Grad); at >= 0 {
			made.Tensor, made.Element = i, at
		}
	}
	return made, err
}

type singleLess struct{ *Reference }

func (d singleLess) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	list := slices.Clone(t.List())
	for i, one := range list {
		if one.Param.Len() == 1 {
			list[i].Param, list[i].M, list[i].V = one.Param.Slice(0, 0), one.M.Slice(0, 0), one.V.Slice(0, 0)
			list[i].Grad = one.Grad.Slice(0, 0)
		}
	}
	return d.Reference.Update(device.PlainTensors(list), u)
}
