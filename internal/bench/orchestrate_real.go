package bench

import (
	"fmt"
	"time"
)

// Real are the settings of a measurement of orchestration through a real server.
type Real struct {
	Slots     int
	GroupSize int
	// Batch is the trajectories of a step; 0 stands for two waves of slots, in whole groups.
	Batch     int
	Staleness int
	// Latency is the median of an episode; the 99th percentile is ten times that, the longest 15 times.
	Latency time.Duration
	// Seconds is how long is measured, after a warm-up.
	Seconds int
}

// Check reports the first setting that makes no sense, and fills in the batch.
func (r *Real) Check() error {
	err := firstError(
		between("slots", r.Slots, 1, 4096), between("group-size", r.GroupSize, 1, maxSlots), between("batch", r.Batch, 0, maxSlots),
		between("staleness", r.Staleness, 0, maxStale), between("latency", r.Latency, time.Millisecond, time.Minute), between("seconds", r.Seconds, 1, 3600),
	)
	if err != nil {
		return err
	}
	if r.Batch == 0 {
		r.Batch = wholeGroups(2*r.Slots, r.GroupSize)
	}
	if r.Batch%r.GroupSize != 0 {
		return SettingError{"batch", r.Batch, fmt.Sprintf("must be a multiple of --group-size %d", r.GroupSize)}
	}
	return nil
}

// wholeGroups is the least number of trajectories of whole groups that is not below n.
func wholeGroups(n, size int) int { return (n + size - 1) / size * size }
