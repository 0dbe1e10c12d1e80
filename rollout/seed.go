package rollout

// Seed mixes parts into one seed. It is how every random stream of a run is derived: from the run's
// seed, the group, the member and the turn, and never from an attempt, so that a retry on any worker
// draws the same numbers. The order of the parts matters.
//
// Each part goes through the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
func Seed(parts ...uint64) uint64 {
	state := uint64(0x9e3779b97f4a7c15)
	for _, part := range parts {
		state ^= part
		state += 0x9e3779b97f4a7c15
		state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9
		state = (state ^ (state >> 27)) * 0x94d049bb133111eb
		state ^= state >> 31
	}
	return state
}
