package weights

import (
	"encoding/binary"
	"math"
)

// Casts between float32 and the two 16-bit formats, one rule for both: widening is exact and keeps every bit of a NaN;
// narrowing rounds to the nearest value, ties to the one with an even last bit, overflow goes to infinity and tiny values
// to subnormals or zero, and a NaN stays a NaN of the same sign, with the upper bits of its payload and the quiet bit
// set, as x86's conversion instructions do. (PyTorch's kernels differ among themselves in the bits of a NaN.)

// BF16FromFloat32 is v rounded to bfloat16: float32's exponent with 7 bits of fraction.
func BF16FromFloat32(v float32) uint16 {
	b := math.Float32bits(v)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// BF16ToFloat32 is the value of a bfloat16, exactly.
func BF16ToFloat32(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F16FromFloat32 is v rounded to IEEE 754 binary16: 5 bits of exponent, 10 of fraction, largest finite value 65504.
func F16FromFloat32(v float32) uint16 {
	b := math.Float32bits(v)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(b>>13)&0x1ff
	case b >= 0x47800000: // 65536 and above; what lies between 65520 and that is carried to infinity below
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14, where halves are spaced 2^-24 apart, like float32s from 1/2 to 1
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	return sign | uint16((b+0xfff+b>>13&1-0x38000000)>>13)
}

// F16ToFloat32 is the value of an IEEE 754 binary16, exactly.
func F16ToFloat32(h uint16) float32 { return math.Float32frombits(f16Bits(h)) }

func f16Bits(h uint16) uint32 {
	sign := uint32(h&0x8000) << 16
	magnitude := uint32(h&0x7fff) << 13
	if magnitude >= 0x0f800000 { // infinity and NaN
		return sign | 0x7f800000 | magnitude
	}
	// The exponent's bias is 15 there and 127 here; the product is exact, and makes subnormals normal.
	return sign | math.Float32bits(math.Float32frombits(magnitude)*0x1p112)
}

// overflow adds one to the exponent of a float32's bits without its sign: the result's top bit is set just where the
// value is infinite or a NaN, so that a loop can collect it for many values without a branch.
func overflow(bits uint32) uint32 { return bits&0x7fffffff + 0x800000 }

// widen converts little-endian elements to float32, len(src) = len(dst) × the element's size. It reports whether every
// value is finite.
func widen(dst []float32, src []byte, t DType) (finite bool) {
	carry := uint32(0)
	switch t {
	case F32:
		for len(src) >= 16 && len(dst) >= 4 { // four at a time, which spares bounds checks
			a, b := binary.LittleEndian.Uint64(src), binary.LittleEndian.Uint64(src[8:])
			w, x, y, z := uint32(a), uint32(a>>32), uint32(b), uint32(b>>32)
			dst[0], dst[1], dst[2], dst[3] = math.Float32frombits(w), math.Float32frombits(x), math.Float32frombits(y), math.Float32frombits(z)
			carry |= overflow(w) | overflow(x) | overflow(y) | overflow(z)
			src, dst = src[16:], dst[4:]
		}
		for i := range dst {
			b := binary.LittleEndian.Uint32(src[4*i:])
			dst[i] = math.Float32frombits(b)
			carry |= overflow(b)
		}
	case BF16:
		for len(src) >= 8 && len(dst) >= 4 {
			a := binary.LittleEndian.Uint64(src)
			w, x, y, z := uint32(a)<<16, uint32(a)&0xffff0000, uint32(a>>32)<<16, uint32(a>>32)&0xffff0000
			dst[0], dst[1], dst[2], dst[3] = math.Float32frombits(w), math.Float32frombits(x), math.Float32frombits(y), math.Float32frombits(z)
			carry |= overflow(w) | overflow(x) | overflow(y) | overflow(z)
			src, dst = src[8:], dst[4:]
		}
		for i := range dst {
			b := uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16
			dst[i] = math.Float32frombits(b)
			carry |= overflow(b)
		}
	case F16:
		for i := range dst {
			b := f16Bits(binary.LittleEndian.Uint16(src[2*i:]))
			dst[i] = math.Float32frombits(b)
			carry |= overflow(b)
		}
	}
	return carry < 1<<31
}

// narrow converts float32 to little-endian elements, len(dst) = len(src) × the element's size. It reports whether every
// result is finite.
func narrow(dst []byte, src []float32, t DType) (finite bool) {
	carry := uint32(0)
	switch t {
	case F32:
		for i, v := range src {
			b := math.Float32bits(v)
			binary.LittleEndian.PutUint32(dst[4*i:], b)
			carry |= overflow(b)
		}
		return carry < 1<<31
	case BF16:
		for i, v := range src {
			h := BF16FromFloat32(v)
			binary.LittleEndian.PutUint16(dst[2*i:], h)
			carry |= uint32(h)&0x7fff + 0x80
		}
	case F16:
		for i, v := range src {
			h := F16FromFloat32(v)
			binary.LittleEndian.PutUint16(dst[2*i:], h)
			carry |= uint32(h)&0x7fff + 0x400
		}
	}
	return carry < 1<<15
}

// isFinite reports whether v is neither infinite nor a NaN.
func isFinite(v float32) bool { return math.Float32bits(v)&0x7f800000 != 0x7f800000 }
