package cuda

import (
	"encoding/binary"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

type adamWArgs struct {
	param, grad, m, v          pointer
	n                          int64
	beta1, rest1, beta2, rest2 float32
	keep, step, scale, epsilon float32
}

// AdamW takes one step on every element.
func (d *Device) AdamW(s device.AdamWStep) {
	const name = "AdamW"
	device.CheckAdamW(s)
	param, grad, m, v, n := d.at(name, s.Param), d.at(name, s.Grad), d.at(name, s.M), d.at(name, s.V), s.Param.Len()
	if n == 0 || !d.enter(name) {
		return
	}
	defer d.leave()
	launch(d, "adamw", d.over(n, 256), 256, adamWArgs{
		param: param, grad: grad, m: m, v: v, n: int64(n),
		beta1: s.Beta1, rest1: float32(1 - float64(s.Beta1)),
		beta2: s.Beta2, rest2: float32(1 - float64(s.Beta2)),
		keep:    float32(1 - float64(s.LearningRate)*float64(s.WeightDecay)),
		step:    float32(float64(s.LearningRate) / float64(s.BiasCorrection1)),
		scale:   float32(1 / math.Sqrt(float64(s.BiasCorrection2))),
		epsilon: s.Epsilon,
	})
}

type scaleArgs struct {
	x      pointer
	n      int64
	factor float32
	_      int32
}

// Scale multiplies every element by a factor.
func (d *Device) Scale(b device.Buffer, factor float32) {
	device.CheckScale(b)
	x, n := d.at("Scale", b), b.Len()
	if n == 0 || !d.enter("Scale") {
		return
	}
	defer d.leave()
	launch(d, "scale"+suffix(b.DType()), d.over(n, 256), 256, scaleArgs{x: x, n: int64(n), factor: factor})
}

type addScaledArgs struct {
	dst, src pointer
	n        int64
	factor   float32
	_        int32
}

// Add computes dst += factor·src.
func (d *Device) Add(dst, src device.Buffer, factor float32) {
	device.CheckAdd(dst, src)
	to, from, n := d.at("Add", dst), d.at("Add", src), dst.Len()
	if n == 0 || !d.enter("Add") {
		return
	}
	defer d.leave()
	launch(d, "add_scaled", d.over(n, 256), 256, addScaledArgs{dst: to, src: from, n: int64(n), factor: factor})
}

type sumSquaresArgs struct {
	sums, x pointer
	n       int64
}

type sumDoublesArgs struct {
	x pointer
	n int64
}

// squaresEach is how many elements a block of sum_squares has.
const squaresEach = 4096

// SquaredNorm is Σ b²: of 4096 elements at a time, and then of these sums, each in an order of its own.
func (d *Device) SquaredNorm(b device.Buffer) (float64, error) {
	const name = "SquaredNorm"
	device.CheckElements(name, b)
	x, n := d.at(name, b), b.Len()
	parts := blocks(n, squaresEach)
	bits, err := d.number(name, n, parts, func(sums pointer) {
		launch(d, "sum_squares", line(parts), 256, sumSquaresArgs{sums, x, int64(n)})
		launch(d, "sum_doubles", line(1), 256, sumDoublesArgs{sums, int64(parts)})
	})
	return math.Float64frombits(bits), err
}

type firstNotFiniteArgs struct {
	first, x pointer
	n        int64
}

type leastNumberArgs struct {
	x    pointer
	n, _ int32
}

// FirstNonFinite is the index of the first element that is infinite or not a number, −1 when there is none.
func (d *Device) FirstNonFinite(b device.Buffer) (int, error) {
	const name = "FirstNonFinite"
	device.CheckElements(name, b)
	x, n := d.at(name, b), b.Len()
	over := d.over(n, 256)
	first, err := d.number(name, n, over.x, func(found pointer) {
		launch(d, "first_not_finite", over, 256, firstNotFiniteArgs{found, x, int64(n)})
		launch(d, "least_number", line(1), 256, leastNumberArgs{x: found, n: int32(over.x)})
	})
	if err != nil || int(first) == n {
		return -1, err
	}
	return int(first), nil
}

// number has a number of 8 bytes computed from n elements and brings it to the host: compute gets room for so many of
// these numbers and leaves the one wanted in the first place. It is 0 for no elements.
func (d *Device) number(operation string, n, room int, compute func(at pointer)) (uint64, error) {
	var out [8]byte
	err := d.ask(operation, func() {
		if n == 0 {
			return
		}
		m, err := d.reserve(device.ForWorkspace, int64(room)*8)
		if err != nil {
			d.fail(operation, err)
			return
		}
		compute(m.address)
		d.download(operation, out[:], m.address)
		d.give(m)
	})
	return binary.LittleEndian.Uint64(out[:]), err
}
