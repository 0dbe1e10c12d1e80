package bench

import (
	"fmt"
	"time"
)

// Real are the settings of a measurement of orchestration through a real server.
type Real struct {
	Slots     int
	GroupSize int
	// Batch is the trajectories of a step. 0 stands for two waves of slots, or for as many as the slots play in 5/4
	// of Step if that is more, so that they never wait for the learner: in whole groups.
	Batch     int
	Staleness int
	// Latency is the median of an episode; the 99th percentile is ten times that, the longest 15 times.
	Latency time.Duration
	// Step is what a step takes the learner.
	Step time.Duration
	// Seconds is how long is measured, after a warm-up.
	Seconds int
}

// Check reports the first setting that makes no sense, and fills in the batch.
func (r *Real) Check() error {
	err := firstError(
		between("slots", r.Slots, 1, 4096), between("group-size", r.GroupSize, 1, maxSlots), between("batch", r.Batch, 0, mostBatch),
		between("staleness", r.Staleness, 0, maxStale), between("latency", r.Latency, time.Millisecond, time.Minute), between("step", r.Step, 0, time.Hour), between("seconds", r.Seconds, 1, 3600),
	)
	if err != nil {
		return err
	}
	if r.Batch == 0 {
		played := 1.25 * r.Step.Seconds() / (meanLatency * r.Latency.Seconds()) * float64(r.Slots)
		r.Batch = wholeGroups(min(max(2*r.Slots, int(played)), mostBatch), r.GroupSize)
	}
	if r.Batch%r.GroupSize != 0 {
		return SettingError{"batch", r.Batch, fmt.Sprintf("must be a multiple of --group-size %d", r.GroupSize)}
	}
	return nil
}

const (
	// meanLatency is the mean of a log-normal distribution over its median when the 99th percentile is ten times
	// that: exp(σ²/2) with σ = ln 10/2.326, less what is cut off.
	meanLatency = 1.6
	// mostBatch keeps what a command of a step names far below what a server takes in one message.
	mostBatch = 1 << 15
)

// wholeGroups is the least number of trajectories of whole groups that is not below n.
func wholeGroups(n, size int) int { return (n + size - 1) / size * size }
