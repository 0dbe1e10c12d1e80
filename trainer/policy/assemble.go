package policy

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// forms are those of all matrices of a model. frozen are of the base network under adapters, which an optimizer's step leaves
// alone; trained are the others.
type forms struct{ frozen, trained *rotation }

// each calls what both rotations have to do, up to the first error.
func (f forms) each(do func(r *rotation) error) error {
	if err := do(f.frozen); err != nil {
		return err
	}
	return do(f.trained)
}

// assemble makes a network of a model's weights, with the forms that its passes read. matrices are those that are their
// own forms, which belong to the forms from then on; absent where there are none. On an error nothing is left behind but these.
func assemble(dev device.Device, f form, weights tensors, matrices device.Buffer, use device.Use) (*network, forms, error) {
	n := &network{
		dev: dev, form: f, weights: weights,
		eps: float32(f.config.NormEps), scale: float32(1 / math.Sqrt(float64(f.config.HeadDim))),
	}
	var err error
	if n.head, err = newHead(dev, f, weights.head); err != nil {
		return nil, forms{}, err
	}
	all := forms{frozen: newRotation(dev, f, use), trained: newRotation(dev, f, use)}
	add := func(slots []slot) { // the first is of the base network
		base := all.trained
		if f.lora.Rank > 0 {
			base = all.frozen
		}
		base.slots = append(base.slots, slots[0])
		all.trained.slots = append(all.trained.slots, slots[1:]...)
	}
	stacks := f.config.stacks()
	n.layers = make([][stackCount]linear, f.config.Layers)
	for l := range n.layers {
		for which, s := range stacks {
			t := weights.layers[l].stacks[which]
			n.layers[l][which] = newLinear(t, s, f.lora)
			add(n.layers[l][which].slots(t))
		}
	}
	if n.head.adapted() {
		all.trained.slots = append(all.trained.slots, n.head.slots()...)
	} else {
		add(n.head.slots())
	}
	if f.valueHead {
		all.trained.slots = append(all.trained.slots, slot{weights.value.matrix, 1, f.config.Hidden, &n.value})
	}
	begin := func(r *rotation) error { return r.begin(device.Buffer{}) }
	if !matrices.Absent() { // nothing is frozen
		begin = func(r *rotation) error { return r.begin(matrices) }
		all.frozen.slots = nil
	}
	if err := all.each(begin); err != nil {
		n.free()
		all.end()
		return nil, forms{}, err
	}
	return n, all, nil
}

// end frees all sets that no network reads.
func (f forms) end() {
	for _, r := range []*rotation{f.frozen, f.trained} {
		if r != nil {
			r.end()
		}
	}
}

// free gives back what a network has besides its forms: the head's joined matrix and the rotations. The weights are the
// caller's.
func (n *network) free() {
	n.head.free(n.dev)
	n.rotations.free(n.dev)
}
