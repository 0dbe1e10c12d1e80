//go:build race

package cuda

// raceEnabled says that the race detector is on, under which the suite's oracle takes many times as long.
const raceEnabled = true
