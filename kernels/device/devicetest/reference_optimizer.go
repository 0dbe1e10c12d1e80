package devicetest

import "github.com/turnwise-rl/turnwise/kernels/device"

// NewTensors implements [device.Optimizer].
func (*Reference) NewTensors(list []device.Tensor) (device.Tensors, error) {
	device.CheckTensors(list)
	return device.PlainTensors(list), nil
}

// FreeTensors implements [device.Optimizer].
func (*Reference) FreeTensors(device.Tensors) {}

// Update implements [device.Optimizer].
func (r *Reference) Update(t device.Tensors, u device.Update) (device.Updated, error) {
	return device.UpdateOneByOne(r, t.List(), u)
}
