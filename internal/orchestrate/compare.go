package orchestrate

import (
	"context"
	"slices"
)

// Comparison is one run at several bounds on staleness.
type Comparison struct {
	// Turn, Tool and Episode are drawn seconds where nothing contends: of a turn's sampling, of a tool call
	// and of an episode with all it waits for.
	Turn, Tool, Episode Quantiles
	// Runs are by ascending staleness; the first is the synchronous one.
	Runs []Run
}

// Run is one simulated run beside the others.
type Run struct {
	Outcome
	// Speedup is the synchronous run's step time over this one's.
	Speedup float64 `json:"speedup_over_sync"`
}

// Compare simulates the run synchronously, one step off and with its own bound.
func Compare(ctx context.Context, c Config) (Comparison, error) {
	bounds := []int{0, 1, c.Staleness}
	slices.Sort(bounds)
	var out Comparison
	for _, bound := range slices.Compact(bounds) {
		c.Staleness = bound
		outcome, err := Simulate(ctx, c)
		if err != nil {
			return Comparison{}, err
		}
		out.Runs = append(out.Runs, Run{Outcome: outcome})
		out.Runs[len(out.Runs)-1].Speedup = out.Runs[0].StepSeconds / outcome.StepSeconds
	}
	out.draw(c)
	return out, nil
}

// draw sums up the latencies of the synchronous run's groups, which other bounds play too.
func (out *Comparison) draw(c Config) {
	var turns, tools, episodes []float64
	for group := range c.Steps * c.Batch / c.GroupSize {
		for member := range c.GroupSize {
			s := c.Preset.script(c.Seed, group, member)
			turns, tools = append(turns, s.decode...), append(tools, s.tool...)
			seconds := s.seconds()
			if c.Preset.EpisodeCap > 0 {
				seconds = min(seconds, c.Preset.EpisodeCap)
			}
			episodes = append(episodes, seconds)
		}
	}
	out.Turn, out.Tool, out.Episode = Summarize(turns), Summarize(tools), Summarize(episodes)
}

// SlotCost is what deciding costs at a number of slots.
type SlotCost struct {
	Slots  int `json:"slots"`
	Pools  int `json:"pools"`
	Groups int `json:"groups"` // trained
	// NSPerEvent is the machine's time over the events it took, CommandsPerGroup and ControlsPerGroup what
	// it commanded over the groups trained.
	NSPerEvent       float64 `json:"ns_per_event"`
	CommandsPerGroup float64 `json:"commands_per_group"`
	ControlsPerGroup float64 `json:"controls_per_group"`
	Cost
}

// poolSlots is how many slots one pool has in a sweep.
const poolSlots = 64

// Sweep simulates the run at each number of slots, in pools of 64, with two waves a step, and
// measures what deciding costs. The config needs a Clock.
func Sweep(ctx context.Context, c Config, slots []int) ([]SlotCost, error) {
	var out []SlotCost
	for _, n := range slots {
		c.Slots, c.Pools, c.Batch = n, max(n/poolSlots, 1), 2*n
		outcome, err := Simulate(ctx, c)
		if err != nil {
			return nil, err
		}
		cost, groups := outcome.Cost, outcome.TrainedGroups
		out = append(out, SlotCost{
			Slots: n, Pools: c.Pools, Groups: groups, Cost: cost,
			NSPerEvent:       share(float64(cost.Elapsed), float64(cost.Events)),
			CommandsPerGroup: share(float64(cost.Commands), float64(groups)),
			ControlsPerGroup: share(float64(cost.Controls), float64(groups)),
		})
	}
	return out, nil
}
