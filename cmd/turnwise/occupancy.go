package main

import (
	"context"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout/record"
)

// occupancy says how much of the last steps' time learner and rollouts had nothing to do.
type occupancy struct {
	// Steps is how many steps the shares are over.
	Steps int `json:"steps"`
	// LearnerIdle is the share of the time between commits in which the learner made no step.
	LearnerIdle float64 `json:"learner_idle"`
	// RolloutsIdle is the share of the slots of all pools, over that time, in which no episode was played of
	// those that the steps trained; nil when a group of them cannot be read.
	RolloutsIdle *float64 `json:"rollouts_idle"`
	// Bottleneck is the same in a sentence.
	Bottleneck string `json:"bottleneck"`
}

// gauge measures occupancy. It keeps what it has read of a step, which does not change.
type gauge struct {
	steps map[int]stepTimes
	// last is the occupancy up to step lastStep.
	last     *occupancy
	lastStep int
}

// stepTimes are the seconds of one step.
type stepTimes struct {
	manifest runfolder.Manifest
	// played is the time of all its episodes together, NaN when it is not known.
	played float64
}

// occupancy measures the last reinforcement steps; nil before there are two.
func (g *gauge) occupancy(ctx context.Context, r *recorded) (*occupancy, error) {
	if r.config == nil || r.committed == g.lastStep {
		return g.last, nil
	}
	from := max(r.committed-paceSteps, r.plan().WarmSteps+1)
	if r.committed <= from {
		return nil, nil
	}
	steps := map[int]stepTimes{}
	for step := from; step <= r.committed; step++ {
		times, known := g.steps[step]
		if !known {
			var err error
			if times, err = readTimes(ctx, r.folder, step); err != nil {
				return nil, ctx.Err() // a view goes on without; `ledger --check` says what is wrong
			}
		}
		steps[step] = times
	}
	g.steps, g.lastStep = steps, r.committed
	g.last = measure(steps, from, r.committed, r.slots(), r.plan().Staleness)
	return g.last, nil
}

// slots is how many episodes all pools keep in flight.
func (r *recorded) slots() int { return r.config.Run.Sampling.Slots * r.config.Run.Sampling.Pools }

func readTimes(ctx context.Context, folder *runfolder.Folder, step int) (stepTimes, error) {
	manifest, err := folder.Manifest(ctx, step)
	if err != nil {
		return stepTimes{}, err
	}
	times := stepTimes{manifest: manifest}
	for _, ref := range manifest.Batch {
		data, err := folder.Read(ctx, ref.Object.Key)
		if ctx.Err() != nil {
			return times, ctx.Err()
		}
		group, decodeErr := record.DecodeSegment(data)
		if err != nil || decodeErr != nil {
			times.played = math.NaN() // `ledger --check` says what is wrong with it
			continue
		}
		for _, t := range group.Trajectories {
			times.played += t.ElapsedSeconds
		}
	}
	return times, nil
}

// measure compares busy time with the time between the commits of the first and the last step.
func measure(steps map[int]stepTimes, from, to, slots, staleness int) *occupancy {
	span := steps[to].manifest.Committed.Sub(steps[from].manifest.Committed).Seconds()
	if span <= 0 {
		return nil
	}
	trained, played := 0.0, 0.0
	for step := from + 1; step <= to; step++ {
		s := steps[step].manifest.Seconds
		trained += s.Credit + s.Update + s.Commit
		played += steps[step].played
	}
	idle := func(share float64) float64 { return math.Min(1, math.Max(0, 1-share)) }
	out := &occupancy{Steps: to - from, LearnerIdle: idle(trained / span)}
	if !math.IsNaN(played) {
		share := idle(played / (span * float64(max(1, slots))))
		out.RolloutsIdle = &share
	}
	out.Bottleneck = out.sentence(staleness)
	return out
}

// sentence names who keeps the other one waiting.
func (o *occupancy) sentence(staleness int) string {
	whole := func(share float64) string { return fmt.Sprintf("%.0f%%", 100*share) }
	learner := "learner idle " + whole(o.LearnerIdle)
	if o.RolloutsIdle == nil {
		return learner
	}
	rollouts := "rollouts idle " + whole(*o.RolloutsIdle)
	const (
		balanced = 0.05 // neither waits much more than the other
		mostly   = 0.5  // idle for more than this, neither is what the run waits for
	)
	turns := ""
	if staleness == 0 {
		turns = "; at staleness 0 they take turns"
	}
	switch {
	case o.LearnerIdle > mostly && *o.RolloutsIdle > mostly:
		return learner + ", " + rollouts + ": neither is the bottleneck, what passes between them is: the steps are small beside orchestration and latency" + turns
	case math.Abs(o.LearnerIdle-*o.RolloutsIdle) < balanced:
		return learner + ", " + rollouts + ": neither is the bottleneck" + turns
	case o.LearnerIdle > *o.RolloutsIdle:
		return learner + ", " + rollouts + ": rollouts are the bottleneck" + turns
	}
	return rollouts + ", " + learner + ": the learner is the bottleneck" + turns
}
