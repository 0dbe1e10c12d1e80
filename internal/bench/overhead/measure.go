package overhead

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/turnwise-rl/turnwise/internal/orchestrate"
)

// Result is what was measured.
type Result struct {
	Slots        int `json:"slots"`
	GroupSize    int `json:"group_size"`
	Batch        int `json:"batch"`
	Staleness    int `json:"staleness"`
	Trajectories int `json:"trajectories"`
	// Seconds is how long was measured; LatencySeconds are the latencies of its episodes, as drawn.
	Seconds        float64               `json:"seconds"`
	LatencySeconds orchestrate.Quantiles `json:"latency_seconds"`
	MeanLatency    float64               `json:"mean_latency_seconds"`
	// TrajectoriesPerSecond went through; IdealPerSecond is slots over the mean latency.
	TrajectoriesPerSecond float64 `json:"trajectories_per_second"`
	IdealPerSecond        float64 `json:"ideal_per_second"`
	IdealShare            float64 `json:"ideal_share"`
	// StarvedShare is the share of slot time in which there was no member to play, SlotOverheadSeconds what
	// else a slot is without a turn, for each episode: until its turn is durable and the next has begun.
	SlotOverheadSeconds float64 `json:"slot_overhead_seconds"`
	StarvedShare        float64 `json:"starved_share"`
	// Cores is CPU time over time: of the server, of this process with the workers in it, and of both.
	Cores Cores `json:"cores"`
	// CapacityPerCore is trajectories per second of CPU time.
	CapacityPerCore float64 `json:"trajectories_per_core_second"`
	Steps           int     `json:"steps"`
	// LearnerSeconds is what a step takes the learner, as set.
	LearnerSeconds float64 `json:"learner_seconds"`
	// StepSeconds is the median time from one version at the loop to the next one, DecideSeconds from the
	// last turn of a batch (or the commit of the step before) to the learner, PublishSeconds from the commit of
	// a step to the loop, OrchestrationSeconds the sum of the two and OrchestrationShare that of a step.
	StepSeconds          float64 `json:"step_seconds"`
	DecideSeconds        float64 `json:"decide_seconds"`
	PublishSeconds       float64 `json:"publish_seconds"`
	OrchestrationSeconds float64 `json:"orchestration_seconds"`
	OrchestrationShare   float64 `json:"orchestration_share"`
	// SignalsPerGroup and ControlsPerGroup say how much was coalesced.
	SignalsPerGroup  float64 `json:"signals_per_group"`
	ControlsPerGroup float64 `json:"controls_per_group"`
}

// Cores is CPU time over time.
type Cores struct {
	Server  float64 `json:"server"`
	Workers float64 `json:"workers"`
	Total   float64 `json:"total"`
}

// measure waits out the warm-up and then watches the run.
func (p *parts) measure(ctx context.Context) (Result, error) {
	if err := p.warmUp(ctx); err != nil {
		return Result{}, err
	}
	from := time.Now()
	before := p.marks.sofar(from)
	server, workers, err := p.used()
	if err != nil {
		return Result{}, err
	}
	if err := pause(ctx, p.bench.For); err != nil {
		return Result{}, err
	}
	to := time.Now()
	after := p.marks.sofar(to)
	serverAfter, workersAfter, err := p.used()
	if err != nil {
		return Result{}, err
	}
	latencies, steps := p.marks.between(before, from, to)
	latencies = latencies[:min(after.episodes-before.episodes, len(latencies))]
	if len(latencies) == 0 || len(steps) == 0 {
		return Result{}, fmt.Errorf("%d trajectories and %d steps in %s: measure for longer, or with a smaller --latency, --step or --batch",
			len(latencies), len(steps), p.bench.For)
	}
	seconds := to.Sub(from).Seconds()
	result := p.bench.rates(latencies, seconds)
	result.Cores = Cores{Server: (serverAfter - server).Seconds() / seconds, Workers: (workersAfter - workers).Seconds() / seconds}
	result.Cores.Total = result.Cores.Server + result.Cores.Workers
	result.CapacityPerCore = result.TrajectoriesPerSecond / result.Cores.Total
	available, idle := seconds*float64(p.bench.Slots), (after.idle - before.idle).Seconds()
	result.StarvedShare = idle / available
	result.SlotOverheadSeconds = (available - idle - (after.sampling - before.sampling).Seconds()) / float64(len(latencies))
	groups := float64(len(latencies)) / float64(p.bench.GroupSize)
	result.SignalsPerGroup = float64(after.signals-before.signals) / groups
	result.ControlsPerGroup = float64(after.controls-before.controls) / groups
	result.steps(steps)
	return result, nil
}

// warmUp waits until the run has made a step and a second more: Temporal's caches are full and connections open.
func (p *parts) warmUp(ctx context.Context) error {
	longest := time.Minute + 4*p.bench.Step
	for began := time.Now(); !p.marks.stepped(); {
		if time.Since(began) > longest {
			return fmt.Errorf("the run has made no step in %s: measure with a smaller --latency or --batch; its log says more", longest)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return pause(ctx, time.Second)
}

// rates compares what went through with what the slots could carry.
func (b Bench) rates(latencies []float64, seconds float64) Result {
	sum := 0.0
	for _, latency := range latencies {
		sum += latency
	}
	n := float64(len(latencies))
	r := Result{Slots: b.Slots, GroupSize: b.GroupSize, Batch: b.Batch, Staleness: b.Staleness, Trajectories: len(latencies), Seconds: seconds,
		LearnerSeconds: b.Step.Seconds(), MeanLatency: sum / n, LatencySeconds: orchestrate.Summarize(latencies), TrajectoriesPerSecond: n / seconds}
	r.IdealPerSecond = float64(b.Slots) / r.MeanLatency
	r.IdealShare = r.TrajectoriesPerSecond / r.IdealPerSecond
	return r
}

// steps sums up pairs of steps that follow each other.
func (r *Result) steps(pairs [][2]step) {
	var whole, decide, publish []float64
	for _, pair := range pairs {
		before, s := pair[0], pair[1]
		whole = append(whole, s.seen.Sub(before.seen).Seconds())
		free := before.ends
		if s.ready.After(free) {
			free = s.ready
		}
		decide = append(decide, s.begins.Sub(free).Seconds())
		publish = append(publish, s.seen.Sub(s.ends).Seconds())
	}
	r.Steps = len(pairs)
	r.StepSeconds, r.DecideSeconds, r.PublishSeconds = median(whole), median(decide), median(publish)
	r.OrchestrationSeconds = r.DecideSeconds + r.PublishSeconds
	r.OrchestrationShare = r.OrchestrationSeconds / r.StepSeconds
}

// median of at least one value; of an even number the upper of the middle two. It sorts them.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// used is the CPU time that the server and this process have used so far.
func (p *parts) used() (server, workers time.Duration, err error) {
	server, err = cpuTime(p.bench.Server)
	if err != nil {
		return 0, 0, fmt.Errorf("CPU time of the server, process %d: %w", p.bench.Server, err)
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, 0, err
	}
	return server, time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// tick is the unit of times in /proc: USER_HZ, which is 100 on every architecture that Linux has today.
const tick = 10 * time.Millisecond

// cpuTime is what a process has used so far, by /proc.
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(data))
}

// parseStat reads user and system time from a line of /proc/PID/stat. The second field, the command in
// parentheses, may hold anything; utime and stime are the 14th and 15th.
func parseStat(line string) (time.Duration, error) {
	end := strings.LastIndexByte(line, ')')
	fields := strings.Fields(line[end+1:])
	if end < 0 || len(fields) < 13 {
		return 0, errors.New("not the form of /proc/PID/stat")
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	if err != nil {
		return 0, err
	}
	return time.Duration(user+system) * tick, nil
}
