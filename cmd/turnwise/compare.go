package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
)

func compareVerb(a *app) *cobra.Command {
	var metrics []string
	var align string
	cmd := &cobra.Command{
		Use:   "compare RUN…",
		Short: "Show the curves of several runs side by side",
		Long: "Show the curves of several runs side by side: success on held-out tasks at each evaluation, or with --metric what\n" +
			"metrics.jsonl says of the training steps:\n\n" + compareMetricHelp(),
		Example: "  turnwise compare grpo-0c41 matchtir-77ab\n" +
			"  turnwise compare grpo matchtir --metric reward --metric kl --align share",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("compare takes runs; `turnwise get runs` lists them")
			}
			if align != alignStep && align != alignShare {
				return usagef("--align %s: know step and share", align)
			}
			for _, name := range metrics {
				if _, err := findMetric(name); err != nil {
					return err
				}
			}
			runs, err := a.comparedRuns(cmd.Context(), args)
			if err != nil {
				return err
			}
			for i := range runs {
				if err := runs[i].addCurves(metrics); err != nil {
					return err
				}
			}
			if a.json() {
				return a.printJSON(struct {
					Runs []*comparedRun `json:"runs"`
				}{runs})
			}
			a.printComparison(runs, align)
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&metrics, "metric", nil, "curve to show in place of held-out success; may be given several times")
	cmd.Flags().StringVar(&align, "align", alignStep, `what stands on a row together: the same "step", or the same "share" of the run's plan`)
	_ = cmd.RegisterFlagCompletionFunc("metric", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, m := range compareMetrics {
			names = append(names, m.name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// What stands on one row of a comparison.
const (
	alignStep  = "step"
	alignShare = "share"
)

// compareMetrics are the numbers of a training step that can be compared.
var compareMetrics = []struct {
	name, doc string
	value     func(runfolder.MetricsLine) float64
	share     bool // a number from 0 to 1
}{
	{"reward", "mean reward of the trajectories", func(l runfolder.MetricsLine) float64 { return l.Reward }, false},
	{"success", "share of the trajectories that solve their task", func(l runfolder.MetricsLine) float64 { return l.Success }, true},
	{"turns", "mean number of turns", func(l runfolder.MetricsLine) float64 { return l.Turns }, false},
	{"loss", "the loss", func(l runfolder.MetricsLine) float64 { return l.Loss }, false},
	{"entropy", "entropy of the policy, nats per token", func(l runfolder.MetricsLine) float64 { return l.Entropy }, false},
	{"kl", "divergence of the policy from the one that sampled, k3, nats per token", func(l runfolder.MetricsLine) float64 { return l.BehaviorKL }, false},
	{"clip_ratio", "share of the tokens whose surrogate is clipped", func(l runfolder.MetricsLine) float64 { return l.ClipRatio }, true},
	{"kept_ratio", "share of the tokens that no mask and no off-policy part rejects", func(l runfolder.MetricsLine) float64 { return l.KeptRatio }, true},
	{"ratio_mean", "mean ratio of current to anchor policy", func(l runfolder.MetricsLine) float64 { return l.RatioMean }, false},
	{"reference_kl", "divergence of the policy from the reference, nats per token", func(l runfolder.MetricsLine) float64 { return l.ReferenceKL }, false},
	{"value_error", "the critic's mean squared error", func(l runfolder.MetricsLine) float64 { return l.ValueError }, false},
	{"explained_variance", "share of the returns' variance that the critic tells", func(l runfolder.MetricsLine) float64 { return l.ExplainedVariance }, false},
	{"pair_accuracy", "share of the preferences that the policy has the right way round", func(l runfolder.MetricsLine) float64 { return l.PairAccuracy }, true},
	{"grad_norm", "norm of the gradient before clipping", func(l runfolder.MetricsLine) float64 { return l.GradNorm }, false},
	{"tokens", "tokens that the policy sampled", func(l runfolder.MetricsLine) float64 { return float64(l.TokensSampled) }, false},
	{"seconds", "time of the update", func(l runfolder.MetricsLine) float64 { return l.UpdateSeconds }, false},
}

// ofEveryStep are metrics that the steps of the warm start have too; ofSomeMethods those that are 0 when a method
// does not have them.
var (
	ofEveryStep   = []string{"loss", "grad_norm", "seconds"}
	ofSomeMethods = []string{"reference_kl", "value_error", "explained_variance", "pair_accuracy"}
)

func compareMetricHelp() string {
	text := ""
	for _, m := range compareMetrics {
		text += fmt.Sprintf("  %-18s %s\n", m.name, m.doc)
	}
	return text[:len(text)-1]
}

// findMetric is the index of a metric in the table.
func findMetric(name string) (int, error) {
	var names []string
	for i, m := range compareMetrics {
		if m.name == name {
			return i, nil
		}
		names = append(names, m.name)
	}
	return 0, usagef("--metric %s: know %s", name, strings.Join(names, ", "))
}

// comparedRun is what a comparison tells of a run.
type comparedRun struct {
	Run    string `json:"run"`
	Method string `json:"method"`
	Seed   uint64 `json:"seed"`
	// Status is completed, failed or cancelled; "unfinished" while the folder tells of no end.
	Status string `json:"status"`
	// Step is the last committed step of LastStep; the first WarmSteps imitate.
	Step      int `json:"step"`
	LastStep  int `json:"last_step"`
	WarmSteps int `json:"warm_steps"`
	// Seconds is wall time from the first commit to the last, or to the last evaluation.
	Seconds      float64          `json:"seconds"`
	Trajectories trajectoryCounts `json:"trajectories"`
	HeldOutTasks int              `json:"heldout_tasks"`
	// SuccessBefore is that of the evaluation after the warm start, or of the first there is; nil while
	// there is none. SuccessAfter is the latest.
	SuccessBefore *float64 `json:"success_before"`
	SuccessAfter  *float64 `json:"success_after"`
	// Curves are held-out success, overall and by environment, or the metrics asked for.
	Curves []curve `json:"curves"`

	recorded *recorded
}

// heldOutCurve is the curve of success on all held-out tasks.
const heldOutCurve = "held-out success"

// curve is a number over the steps of a run.
type curve struct {
	Name   string  `json:"name"`
	Points []point `json:"points"` // ascending steps

	share bool // a number from 0 to 1
}

type point struct {
	Step  int     `json:"step"`
	Value float64 `json:"value"`
}

// comparedRuns reads the runs, in the order they are asked for.
func (a *app) comparedRuns(ctx context.Context, prefixes []string) ([]*comparedRun, error) {
	var runs []*comparedRun
	for _, prefix := range prefixes {
		folder, id, err := a.findRun(prefix)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(runs, func(r *comparedRun) bool { return r.Run == id }) {
			return nil, usagef("compare: %s is run %s, which is there already", prefix, id)
		}
		read, err := readRun(ctx, folder, id)
		if err != nil {
			return nil, err
		}
		if read.config == nil {
			return nil, usagef("run %s is not prepared yet; see `turnwise describe run %s`", id, id)
		}
		run, err := newComparedRun(ctx, read)
		if err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	return runs, nil
}

func newComparedRun(ctx context.Context, read *recorded) (*comparedRun, error) {
	plan := read.plan()
	run := &comparedRun{
		Run: read.id, Method: read.method(), Seed: read.config.Run.Seed, Status: "unfinished",
		Step: max(0, read.committed), LastStep: plan.LastStep(), WarmSteps: plan.WarmSteps, recorded: read,
	}
	if outcome, _ := read.ending(); outcome != "" {
		run.Status = string(outcome)
	}
	for i, e := range read.evaluations {
		if i == 0 || e.Version <= plan.WarmSteps {
			run.SuccessBefore = &read.evaluations[i].Success
		}
		run.SuccessAfter, run.HeldOutTasks = &read.evaluations[i].Success, e.Tasks
	}
	return run, run.count(ctx)
}

// count goes through the manifests of the committed steps.
func (r *comparedRun) count(ctx context.Context) error {
	first, last := r.recorded.created, r.recorded.created
	for step := 0; step <= r.recorded.committed; step++ {
		manifest, err := r.recorded.folder.Manifest(ctx, step)
		if err != nil {
			return err
		}
		if step == 0 {
			first, last = manifest.Committed, manifest.Committed
		}
		last = manifest.Committed
		for _, row := range manifest.Ledger {
			if row.State == "trained" {
				r.Trajectories.Trained++
			} else {
				r.Trajectories.Dropped++
			}
		}
	}
	if e := r.recorded.latest(); e != nil && e.Finished.After(last) {
		last = e.Finished
	}
	r.Seconds = last.Sub(first).Seconds()
	return nil
}

// addCurves adds the metrics asked for, or success on held-out tasks when there are none.
func (r *comparedRun) addCurves(metrics []string) error {
	for _, name := range metrics {
		i, err := findMetric(name)
		if err != nil {
			return err
		}
		c := curve{Name: name, Points: []point{}, share: compareMetrics[i].share}
		for _, line := range r.recorded.metrics {
			if line.Step > r.WarmSteps || slices.Contains(ofEveryStep, name) {
				c.Points = append(c.Points, point{line.Step, compareMetrics[i].value(line)})
			}
		}
		if slices.Contains(ofSomeMethods, name) && !slices.ContainsFunc(c.Points, func(p point) bool { return p.Value != 0 }) {
			c.Points = []point{}
		}
		r.Curves = append(r.Curves, c)
	}
	if len(metrics) > 0 {
		return nil
	}
	r.Curves = []curve{{Name: heldOutCurve, Points: []point{}, share: true}}
	for _, e := range r.recorded.evaluations {
		r.curve(heldOutCurve).add(e.Version, e.Success)
		for _, score := range e.ByEnvironment {
			r.curve("held-out success, "+score.Environment).add(e.Version, score.Success)
		}
	}
	return nil
}

// curve is the curve of a name, made when it is new.
func (r *comparedRun) curve(name string) *curve {
	i := slices.IndexFunc(r.Curves, func(c curve) bool { return c.Name == name })
	if i < 0 {
		i = len(r.Curves)
		r.Curves = append(r.Curves, curve{Name: name, share: true})
	}
	return &r.Curves[i]
}

func (c *curve) add(step int, value float64) { c.Points = append(c.Points, point{step, value}) }
