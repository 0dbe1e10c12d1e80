package device

import "math"

// StochasticBF16 rounds v to one of its two neighbors in bfloat16, up in magnitude with the probability of its distance
// from the lower one: the mean over all random is v itself, so that small steps add up which rounding to nearest would
// lose one by one. random is uniform in 0 … 65535. Numbers that bfloat16 holds stay, and so do infinities. A finite
// number stays finite: beyond the largest of bfloat16 it becomes that. A NaN stays one.
func StochasticBF16(v float32, random uint16) float32 {
	const infinite, dropped = 0x7f800000, 0xffff
	bits := math.Float32bits(v)
	if bits&infinite == infinite {
		if bits&0x7fffff != 0 {
			bits |= 0x400000
		}
		return math.Float32frombits(bits &^ dropped)
	}
	up := bits + uint32(random)
	if up&infinite == infinite {
		up = bits
	}
	return math.Float32frombits(up &^ dropped)
}

// RoundingBits are the random bits with which an update rounds an element of a tensor of BF16: the upper half of word
// element mod 4 of Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
// with the key seed and the counter (element / 4, tensor, step), least significant word first. They depend on nothing
// else, so that a step that is made again rounds alike, however it is cut.
func RoundingBits(seed uint64, step, tensor uint32, element uint64) uint16 {
	block := element / 4
	words := philox([4]uint32{uint32(block), uint32(block >> 32), tensor, step}, [2]uint32{uint32(seed), uint32(seed >> 32)})
	return uint16(words[element%4] >> 16)
}

// RoundBF16 rounds elements of a tensor in place, the first of which has a number: each as StochasticBF16 does by its RoundingBits.
func RoundBF16(values []float32, seed uint64, step, tensor uint32, first uint64) {
	key := [2]uint32{uint32(seed), uint32(seed >> 32)}
	var words [4]uint32
	for i := range values {
		element := first + uint64(i)
		if block := element / 4; i == 0 || element%4 == 0 {
			words = philox([4]uint32{uint32(block), uint32(block >> 32), tensor, step}, key)
		}
		values[i] = StochasticBF16(values[i], uint16(words[element%4]>>16))
	}
}

// philox is Philox4x32 with 10 rounds: 128 random bits for each counter and key.
func philox(counter [4]uint32, key [2]uint32) [4]uint32 {
	for range 10 {
		x, y := uint64(counter[0])*0xd2511f53, uint64(counter[2])*0xcd9e8d57
		counter = [4]uint32{uint32(y>>32) ^ counter[1] ^ key[0], uint32(y), uint32(x>>32) ^ counter[3] ^ key[1], uint32(x)}
		key[0] += 0x9e3779b9
		key[1] += 0xbb67ae85
	}
	return counter
}
