//go:build !race

package cuda

// raceEnabled says that the race detector is off.
const raceEnabled = false
