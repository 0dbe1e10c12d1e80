package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

type addBiasArgs struct {
	y, bias     pointer
	stride      int64
	rows, width int32
}

// AddBias adds bias to each row of y.
func (d *Device) AddBias(y device.Rows, bias device.Buffer, rows int) {
	device.CheckAddBias(y, bias, rows)
	to, from, width := d.operand("AddBias", y), d.at("AddBias", bias), bias.Len()
	if rows == 0 || width == 0 || !d.enter("AddBias") {
		return
	}
	defer d.leave()
	d.addBias(to, from, rows, width)
}

func (d *Device) addBias(y operand, bias pointer, rows, width int) {
	launch(d, "add_bias"+suffix(y.t), line(min(rows, 32*d.multiprocessors)), 256,
		addBiasArgs{y.at, bias, int64(y.stride), int32(rows), int32(width)})
}

type biasGradArgs struct {
	sum, from   pointer
	stride      int64
	rows, width int32
}

// BiasGrad adds the sum of the rows of dy to dBias.
func (d *Device) BiasGrad(dBias device.Buffer, dy device.Rows, rows int) {
	device.CheckBiasGrad(dBias, dy, rows)
	to, from, width := d.at("BiasGrad", dBias), d.operand("BiasGrad", dy), dBias.Len()
	if rows == 0 || width == 0 || !d.enter("BiasGrad") {
		return
	}
	defer d.leave()
	d.sumRows(to, from, rows, width)
}

// sumRows adds the rows to a sum in ascending order.
func (d *Device) sumRows(sum pointer, from operand, rows, width int) {
	launch(d, "bias_grad"+suffix(from.t), line(blocks(width, 32)), 256,
		biasGradArgs{sum, from.at, int64(from.stride), int32(rows), int32(width)})
}
