package cuda

import "github.com/turnwise-rl/turnwise/kernels/device"

// operand is a row-major matrix in the device's memory: row i begins stride elements behind row i−1.
type operand struct {
	at     pointer
	t      device.DType
	stride int
}

// operand is the matrix of an operation; an absent one has address 0.
func (d *Device) operand(operation string, r device.Rows) operand {
	return operand{d.at(operation, r.Data), r.Data.DType(), r.Stride}
}

// from is the matrix without its first rows.
func (o operand) from(row int) operand {
	o.at += pointer(row * o.stride * o.t.Size())
	return o
}
