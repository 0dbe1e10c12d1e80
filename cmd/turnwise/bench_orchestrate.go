package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/bench"
	"github.com/turnwise-rl/turnwise/internal/orchestrate"
)

func benchOrchestrate(a *app) *cobra.Command {
	var o bench.Orchestrate
	var train, sync time.Duration
	var sweep, through bool
	var real bench.Real
	var cmd *cobra.Command
	cmd = measureCommand("orchestrate", "Simulate what asynchrony buys",
		"Simulate a training run in virtual time, synchronously, one step off and with a bound of its own on staleness.\n"+
			"What decides is what decides in a real run; turns and tools take truncated log-normal times, and slots that\n"+
			"sample contend. The ratios mean something, the seconds do not.\n\n"+
			"With --real, measure orchestration itself: a run goes through an embedded Temporal server, with an engine that\n"+
			"sleeps instead of computing and a learner that commits without training.",
		"  turnwise bench orchestrate\n  turnwise bench orchestrate --preset swe --staleness 2 --slots 256 --contention 3 -o json\n"+
			"  turnwise bench orchestrate --sweep\n  turnwise bench orchestrate --real --slots 64 --latency 200ms --seconds 20",
		func(ctx context.Context) error {
			if err := oneMode(cmd, through); err != nil {
				return err
			}
			if through {
				real.Slots, real.Batch, real.GroupSize, real.Staleness = o.Slots, o.Batch, o.GroupSize, o.Staleness
				return a.measureOrchestration(ctx, real)
			}
			o.Train, o.Sync = -1, sync.Seconds()
			if train >= 0 {
				o.Train = train.Seconds()
			}
			if sweep {
				o.Sweep = bench.SweepSlots
			}
			result, err := o.Run(ctx)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(result)
			}
			a.printOrchestrated(result)
			return nil
		})
	flags := cmd.Flags()
	flags.StringVar(&o.Preset, "preset", "math-long", "the kind of work: "+orchestrate.PresetNames())
	flags.IntVar(&o.Staleness, "staleness", 4, "versions that a trained token may be behind; compared with 0 and 1")
	flags.IntVar(&o.Slots, "slots", 64, "episodes played at once over all pools")
	flags.IntVar(&o.Pools, "pools", 1, "rollout pools, which share the slots evenly and contend each for itself")
	flags.IntVar(&o.Steps, "steps", 80, "training steps")
	flags.IntVar(&o.Batch, "batch", 0, "trajectories of a step (default: two for each slot; with --real, what keeps the learner busy four fifths of the time, if that is more)")
	flags.IntVar(&o.GroupSize, "group-size", 8, "trajectories of a group")
	flags.Float64Var(&o.Contention, "contention", 1, "a sequence takes 1 + this times as long when every slot samples")
	flags.DurationVar(&train, "train", -1, "how long a training step takes (default: the preset's)")
	flags.DurationVar(&sync, "sync", 2*time.Second, "how long publishing its version takes")
	flags.Uint64Var(&o.Seed, "seed", 1, "where the latencies come from")
	flags.BoolVar(&sweep, "sweep", false, "also measure what deciding costs from 64 to 4,096 slots")
	flags.BoolVar(&through, "real", false, "measure through a real server instead, in real time")
	flags.DurationVar(&real.Latency, "latency", 200*time.Millisecond, "with --real, the median of an episode, of which p99 is ten times as long")
	flags.DurationVar(&real.Step, "step", 2*time.Second, "with --real, how long a step takes the learner")
	flags.IntVar(&real.Seconds, "seconds", 20, "with --real, how long is measured")
	return cmd
}

// oneMode refuses flags that the other mode has.
func oneMode(cmd *cobra.Command, through bool) error {
	others, mode := []string{"latency", "seconds", "step"}, "needs"
	if through {
		others, mode = []string{"preset", "pools", "steps", "contention", "train", "sync", "seed", "sweep"}, "makes no sense with"
	}
	for _, name := range others {
		if cmd.Flags().Changed(name) {
			return usagef("--%s %s --real", name, mode)
		}
	}
	return nil
}

func (a *app) printOrchestrated(r bench.OrchestrateResult) {
	list := newTable("", ">STALENESS", ">STEP", ">SPEED-UP", ">OCCUPANCY", ">SAMPLING", ">LEARNER IDLE", ">DROPPED", ">MEAN", ">MAX")
	for _, run := range r.Runs {
		list.add(modeName(run.Staleness), strconv.Itoa(run.Staleness), decimal(run.StepSeconds, 1)+" s", decimal(run.Speedup, 2)+"×",
			percent(run.Occupancy), percent(run.DecodingShare), percent(run.LearnerIdleShare), strconv.Itoa(run.DroppedGroups),
			decimal(run.MeanStaleness, 2), strconv.Itoa(run.MaxStaleness))
	}
	list.write(a.out)
	a.print("\n")
	drawn := newTable("DRAWN SECONDS", ">P50", ">P99")
	for _, row := range []struct {
		name string
		orchestrate.Quantiles
	}{{"sampling a turn", r.TurnSeconds}, {"a tool call", r.ToolSeconds}, {"an episode", r.LatencySeconds}} {
		if row.P99 > 0 {
			drawn.add(row.name, decimal(row.P50, 1), decimal(row.P99, 1))
		}
	}
	drawn.write(a.out)
	if len(r.Sweep) > 0 {
		a.print("\n")
		cost := newTable(">SLOTS", ">POOLS", ">EVENTS", ">µS AN EVENT", ">COMMANDS A GROUP", ">CONTROLS A GROUP", ">STATE KB", ">CONTROL KB")
		for _, s := range r.Sweep {
			cost.add(thousands(s.Slots), strconv.Itoa(s.Pools), thousands(s.Events), decimal(s.NSPerEvent/1000, 1), decimal(s.CommandsPerGroup, 2),
				decimal(s.ControlsPerGroup, 2), decimal(float64(s.StateBytes)/1000, 1), decimal(float64(s.ControlBytes)/1000, 1))
		}
		cost.write(a.out)
	}
	a.note("%s: %s of %s trajectories in groups of %d, %s in %s, contention %g, train %s + sync %s, seed %d; virtual time",
		r.Preset, plural(r.Steps, "step"), thousands(r.Batch), r.GroupSize, plural(r.Slots, "slot"), plural(r.Pools, "pool"),
		r.Contention, seconds(r.TrainSeconds), seconds(r.SyncSeconds), r.Seed)
	a.note("only the ratios come from publications: p99/p50 and some caps; see docs/asynchrony.md")
}

// modeName is what people call a bound on staleness.
func modeName(staleness int) string {
	switch staleness {
	case 0:
		return "synchronous"
	case 1:
		return "one step off"
	}
	return "bounded"
}

// decimal prints a value with so many digits behind the point.
func decimal(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }

// seconds prints seconds as a duration.
func seconds(s float64) string { return time.Duration(s * float64(time.Second)).String() }
