package device

import (
	"math"
	"slices"
	"testing"
)

// TestPhilox has the numbers of the authors' own tests (Random123, kat_vectors).
func TestPhilox(t *testing.T) {
	const ones = 0xffffffff
	for _, tc := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{ones, ones, ones, ones}, [2]uint32{ones, ones}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := philox(tc.counter, tc.key); got != tc.want {
			t.Errorf("philox(%#x, %#x) is %#x, want %#x", tc.counter, tc.key, got, tc.want)
		}
	}
}

// TestStochasticBF16IsUnbiased goes through all random bits: their mean is the number itself, exactly.
func TestStochasticBF16IsUnbiased(t *testing.T) {
	for _, v := range []float32{1.0001, -1.0001, 0.3, -2.9999e-20, 3e30, 1.9999999, math.SmallestNonzeroFloat32, -1e-40, 1.1754942e-38, 65535.99} {
		sum, low, high := 0.0, float32(math.Inf(1)), float32(math.Inf(-1))
		for random := range 1 << 16 {
			r := StochasticBF16(v, uint16(random))
			sum, low, high = sum+float64(r)/(1<<16), min(low, r), max(high, r)
			if math.Float32bits(r)&0xffff != 0 {
				t.Fatalf("%v rounds to %v, which bf16 does not hold", v, r)
			}
		}
		// Sums of 2¹⁶ numbers of 8 bits are exact in float64.
		if sum != float64(v) {
			t.Errorf("the mean of the roundings of %v is %v", v, sum)
		}
		if !(low <= v && v <= high) || math.Float32bits(high)-math.Float32bits(low) != 0x10000 && math.Float32bits(low)-math.Float32bits(high) != 0x10000 {
			t.Errorf("%v rounds to %v and %v, want its neighbors", v, low, high)
		}
	}
}

func TestStochasticBF16AtTheEdges(t *testing.T) {
	const largest = 0x1.fep127
	infinity := float32(math.Inf(1))
	negativeZero := float32(math.Copysign(0, -1))
	for _, random := range []uint16{0, 1, 0x7fff, 0x8000, 0xffff} {
		for _, exact := range []float32{0, negativeZero, 1, -1.5, 0x1p-133, -largest, largest, infinity, -infinity} {
			if got := StochasticBF16(exact, random); math.Float32bits(got) != math.Float32bits(exact) {
				t.Errorf("%v with %#x rounds to %v", exact, random, got)
			}
		}
		if got := StochasticBF16(math.MaxFloat32, random); got != largest {
			t.Errorf("the largest float32 with %#x rounds to %v", random, got)
		}
		if got := StochasticBF16(-math.MaxFloat32, random); got != -largest {
			t.Errorf("the least float32 with %#x rounds to %v", random, got)
		}
		for _, bits := range []uint32{0x7fc00000, 0x7f800001, 0xff800001, 0xffffffff} {
			if got := StochasticBF16(math.Float32frombits(bits), random); got == got || math.Float32bits(got)&0xffff != 0 {
				t.Errorf("NaN %#x with %#x rounds to %v", bits, random, got)
			}
		}
	}
}

// TestRoundingBitsAreUniform rounds the same number in many elements, tensors, steps and seeds: the share that goes up is that
// of its distance, within five standard deviations, and one of them says nothing of the next.
func TestRoundingBitsAreUniform(t *testing.T) {
	const v, share, draws = 1 + 0.3/128, 0.3, 40000
	for name, bits := range map[string]func(i int) uint16{
		"elements": func(i int) uint16 { return RoundingBits(7, 3, 1, uint64(i)) },
		"tensors":  func(i int) uint16 { return RoundingBits(7, 3, uint32(i), 5) },
		"steps":    func(i int) uint16 { return RoundingBits(7, uint32(i), 1, 5) },
		"seeds":    func(i int) uint16 { return RoundingBits(uint64(i)<<20, 3, 1, 5) },
		"far":      func(i int) uint16 { return RoundingBits(7, 3, 1, 1<<40+uint64(i)) },
	} {
		up, twice := 0, 0
		last := false
		for i := range draws {
			now := StochasticBF16(v, bits(i)) > 1
			if now {
				up++
			}
			if now && last {
				twice++
			}
			last = now
		}
		bound := 5 * math.Sqrt(share*(1-share)/draws)
		if got := float64(up) / draws; math.Abs(got-share) > bound {
			t.Errorf("%s: %v of the roundings go up, want %v", name, got, share)
		}
		if got := float64(twice) / draws; math.Abs(got-share*share) > bound {
			t.Errorf("%s: %v of the roundings go up twice, want %v", name, got, share*share)
		}
	}
}

// TestRoundBF16IsThatOfEachElement cuts a tensor at every place.
func TestRoundBF16IsThatOfEachElement(t *testing.T) {
	const seed, step, tensor, n = 0x9e3779b97f4a7c15, 7, 3, 23
	for first := range uint64(9) {
		first += 1<<34 - 5
		got := make([]float32, n)
		for i := range got {
			got[i] = 1 + float32(i)/1000
		}
		want := slices.Clone(got)
		for i, v := range want {
			want[i] = StochasticBF16(v, RoundingBits(seed, step, tensor, first+uint64(i)))
		}
		RoundBF16(got, seed, step, tensor, first)
		if !slices.Equal(got, want) {
			t.Errorf("from element %d on: %v, want %v", first, got, want)
		}
	}
}
