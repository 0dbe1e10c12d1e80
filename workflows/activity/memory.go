package activity

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/workflows"
)

// spares names, by what memory is for, the settings that make it less.
type spares map[device.Purpose]string

const smallerPolicy = "policy.lora, a smaller policy or a larger device"

var (
	learnerSpares = spares{
		device.ForWeights: smallerPolicy, device.ForGradients: smallerPolicy, device.ForOptimizer: smallerPolicy,
		device.ForActivations: "a smaller training.micro_batch_tokens or policy.recompute", device.ForWorkspace: "a smaller training.micro_batch_tokens",
		device.ForCache: "a smaller training.micro_batch_tokens",
	}
	samplerSpares = spares{
		device.ForWeights: "a smaller policy or a larger device", device.ForGradients: "a smaller policy or a larger device",
		device.ForOptimizer: "a smaller policy or a larger device", device.ForActivations: "fewer sampling.slots",
		device.ForCache: "a smaller sampling.cache_bytes or fewer sampling.slots", device.ForWorkspace: "fewer sampling.slots",
	}
)

// advice is what to set: for what had no room, and for what holds the most of it.
func (s spares) advice(full *device.OutOfMemory) string {
	advice := s[full.For]
	if len(full.Held) > 0 {
		if more := s[full.Held[0].For]; more != "" && more != advice {
			advice += "; the " + full.Held[0].For.String() + " take less with " + more
		}
	}
	return advice
}

// memoryPause is how long work waits for memory that others hold before it tries again, and sayEvery how many tries
// there are from one line in the run's events to the next.
const (
	memoryPause = 30 * time.Second
	sayEvery    = 20
)

// outOfMemory is the error of a job whose device is full. When others hold what it lacks, it is tried again after a
// while, which the run's events say: they may give it back. Else nothing changes unless somebody changes a setting.
func (a *Activities) outOfMemory(ctx context.Context, j job, full *device.OutOfMemory) error {
	message := fmt.Sprintf("%v: what helps is %s", full, j.spares.advice(full))
	if othersHold(full) < full.Wanted {
		return temporal.NewNonRetryableApplicationError(message, workflows.OutOfMemory, nil)
	}
	message += fmt.Sprintf(", or device.%s set to what it takes, so that it is placed where that is free; tried again every %s until others give memory back", j.asks(), memoryPause)
	attempt := 1
	if activity.IsActivity(ctx) {
		attempt = int(activity.GetInfo(ctx).Attempt)
	}
	if attempt%sayEvery == 1 {
		a.tell(ctx, j.run, message)
	}
	return temporal.NewApplicationErrorWithOptions(message, workflows.OutOfMemory, temporal.ApplicationErrorOptions{NextRetryDelay: memoryPause})
}

// asks is the key of the config's section device that says how much memory the job asks for.
func (j job) asks() string {
	if j.spares[device.ForCache] == samplerSpares[device.ForCache] {
		return "rollout_memory"
	}
	return "learner_memory"
}

// nobodys is memory that belongs to no allocation: what the driver takes for itself and for the context of each process.
const nobodys = 1 << 30

// othersHold is what programs and processes other than this one hold of a device's memory at least; 0 when nobody
// knows.
func othersHold(full *device.OutOfMemory) int64 {
	if full.Total == 0 {
		return 0
	}
	others := full.Total - full.Free - full.Cached - nobodys
	for _, holding := range full.Held {
		others -= holding.Bytes
	}
	return max(0, others)
}

// tell writes a line into a run's events, if that is possible: nothing depends on it.
func (a *Activities) tell(ctx context.Context, run, text string) {
	folder, err := a.folder(run)
	if err == nil {
		err = folder.AppendEvent(ctx, runfolder.Event{Time: time.Now().UTC(), Text: strings.ReplaceAll(text, "\n", " ")})
	}
	if err != nil {
		a.Log.Warn("an event of the run could not be written", "run", run, "error", err)
	}
}
