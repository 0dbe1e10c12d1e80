package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/chaos"
	"github.com/turnwise-rl/turnwise/internal/connect"
)

// chaosOptions are the flags of the verb.
type chaosOptions struct {
	files    []string
	preset   string
	kills    int
	roles    string
	faults   string
	seed     uint64
	gap      time.Duration
	rollouts int
	baseline bool
}

func chaosVerb(a *app) *cobra.Command {
	var o chaosOptions
	cmd := &cobra.Command{
		Use:   "chaos [key=value ...]",
		Short: "Kill and cut off the processes of a training run, and audit what that cost",
		Long: "Carry a run in several processes, break them at random, and compare what is left with what was\n" +
			"promised and with the same run undisturbed. Exits with 1 when a promise was broken, and then keeps\n" +
			"and names the data folder. docs/chaos.md says what each figure means.",
		Example: "  turnwise chaos --kills 20\n" +
			"  turnwise chaos --kills 100 --seed 3 -o json\n" +
			"  turnwise chaos --kills 10 --roles learner --faults sigkill,disk_full -f my.yaml training.steps=40",
		RunE: func(cmd *cobra.Command, overrides []string) error {
			return a.chaos(cmd.Context(), o, overrides, cmd.Flags().Changed("data"), cmd.Flags().Changed("roles"))
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.kills, "kills", 20, "how many faults to carry out, of every kind")
	flags.StringVar(&o.roles, "roles", joinWords(chaos.Roles), "comma-separated roles whose processes are struck")
	flags.StringVar(&o.faults, "faults", joinWords(chaos.Kinds), "comma-separated kinds of faults")
	flags.Uint64Var(&o.seed, "seed", 1, "draws which fault strikes what, and when")
	flags.DurationVar(&o.gap, "gap", chaos.DefaultGap, "mean time between a recovery and the next fault")
	flags.StringArrayVarP(&o.files, "file", "f", nil, "config file; several are merged left to right")
	flags.StringVar(&o.preset, "preset", "chaos", "preset to use when no file is given")
	flags.IntVar(&o.rollouts, "rollouts", 2, "number of rollout processes")
	flags.BoolVar(&o.baseline, "baseline", true, "carry each run once undisturbed, to compare with")
	return cmd
}

func joinWords[T ~string](words []T) string {
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = string(word)
	}
	return strings.Join(out, ",")
}

// chaos carries out a trial and reports it.
func (a *app) chaos(ctx context.Context, o chaosOptions, overrides []string, named, rolesAsked bool) error {
	t, err := a.newChaosTrial(o, overrides, rolesAsked)
	if err != nil {
		return err
	}
	if t.root = a.dataDir; !named {
		if t.root, err = os.MkdirTemp("", "turnwise-chaos-"); err != nil {
			return err
		}
	}
	result, err := t.run(ctx)
	if err != nil {
		a.note("the data folder stays: %s", t.root)
		if ctx.Err() != nil {
			return codedError{code: exitFailed, err: errors.New("the trial was stopped")}
		}
		return err
	}
	if a.json() {
		err = a.printJSON(result)
	} else {
		a.printChaos(result)
	}
	if len(result.Broken) > 0 {
		for i, promise := range result.Broken {
			if i == brokenShown {
				a.note("broken: %d more", len(result.Broken)-i)
				break
			}
			a.note("broken: %s", promise)
		}
		return codedError{code: exitFailed, err: fmt.Errorf("%d promises were broken; see %s", len(result.Broken), t.root)}
	}
	if !named && err == nil {
		err = os.RemoveAll(t.root)
	}
	return err
}

// brokenShown is how many broken promises are told one by one: a run that fails breaks many at once.
const brokenShown = 20

// chaosTrial is a whole trial: as many runs as the faults need, and their undisturbed counterparts.
type chaosTrial struct {
	app       *app
	options   chaosOptions
	overrides []string
	first     *configs.Resolved
	plan      []chaos.Fault
	crew      crew
	// root holds the data folder of the undisturbed runs and that of the disturbed ones.
	root string
	calm map[uint64]*chaos.Evidence // undisturbed runs by seed
}

// losesDevices says whether a plan strikes devices.
func losesDevices(plan []chaos.Fault) bool {
	return slices.ContainsFunc(plan, func(f chaos.Fault) bool { return f.Kind == chaos.Device })
}

func (a *app) newChaosTrial(o chaosOptions, overrides []string, rolesAsked bool) (*chaosTrial, error) {
	if err := chaos.Supported(); err != nil {
		return nil, err
	}
	if o.rollouts < 1 {
		return nil, usagef("--rollouts %d: at least 1", o.rollouts)
	}
	struckRoles, err := chaos.ParseRoles(o.roles)
	if err != nil {
		return nil, usageError{fmt.Errorf("--roles: %w", err)}
	}
	kinds, err := chaos.ParseKinds(o.faults)
	if err != nil {
		return nil, usageError{fmt.Errorf("--faults: %w", err)}
	}
	if struckRoles, err = a.withoutCluster(struckRoles, rolesAsked); err != nil {
		return nil, err
	}
	plan, err := chaos.Plan(chaos.Options{Faults: o.kills, Kinds: kinds, Roles: struckRoles, Seed: o.seed, Gap: o.gap})
	if err != nil {
		return nil, usageError{err}
	}
	t := &chaosTrial{app: a, options: o, overrides: overrides, plan: plan, calm: map[uint64]*chaos.Evidence{},
		crew: crew{controllers: 2, rollouts: o.rollouts, learners: 2, fleets: losesDevices(plan)}}
	t.first, err = t.resolve(nil)
	return t, err
}

// withoutCluster leaves the server out when it is a cluster: it is not this program's to kill.
func (a *app) withoutCluster(struckRoles []chaos.Role, asked bool) ([]chaos.Role, error) {
	_, external, err := connect.FromEnvironment()
	if err != nil || !external {
		return struckRoles, err
	}
	var out []chaos.Role
	for _, role := range struckRoles {
		if role != chaos.Server {
			out = append(out, role)
		} else if asked {
			return nil, usagef("--roles server: the environment names a Temporal cluster, which is not struck; unset TEMPORAL_ADDRESS to use the embedded server")
		}
	}
	a.note("the Temporal cluster that the environment names is not struck; no other workers may serve its namespace meanwhile")
	return out, nil
}

// resolve returns the config of a run; seed nil keeps the config's own. The records of turns are kept,
// because the audit reads them. A run that is to lose devices asks for GPUs.
func (t *chaosTrial) resolve(seed *uint64) (*configs.Resolved, error) {
	overrides := append(append([]string{}, t.overrides...), "checkpoint.keep_turns=true")
	if t.crew.fleets {
		overrides = append(overrides, "device=cuda")
	}
	if seed != nil {
		overrides = append(overrides, fmt.Sprintf("seed=%d", *seed))
	}
	return loadConfig(t.options.files, t.options.preset, overrides)
}

// run carries out the whole trial.
func (t *chaosTrial) run(ctx context.Context) (chaos.Result, error) {
	if err := t.app.checkStart(ctx, "", t.first); err != nil {
		return chaos.Result{}, err
	}
	if t.options.baseline {
		if err := t.undisturbed(ctx, []*configs.Resolved{t.first}); err != nil {
			return chaos.Result{}, err
		}
	}
	runs, err := t.disturbed(ctx)
	if err != nil {
		return chaos.Result{}, err
	}
	var missing []*configs.Resolved
	var compared []chaos.Compared
	for _, run := range runs {
		if t.calm[run.resolved.Run.Seed] == nil && t.options.baseline {
			missing = append(missing, run.resolved)
		}
	}
	if len(missing) > 0 {
		if err := t.undisturbed(ctx, missing); err != nil {
			return chaos.Result{}, err
		}
	}
	for _, run := range runs {
		evidence, err := run.evidence(ctx)
		if err != nil {
			return chaos.Result{}, err
		}
		compared = append(compared, chaos.Compared{Disturbed: evidence, Calm: t.calm[evidence.Seed],
			Synchronous: run.resolved.Run.Training.Staleness == 0})
	}
	return chaos.Sum(compared), nil
}

// undisturbed carries runs as they are, with the same processes as the disturbed ones.
func (t *chaosTrial) undisturbed(ctx context.Context, runs []*configs.Resolved) error {
	s, err := openSite(ctx, t.app, filepath.Join(t.root, "calm"), t.crew)
	if err != nil {
		return err
	}
	defer s.close()
	var ended []*played
	for _, resolved := range runs {
		one := &trial{site: s}
		run, err := one.play(ctx, newRunID(resolved.Run.Name), resolved)
		if err != nil {
			return err
		}
		t.app.note("undisturbed run with seed %d: %s after %.1f s", resolved.Run.Seed, run.outcome, time.Since(run.started).Seconds())
		if run.outcome != "completed" {
			return fmt.Errorf("the run does not even complete undisturbed: it ended %s, see %s", run.outcome, run.folder.Path)
		}
		ended = append(ended, run)
	}
	s.leave()
	for _, run := range ended {
		if t.calm[run.resolved.Run.Seed], err = run.evidence(ctx); err != nil {
			return err
		}
	}
	return nil
}

// disturbed carries runs, each with the next seed, until every fault was carried out.
func (t *chaosTrial) disturbed(ctx context.Context) ([]*played, error) {
	s, err := openSite(ctx, t.app, filepath.Join(t.root, "disturbed"), t.crew)
	if err != nil {
		return nil, err
	}
	defer s.close()
	var runs []*played
	one := &trial{site: s, plan: t.plan, total: len(t.plan)}
	resolved := t.first
	for {
		t.app.note("run with seed %d, %d faults to come", resolved.Run.Seed, len(one.plan))
		before := len(one.plan)
		run, err := one.play(ctx, newRunID(resolved.Run.Name), resolved)
		if err != nil {
			return nil, err
		}
		t.app.note("run with seed %d: %s after %.1f s and %d faults", resolved.Run.Seed, run.outcome, time.Since(run.started).Seconds(), len(run.strikes))
		runs = append(runs, run)
		switch {
		case len(one.plan) == 0 || run.outcome != "completed":
			return runs, nil
		case len(one.plan) == before:
			return nil, fmt.Errorf("a whole run gave the next fault (%s, %s) no chance: make runs longer with training.steps, or lower --gap %v",
				one.plan[0].Kind, one.plan[0].Role, t.options.gap)
		}
		seed := resolved.Run.Seed + 1
		if resolved, err = t.resolve(&seed); err != nil {
			return nil, err
		}
	}
}

// printChaos prints a result for people.
func (a *app) printChaos(r chaos.Result) {
	var kinds []string
	for _, kind := range chaos.Kinds {
		if n := r.Faults[kind]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
		}
	}
	compared := func(known bool, text string) string {
		if !known {
			return "not compared"
		}
		return text
	}
	lines := newTable("what", ">figure")
	lines.add("faults", fmt.Sprint(r.Kills))
	lines.add("of which", strings.Join(kinds, ", "))
	lines.add("steps committed", fmt.Sprint(r.StepsCommitted))
	lines.add("steps lost", fmt.Sprint(r.StepsLost))
	lines.add("trajectories lost", fmt.Sprint(r.TrajectoriesLost))
	lines.add("trajectories trained twice", fmt.Sprint(r.TrainedTwice))
	lines.add("finished turns sampled again", fmt.Sprint(r.Resampled))
	lines.add("unfinished turns restarted, at most", fmt.Sprintf("%d of %d episodes in flight", r.RestartedMax, r.InFlight))
	lines.add("recovery p50, p99", fmt.Sprintf("%.1f s, %.1f s", r.Recovery.P50, r.Recovery.P99))
	ratio, equal := 0.0, false
	if r.TrainingTimeRatio != nil {
		ratio = *r.TrainingTimeRatio
	}
	if r.DigestEqual != nil {
		equal = *r.DigestEqual
	}
	lines.add("effective training time", compared(r.TrainingTimeRatio != nil, fmt.Sprintf("%.2f", ratio)))
	lines.add("weights as without faults", compared(r.DigestEqual != nil, map[bool]string{true: "yes", false: "NO"}[equal]))
	lines.write(a.out)
}

// hostOf is the host of an address.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
