package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/turnwise-rl/turnwise/internal/bench"
	"github.com/turnwise-rl/turnwise/internal/bench/overhead"
	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/internal/orchestrate"
)

// measureOrchestration measures through an embedded server of its own, on a data folder that goes with it.
func (a *app) measureOrchestration(ctx context.Context, real bench.Real) error {
	if err := real.Check(); err != nil {
		return err
	}
	median := real.Latency.Seconds()
	b := overhead.Bench{Slots: real.Slots, Batch: real.Batch, GroupSize: real.GroupSize, Staleness: real.Staleness, Step: real.Step,
		Latency: orchestrate.Latency{P50: median, P99: 10 * median, Cap: 15 * median}, For: time.Duration(real.Seconds) * time.Second}
	dir, err := os.MkdirTemp("", "turnwise-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	inside := *a
	inside.dataDir = dir
	log, closeLog, err := inside.openLog("bench.log")
	if err != nil {
		return err
	}
	defer closeLog()
	child, err := connect.Spawn(ctx, connect.SpawnConfig{DataDir: dir, NoUI: true, Logger: warnOnly(log)})
	if err != nil {
		return err
	}
	defer child.Stop()
	c, endpoint, err := connect.DialEmbedded(ctx, connect.Options{DataDir: dir, Logger: warnOnly(log)})
	if err != nil {
		return err
	}
	defer c.Close()
	b.Client, b.Server, b.Activities = c, endpoint.PID, inside.newActivities(c, log)
	posted, err := inside.newAgent(c, lease.Capacity{Learner: 1, Rollout: 1, Evaluate: 1}, b.Activities.Processor, b.Activities.LeaseEnded, log)
	if err != nil {
		return err
	}
	posted.start(ctx)
	defer posted.stop()
	b.Agent, b.Activities.Leases = posted.name, posted
	a.note("measuring for %s after the first step, in %s", b.For, dir)
	result, err := b.Run(ctx)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(result)
	}
	a.printOverhead(result)
	return nil
}

func (a *app) printOverhead(r overhead.Result) {
	list := newTable("", ">", "")
	milli := func(seconds float64) string { return decimal(1000*seconds, 1) + " ms" }
	for _, row := range [][]string{
		{"trajectories", decimal(r.TrajectoriesPerSecond, 1) + " /s", fmt.Sprintf("%s of the ideal %s /s", percent(r.IdealShare), decimal(r.IdealPerSecond, 1))},
		{"latency", milli(r.MeanLatency), fmt.Sprintf("mean; p50 %s, p99 %s", milli(r.LatencySeconds.P50), milli(r.LatencySeconds.P99))},
		{"slot overhead", milli(r.SlotOverheadSeconds), "an episode, until its turn is durable and the next begins; " + percent(r.StarvedShare) + " of slot time had nothing to play"},
		{"processor", decimal(r.Cores.Total, 2) + " cores", fmt.Sprintf("server %s, workers %s", decimal(r.Cores.Server, 2), decimal(r.Cores.Workers, 2))},
		{"capacity", decimal(r.CapacityPerCore, 0) + " /s", "trajectories a core"},
		{"step", milli(r.StepSeconds), fmt.Sprintf("median of %d; the learner's part is %s", r.Steps, milli(r.LearnerSeconds))},
		{"orchestration", percent(r.OrchestrationShare), fmt.Sprintf("of a step: %s, %s to the learner and %s from its commit to the loop", milli(r.OrchestrationSeconds), milli(r.DecideSeconds), milli(r.PublishSeconds))},
		{"messages", decimal(r.SignalsPerGroup, 2), "signals a group, " + decimal(r.ControlsPerGroup, 2) + " control objects"},
	} {
		list.add(row...)
	}
	list.write(a.out)
	a.note("%s, steps of %s trajectories in groups of %d, staleness %d; real time, episodes that sleep",
		plural(r.Slots, "slot"), thousands(r.Batch), r.GroupSize, r.Staleness)
}
