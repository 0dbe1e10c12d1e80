package decode

const golden = 0x9e3779b97f4a7c15

// uniform is the n-th number in [0, 1) of a seed's stream, from SplitMix64's finaliser over both. It is
// all that decides a draw besides the distribution, so a request's tokens depend on its own seed and
// on the token's place in the request alone.
func uniform(seed, n uint64) float64 {
	return float64(mix(mix(seed+golden)+(n+1)*golden)>>11) * 0x1p-53
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
