package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/activity"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// report is the result of a whole run.
type report struct {
	Run           string                    `json:"run"`
	Seed          uint64                    `json:"seed"`
	Method        string                    `json:"method"`
	Steps         int                       `json:"steps"`
	SuccessBefore float64                   `json:"success_before"`
	SuccessAfter  float64                   `json:"success_after"`
	HeldOutTasks  int                       `json:"heldout_tasks"`
	ByEnvironment map[string]beforeAndAfter `json:"by_environment"`
	Seconds       reportSeconds             `json:"seconds"`
	Trajectories  trajectoryCounts          `json:"trajectories"`
	PeakRSSBytes  int64                     `json:"peak_rss_bytes"`
	WeightsDigest string                    `json:"weights_digest"`
	Folder        string                    `json:"folder"`

	environments  []string
	before, after runfolder.Evaluation
}

type beforeAndAfter struct {
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	Tasks  int     `json:"tasks"`
}

// reportSeconds are wall time by the folder's own clock, evaluations included.
type reportSeconds struct {
	WarmStart float64 `json:"warm_start"`
	RL        float64 `json:"rl"`
	Total     float64 `json:"total"`
}

type trajectoryCounts struct {
	Trained int `json:"trained"`
	Dropped int `json:"dropped"`
	// DroppedFor counts the dropped ones by the reason the method gave, or why their groups were given up.
	DroppedFor map[string]int `json:"dropped_for,omitempty"`
	Failed     int            `json:"failed"`
}

// newReport reads a finished run's folder.
func newReport(ctx context.Context, folder *runfolder.Folder, id string, resolved *configs.Resolved) (*report, error) {
	spec := activity.Spec(resolved.Run)
	r := &report{Run: id, Seed: resolved.Run.Seed, Method: resolved.Run.Method.Name, Steps: spec.TrainSteps,
		Folder: folder.Path, ByEnvironment: map[string]beforeAndAfter{}}
	var err error
	if r.before, err = folder.Evaluation(ctx, spec.WarmSteps); err != nil {
		return nil, fmt.Errorf("evaluation before training: %w", err)
	}
	if r.after, err = folder.Evaluation(ctx, spec.LastStep()); err != nil {
		return nil, fmt.Errorf("evaluation after training: %w", err)
	}
	r.SuccessBefore, r.SuccessAfter, r.HeldOutTasks = r.before.Success, r.after.Success, r.after.Tasks
	for i, score := range r.after.ByEnvironment {
		r.environments = append(r.environments, score.Environment)
		r.ByEnvironment[score.Environment] = beforeAndAfter{r.before.ByEnvironment[i].Success, score.Success, score.Tasks}
	}
	return r, r.count(ctx, folder, spec)
}

// count goes through the manifests.
func (r *report) count(ctx context.Context, folder *runfolder.Folder, spec runstate.Spec) error {
	r.Trajectories.DroppedFor = map[string]int{}
	var first, warm time.Time
	for step := 0; step <= spec.LastStep(); step++ {
		manifest, err := folder.Manifest(ctx, step)
		if err != nil {
			return err
		}
		if step == 0 {
			first = manifest.Committed
		}
		if step == spec.WarmSteps {
			warm = manifest.Committed
		}
		for _, row := range manifest.Ledger {
			switch row.State {
			case stateTrained:
				r.Trajectories.Trained++
			case stateFailed:
				r.Trajectories.Failed++
			default:
				r.Trajectories.Dropped++
				r.Trajectories.DroppedFor[row.Reason]++
			}
		}
		for _, group := range manifest.Dropped {
			class, _, _ := strings.Cut(group.Reason, ":") // "stale: 2 versions behind" counts as stale
			r.Trajectories.Dropped += spec.GroupSize
			r.Trajectories.DroppedFor[class] += spec.GroupSize
		}
		r.WeightsDigest = manifest.WeightsDigest
	}
	r.Seconds = reportSeconds{WarmStart: warm.Sub(first).Seconds(), RL: r.after.Finished.Sub(warm).Seconds(), Total: r.after.Finished.Sub(first).Seconds()}
	return nil
}

// report prints how the run went: JSON for a program, or what was learned and the final table.
func (a *app) report(ctx context.Context, folder *runfolder.Folder, id string, resolved *configs.Resolved, h *host) error {
	r, err := newReport(ctx, folder, id, resolved)
	if err != nil {
		return err
	}
	r.PeakRSSBytes = peakRSS(os.Getpid())
	if h.endpoint.PID != 0 && h.endpoint.PID != os.Getpid() {
		r.PeakRSSBytes += peakRSS(h.endpoint.PID)
	}
	if a.json() {
		return a.printJSON(r)
	}
	shown := r.instructive()
	a.printEpisode("before", r.before.Transcripts, shown)
	a.printEpisode("after", r.after.Transcripts, shown)
	a.printTable(r)
	a.print("\nrun folder   %s\n", r.Folder)
	if h.endpoint.UIAddress != "" {
		a.print("web UI       %s while `turnwise dev` runs\n", h.endpoint.UIAddress)
	}
	self := commandName()
	a.print("\nnext\n  %s traj ls %s --where 'outcome<1'\n  %s methods show %s\n  %s quickstart --new method=grpo\n", self, id, self, r.Method, self)
	return nil
}

// commandName is how this program is called again: by its name, or through the go command when that
// built it into a temporary folder.
func commandName() string {
	if path, err := os.Executable(); err == nil && strings.Contains(path, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/turnwise"
	}
	return "turnwise"
}

// instructive is the first recorded held-out task that was answered wrongly before training and
// rightly after, else the first one.
func (r *report) instructive() int {
	for i := range min(len(r.before.Transcripts), len(r.after.Transcripts)) {
		if !r.before.Transcripts[i].Success && r.after.Transcripts[i].Success {
			return i
		}
	}
	return 0
}

// printEpisode shows one held-out episode turn by turn.
func (a *app) printEpisode(when string, transcripts []runfolder.Transcript, shown int) {
	if shown >= len(transcripts) {
		return
	}
	t := transcripts[shown]
	verdict := "wrong"
	if t.Success {
		verdict = "right"
	}
	a.print("\n%s training, held-out task %s\n  task    %s\n", when, t.Task, strings.TrimSpace(t.Prompt))
	for i, turn := range t.Turns {
		a.print("  turn %d  %s\n", i+1, strings.TrimSpace(turn.Policy))
		if turn.Observation != "" {
			a.print("          → %s\n", strings.TrimSpace(turn.Observation))
		}
	}
	a.print("  %s (stopped by %s; the answer is %s)\n", verdict, t.Stop, t.Gold)
}

// printTable compares before and after.
func (a *app) printTable(r *report) {
	a.print("\n%-14s %8s %8s %15s %7s\n", "held-out", "before", "after", "95% interval", "tasks")
	row := func(name string, before, after float64, tasks int) {
		low, high := interval(after, tasks)
		a.print("%-14s %7.1f%% %7.1f%%  %5.1f%% – %5.1f%% %7d\n", name, 100*before, 100*after, 100*low, 100*high, tasks)
	}
	for _, name := range r.environments {
		score := r.ByEnvironment[name]
		row(name, score.Before, score.After, score.Tasks)
	}
	row("all", r.SuccessBefore, r.SuccessAfter, r.HeldOutTasks)
	a.print("\nwarm start %.0f s, reinforcement learning %.0f s; %d trajectories trained, %d dropped",
		r.Seconds.WarmStart, r.Seconds.RL, r.Trajectories.Trained, r.Trajectories.Dropped)
	if r.Trajectories.Dropped > 0 {
		var reasons []string
		for _, reason := range slices.Sorted(maps.Keys(r.Trajectories.DroppedFor)) {
			reasons = append(reasons, fmt.Sprintf("%s %d", reason, r.Trajectories.DroppedFor[reason]))
		}
		a.print(" (%s)", strings.Join(reasons, ", "))
	}
	if r.PeakRSSBytes > 0 { // known only to the process that carries the run
		a.print("; peak memory %.2f GiB", float64(r.PeakRSSBytes)/(1<<30))
	}
	a.print("\n")
}

// interval is the central 95 % of Jeffreys' posterior of a success rate measured on n tasks: the
// Beta(k + ½, n − k + ½) distribution of k successes (Brown, Cai and DasGupta, 2001). Without tasks it
// is the prior's.
func interval(rate float64, n int) (low, high float64) {
	successes := math.Round(rate * float64(n))
	posterior := distuv.Beta{Alpha: successes + 0.5, Beta: float64(n) - successes + 0.5}
	return posterior.Quantile(0.025), posterior.Quantile(0.975)
}

// peakRSS is a process's largest resident memory in bytes; 0 where the system does not tell.
func peakRSS(pid int) int64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kilobytes, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}
