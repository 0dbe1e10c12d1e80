package bench

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/turnwise-rl/turnwise/internal/orchestrate"
)

// Orchestrate simulates a training run in virtual time, synchronously, one step off and with a bound of
// its own on staleness.
type Orchestrate struct {
	// Preset names the kind of work: one of [orchestrate.Presets].
	Preset    string
	Staleness int
	Slots     int
	Pools     int
	Steps     int
	// Batch is the trajectories of a step; 0 stands for two waves of slots, in whole groups.
	Batch     int
	GroupSize int
	// Contention is α: with every slot decoding, a sequence takes 1 + α times as long as alone.
	Contention float64
	// Train and Sync are the seconds of a training step and of publishing its version; a negative Train
	// stands for the preset's.
	Train, Sync float64
	Seed        uint64
	// Sweep lists numbers of slots at which the cost of deciding is measured besides; nil measures none.
	Sweep []int
}

// OrchestrateResult is what was simulated. Its seconds are virtual, except for those of Sweep.
type OrchestrateResult struct {
	Preset       string  `json:"preset"`
	Staleness    int     `json:"staleness"`
	Slots        int     `json:"slots"`
	Pools        int     `json:"pools"`
	Steps        int     `json:"steps"`
	Batch        int     `json:"batch"`
	GroupSize    int     `json:"group_size"`
	Contention   float64 `json:"contention"`
	TrainSeconds float64 `json:"train_seconds"`
	SyncSeconds  float64 `json:"sync_seconds"`
	Seed         uint64  `json:"seed"`
	// SpeedupOverSync and Occupancy are those of the run with the bound asked for.
	SpeedupOverSync float64 `json:"speedup_over_sync"`
	Occupancy       float64 `json:"occupancy"`
	// LatencySeconds are the drawn ones of an episode where nothing contends, TurnSeconds of one turn's
	// sampling, ToolSeconds of a tool call.
	LatencySeconds orchestrate.Quantiles `json:"latency_seconds"`
	TurnSeconds    orchestrate.Quantiles `json:"turn_seconds"`
	ToolSeconds    orchestrate.Quantiles `json:"tool_seconds"`
	// Runs are the synchronous one, one step off and the one asked for, by ascending staleness.
	Runs []orchestrate.Run `json:"runs"`
	// Sweep is the measured cost of deciding, in real time.
	Sweep []orchestrate.SlotCost `json:"sweep,omitempty"`
}

// SweepSlots are the numbers of slots of a sweep.
var SweepSlots = []int{64, 128, 256, 512, 1024, 2048, 4096}

// Bounds of a simulation: far above any fleet, low enough that it ends.
const (
	maxSlots    = 1 << 16
	maxSimSteps = 100_000
	maxStale    = 1 << 10
	maxSeconds  = 1e6
)

func (o Orchestrate) config() (orchestrate.Config, error) {
	preset, ok := orchestrate.FindPreset(o.Preset)
	if !ok {
		return orchestrate.Config{}, SettingError{"preset", o.Preset, "the presets are: " + orchestrate.PresetNames()}
	}
	err := firstError(
		between("staleness", o.Staleness, 0, maxStale), between("slots", o.Slots, 1, maxSlots),
		between("pools", o.Pools, 1, o.Slots), between("steps", o.Steps, 1, maxSimSteps),
		between("group-size", o.GroupSize, 1, maxSlots), between("batch", o.Batch, 0, maxSlots*maxStale),
		finite("contention", o.Contention, 0, 1000), finite("train", o.Train, -1, maxSeconds), finite("sync", o.Sync, 0, maxSeconds),
	)
	if err != nil {
		return orchestrate.Config{}, err
	}
	if o.Slots%o.Pools != 0 {
		return orchestrate.Config{}, SettingError{"slots", o.Slots, fmt.Sprintf("must be a multiple of --pools %d", o.Pools)}
	}
	if o.Batch == 0 {
		o.Batch = wholeGroups(2*o.Slots, o.GroupSize)
	}
	if o.Batch%o.GroupSize != 0 {
		return orchestrate.Config{}, SettingError{"batch", o.Batch, fmt.Sprintf("must be a multiple of --group-size %d", o.GroupSize)}
	}
	if o.Train >= 0 {
		preset.Train = o.Train
	}
	return orchestrate.Config{Preset: preset, Staleness: o.Staleness, Slots: o.Slots, Pools: o.Pools, Steps: o.Steps, Batch: o.Batch,
		GroupSize: o.GroupSize, Contention: o.Contention, Sync: o.Sync, Seed: o.Seed}, nil
}

// finite reports a number outside [low, high], or none at all.
func finite(setting string, value, low, high float64) error {
	if math.IsNaN(value) {
		return SettingError{setting, value, fmt.Sprintf("must be between %v and %v", low, high)}
	}
	return between(setting, value, low, high)
}

// Run simulates and, when asked to, measures what deciding costs.
func (o Orchestrate) Run(ctx context.Context) (OrchestrateResult, error) {
	c, err := o.config()
	if err != nil {
		return OrchestrateResult{}, err
	}
	comparison, err := orchestrate.Compare(ctx, c)
	if err != nil {
		return OrchestrateResult{}, err
	}
	result := OrchestrateResult{
		Preset: c.Preset.Name, Staleness: c.Staleness, Slots: c.Slots, Pools: c.Pools, Steps: c.Steps, Batch: c.Batch,
		GroupSize: c.GroupSize, Contention: c.Contention, TrainSeconds: c.Preset.Train, SyncSeconds: c.Sync, Seed: c.Seed,
		LatencySeconds: comparison.Episode, TurnSeconds: comparison.Turn, ToolSeconds: comparison.Tool, Runs: comparison.Runs,
	}
	for _, run := range comparison.Runs {
		if run.Staleness == c.Staleness {
			result.SpeedupOverSync, result.Occupancy = run.Speedup, run.Occupancy
		}
	}
	if len(o.Sweep) == 0 {
		return result, nil
	}
	began := time.Now()
	c.Clock = func() time.Duration { return time.Since(began) }
	result.Sweep, err = orchestrate.Sweep(ctx, c, o.Sweep)
	return result, err
}
