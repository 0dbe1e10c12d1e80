package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func describeVerb(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "describe run ID",
		Short: "Show a run: its plan, what it does now, its results and where they are",
		Example: "  turnwise describe run quickstart-0c41\n" +
			"  turnwise describe quick -o json",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := oneRun("describe", args)
			if err != nil {
				return err
			}
			d, err := a.describe(cmd.Context(), id)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(d)
			}
			d.write(a)
			return nil
		},
	}
}

// oneRun reads the arguments "ID" or "run ID".
func oneRun(verb string, args []string) (string, error) {
	if len(args) == 2 && (args[0] == "run" || args[0] == "runs") {
		args = args[1:]
	}
	if len(args) != 1 {
		return "", usagef("%s takes one run's id; `turnwise get runs` lists them", verb)
	}
	return args[0], nil
}

// description is everything `describe` shows.
type description struct {
	Run    string `json:"run"`
	Method string `json:"method"`
	// Phase is a phase of a run at work, how it ended, or "unknown"; Note explains what is not known.
	Phase    string        `json:"phase"`
	Note     string        `json:"note,omitempty"`
	Step     int           `json:"step"`
	Plan     runstate.Spec `json:"plan"`
	LastStep int           `json:"last_step"`
	// Revision is that of the config which the plan is read from; 0 is what was submitted.
	Revision int `json:"revision"`
	// Status is the run's own answer; nil when none came.
	Status  *runstate.Status  `json:"status"`
	Pending []pendingActivity `json:"pending"`
	// Occupancy says who keeps whom waiting; nil before there are two steps.
	Occupancy *occupancy `json:"occupancy"`
	// Metrics are those of the last step; nil before the first.
	Metrics *runfolder.MetricsLine `json:"metrics"`
	// Evaluations are the first, before reinforcement learning, and the latest.
	Evaluations []evaluationRow   `json:"evaluations"`
	Ending      string            `json:"ending,omitempty"`
	Folder      string            `json:"folder"`
	Workflow    string            `json:"workflow"`
	Temporal    string            `json:"temporal,omitempty"`
	Namespace   string            `json:"namespace,omitempty"`
	UI          string            `json:"ui,omitempty"`
	Started     *time.Time        `json:"started"`
	Events      []runfolder.Event `json:"events"`

	settings []string // the plan in words
	now      time.Time
}

// evaluationRow is an evaluation without its transcripts.
type evaluationRow struct {
	Version       int                          `json:"version"`
	Success       float64                      `json:"success"`
	Tasks         int                          `json:"tasks"`
	Turns         float64                      `json:"turns"`
	ByEnvironment []runfolder.EnvironmentScore `json:"by_environment"`
}

// lastEvents is how many events a description ends with.
const lastEvents = 8

func (a *app) describe(ctx context.Context, prefix string) (*description, error) {
	folder, id, err := a.findRun(prefix)
	if err != nil {
		return nil, err
	}
	r, err := readRun(ctx, folder, id)
	if err != nil {
		return nil, err
	}
	d := r.describe()
	if r.config, d.Revision, err = r.currentConfig(ctx); err != nil { // the plan as it is by now
		return nil, err
	}
	if d.Occupancy, err = new(gauge).occupancy(ctx, r); err != nil {
		return nil, err
	}
	d.Plan, d.LastStep, d.settings = r.plan(), r.plan().LastStep(), r.settings()
	c, endpoint, err := a.dial(ctx)
	if connect.IsUnreachable(err) {
		d.Note = "live status unknown: " + err.Error()
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	d.Temporal, d.Namespace, d.UI = endpoint.Address, endpoint.Namespace, endpoint.UIAddress
	return d, d.addLive(ctx, c, r.plan().Pools, r.unevaluated()...)
}

// describe tells what the folder tells.
func (r *recorded) describe() *description {
	d := &description{
		Run: r.id, Method: r.method(), Phase: "unknown", Step: max(0, r.committed), Plan: r.plan(), LastStep: r.plan().LastStep(),
		Folder: r.folder.Path, Workflow: r.id, Events: r.events[max(0, len(r.events)-lastEvents):], settings: r.settings(), now: time.Now(),
	}
	if outcome, words := r.ending(); outcome != "" {
		d.Phase, d.Ending = string(outcome), words
	}
	if n := len(r.metrics); n > 0 {
		d.Metrics = &r.metrics[n-1]
	}
	for i, e := range r.evaluations {
		if i == 0 || i == len(r.evaluations)-1 {
			d.Evaluations = append(d.Evaluations, evaluationRow{Version: e.Version, Success: e.Success, Tasks: e.Tasks, Turns: e.Turns, ByEnvironment: e.ByEnvironment})
		}
	}
	return d
}

// settings is the plan in words, a line each.
func (r *recorded) settings() []string {
	if r.config == nil {
		return nil
	}
	c := r.config.Run
	var environments []string
	for _, e := range c.Environments {
		environments = append(environments, e.Type())
	}
	origin := fmt.Sprintf("of %s × %d", plural(c.Policy.Layers, "layer"), c.Policy.Hidden)
	if c.Policy.From != "" {
		origin = "from " + c.Policy.From
	}
	return []string{
		fmt.Sprintf("%s, then %s of %s × %d trajectories; staleness %d; seed %d",
			plural(c.WarmStart.Steps, "warm step"), plural(c.Training.Steps, "step"), plural(c.Training.GroupsPerStep, "group"),
			c.Training.GroupSize, c.Training.Staleness, c.Seed),
		fmt.Sprintf("tasks from %s; at most %s an episode; temperature %g", strings.Join(environments, ", "), plural(c.Sampling.MaxTurns, "turn"), c.Sampling.Temperature),
		fmt.Sprintf("policy %s; learning rate %g", origin, c.Optimizer.LearningRate),
		fmt.Sprintf("checkpoint every %s; evaluation on %s of each environment, every %s",
			plural(c.Checkpoint.Every, "step"), plural(c.Evaluation.Tasks, "held-out task"), plural(c.Evaluation.Every, "step")),
	}
}

// addLive adds what Temporal knows: the run's own answer and the work it waits for, with its pools'.
// evaluations are the versions that may be under evaluation.
func (d *description) addLive(ctx context.Context, t temporalClient, pools int, evaluations ...int) error {
	now, err := ask(ctx, t, d.Run)
	if err != nil {
		return err
	}
	if !now.Known {
		d.Note = "Temporal has no workflow of this run; what the folder holds stays readable"
		return nil
	}
	d.Started, d.Status, d.Pending = &now.Started, now.Status, now.Pending
	d.Phase = now.word()
	switch {
	case now.Ended != "":
		return nil
	case now.Status == nil:
		d.Note = "no control worker answers: start one with `turnwise worker --roles control`"
	default:
		d.Step, d.LastStep = now.Status.Committed, now.Status.LastStep
	}
	inPools, err := askPools(ctx, t, d.Run, pools)
	d.Pending = append(d.Pending, worthSaying(inPools, now.Status)...)
	if err != nil {
		return err
	}
	evaluating, err := askEvaluations(ctx, t, d.Run, evaluations)
	d.Pending = append(d.Pending, evaluating...)
	return err
}

func (d *description) write(a *app) {
	line := func(name, format string, args ...any) { a.print("%-11s%s\n", name, fmt.Sprintf(format, args...)) }
	line("run", "%s", d.Run)
	line("method", "%s", d.Method)
	line("phase", "%s, %s", d.Phase, stepText(d.Step, d.LastStep))
	if d.Note != "" {
		line("", "%s", d.Note)
	}
	if d.Ending != "" {
		line("ending", "%s", d.Ending)
	}
	d.writeCondition(line)
	for i, sentence := range d.settings {
		line(first(i, "plan"), "%s", sentence)
	}
	if d.Metrics != nil {
		line("last step", "%s", metricsText(*d.Metrics))
	}
	for i, e := range d.Evaluations {
		line(first(i, "held-out"), "version %d  success %s%s  over %s, %.1f turns", e.Version, percent(e.Success), environmentText(e.ByEnvironment), plural(e.Tasks, "task"), e.Turns)
	}
	line("folder", "%s", d.Folder)
	if d.Temporal != "" {
		since := ""
		if d.Started != nil {
			since = ", started " + short(time.Since(*d.Started)) + " ago"
		}
		line("workflow", "%s at %s, namespace %s%s", d.Workflow, d.Temporal, d.Namespace, since)
	}
	if d.UI != "" {
		line("ui", "http://%s", strings.TrimPrefix(d.UI, "http://"))
	}
	for i, e := range d.Events {
		line(first(i, "events"), "%s  %s", e.Time.Local().Format(time.DateTime), e.Text)
	}
}

// writeCondition tells how the run stands by its own answer, and what it waits for.
func (d *description) writeCondition(line func(name, format string, args ...any)) {
	if s := d.Status; s != nil {
		if s.WaitingFor != "" {
			line("waits for", "%s", s.WaitingFor)
		}
		if text := learnerText(s.Learner, s.WaitingFor); text != "" {
			line("learner", "%s", text)
		}
		if text := stallText(s, d.now); text != "" {
			line("stalled", "%s", text)
		}
		if text := holdText(s, d.Run); text != "" {
			line("held", "%s", text)
		}
		if s.Reason != "" {
			line("reason", "%s", s.Reason)
		}
	}
	for i, p := range d.Pending {
		line(first(i, "work"), "%s", p.at(d.now))
	}
	for i, text := range poolTexts(d.Status, d.now) {
		line(first(i, "pools"), "%s", text)
	}
	if o := d.Occupancy; o != nil {
		line("busy", "%s (last %s)", o.Bottleneck, plural(o.Steps, "step"))
	}
	if d.Status != nil && len(d.Status.Failures) > 0 {
		line("failures", "%s; each was tried again, replaced, or its group dropped", countsText(d.Status.Failures))
	}
	if d.Status != nil && len(d.Status.Drops) > 0 {
		line("dropped", "groups: %s", countsText(d.Status.Drops))
	}
}

// learnerText says where the learner is, or why it is nowhere; "" while the run needs none. A reason that ends what
// was said before is not told again.
func learnerText(l runstate.LearnerStatus, said string) string {
	switch {
	case l.Where != "" && l.Yield != "":
		return fmt.Sprintf("%s (lease %d), to be given back after what is in flight: %s", l.Where, l.Fence, l.Yield)
	case l.Where != "":
		return fmt.Sprintf("%s (lease %d)", l.Where, l.Fence)
	case l.Waiting != "" && strings.HasSuffix(said, l.Waiting):
		return "without a device"
	case l.Waiting != "":
		return "without a device: " + l.Waiting
	}
	return ""
}

// first names the first of several lines.
func first(i int, name string) string {
	if i > 0 {
		return ""
	}
	return name
}

func environmentText(scores []runfolder.EnvironmentScore) string {
	var parts []string
	for _, s := range scores {
		parts = append(parts, s.Environment+" "+percent(s.Success))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// metricsText is a step in words.
func metricsText(m runfolder.MetricsLine) string {
	if m.Kind != string(runstate.Reinforce) {
		return fmt.Sprintf("step %d  %s  loss %s  entropy %s  grad norm %s", m.Step, m.Kind, number(m.Loss), number(m.Entropy), number(m.GradNorm))
	}
	return fmt.Sprintf("step %d  success %s  reward %s  turns %.1f  loss %s  entropy %s  clipped %s  ratio %s  grad norm %s  %s tokens",
		m.Step, percent(m.Success), number(m.Reward), m.Turns, number(m.Loss), number(m.Entropy), percent(m.ClipRatio), number(m.RatioMean), number(m.GradNorm), thousands(m.TokensSampled))
}

func fraction(n, of int) string { return fmt.Sprintf("%d/%d", n, of) }
