package graph

import "math"

// ranked is a token with a key by which tokens are ordered.
type ranked struct {
	key   uint64
	token int32
}

// digit is how many bits of a key one pass of the ordering looks at.
const digit = 11

// descending are the tokens by their values from the largest down, of equal ones the earlier first, NaN last. It
// orders digit by digit from the lowest, which keeps the order of equal ones and passes over the digits that single
// precision does not have.
func descending[T element](x []T) []int32 {
	from, to := make([]ranked, len(x)), make([]ranked, len(x))
	for t, v := range x {
		from[t] = ranked{descendingKey(float64(v)), int32(t)}
	}
	for shift := 0; shift < 64; shift += digit {
		var starts [1 << digit]int
		for _, r := range from {
			starts[r.key>>shift&(1<<digit-1)]++
		}
		sum, same := 0, false
		for d, count := range starts {
			same = same || count == len(x)
			starts[d], sum = sum, sum+count
		}
		if same {
			continue
		}
		for _, r := range from {
			d := r.key >> shift & (1<<digit - 1)
			to[starts[d]] = r
			starts[d]++
		}
		from, to = to, from
	}
	order := make([]int32, len(x))
	for i, r := range from {
		order[i] = r.token
	}
	return order
}

// descendingKey is smaller for larger values, and largest for NaN. Zeros have one key.
func descendingKey(v float64) uint64 {
	if v != v {
		return math.MaxUint64
	}
	bits := math.Float64bits(v + 0)
	if bits>>63 == 1 {
		return bits
	}
	return ^(bits | 1<<63)
}
