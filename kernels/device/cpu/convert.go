package cpu

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// bf16 is v rounded to nearest even: its upper half. NaN keeps its sign and upper bits and stays NaN.
func bf16(v float32) uint16 {
	bits := math.Float32bits(v)
	if v != v {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

func fromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// f16 is v rounded to nearest even, IEEE 754 half precision. What is too large becomes infinite, NaN
// keeps its sign and upper bits and stays NaN.
func f16(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	magnitude := bits & 0x7fffffff
	switch {
	case magnitude > 0x7f800000:
		return sign | 0x7e00 | uint16(magnitude>>13&0x1ff)
	case magnitude >= 0x47800000: // 65536 and more; from 65520 on, rounding gets there
		return sign | 0x7c00
	case magnitude < 0x38800000: // below the smallest normal half, 2⁻¹⁴: adding ½ rounds at 2⁻²⁴
		sum := math.Float32frombits(magnitude) + 0.5
		return sign | uint16(math.Float32bits(sum)-0x3f000000)
	}
	rounded := magnitude + 0xfff + magnitude>>13&1
	return sign | uint16((rounded-0x38000000)>>13) // the exponent's bias is 112 less
}

func fromF16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0:
		v := float32(fraction) * 0x1p-24
		return math.Float32frombits(sign | math.Float32bits(v))
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

func narrowBF16(dst []uint16, src []float32) {
	for i, v := range src {
		dst[i] = bf16(v)
	}
}

func widenBF16(dst []float32, src []uint16) {
	for i, h := range src {
		dst[i] = fromBF16(h)
	}
}

func narrowF16(dst []uint16, src []float32) {
	for i, v := range src {
		dst[i] = f16(v)
	}
}

func widenF16(dst []float32, src []uint16) {
	for i, h := range src {
		dst[i] = fromF16(h)
	}
}

// between converts one type of two bytes to the other, from the type given.
func between(dst, src []uint16, from device.DType) {
	for i, h := range src {
		if from == device.BF16 {
			dst[i] = f16(fromBF16(h))
		} else {
			dst[i] = bf16(fromF16(h))
		}
	}
}
