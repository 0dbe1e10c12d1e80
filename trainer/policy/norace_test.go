//go:build !race

package policy

// raceEnabled says that the race detector is on, which allocates and makes sync.Pool forget at random.
const raceEnabled = false
