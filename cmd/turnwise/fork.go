package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// forking is how a run is forked.
type forking struct {
	submission
	// step is the last one taken over; −1 takes all that are committed.
	step int
	name string
}

func forkVerb(a *app) *cobra.Command {
	var f forking
	cmd := &cobra.Command{
		Use:   "fork RUN [key=value ...]",
		Short: "Start a new run from a committed step of another one, with other settings",
		Long: "Start a new run from a committed step of another one. The new run takes over everything up to that step\n" +
			"and the settings that made it, changed by those given here, and goes on by itself; the other run is not\n" +
			"touched and may be at work. What the committed steps fixed cannot change: policy, tokenizer, warm start.",
		Example: "  turnwise fork quickstart-0c41 --step 40 optimizer.learning_rate=0.0002\n" +
			"  turnwise fork quick training.steps=200 --name longer -d",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 && (args[0] == "run" || args[0] == "runs") {
				args = args[1:]
			}
			if len(args) == 0 {
				return usagef("fork takes a run's id and then settings, as in `turnwise fork RUN --step 40 training.steps=200`; `turnwise get runs` lists runs")
			}
			if cmd.Flags().Changed("step") && f.step < 0 {
				return usagef("--step %d: steps count from 0", f.step)
			}
			return a.fork(cmd.Context(), f, args[0], args[1:])
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&f.step, "step", -1, "last step to take over (default: the last committed one)")
	flags.StringVar(&f.name, "name", "", "name of the new run, which its id begins with (default: that of the other run)")
	flags.StringVar(&f.id, "id", "", "id of the new run (default: its name and random digits)")
	flags.BoolVarP(&f.detach, "detach", "d", false, "return once the run has started")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

// forkPlan is a fork that was checked.
type forkPlan struct {
	id      string
	from    workflows.Fork
	config  *configs.Resolved
	changes []settingChange
	// committed is the last step of the other run.
	committed int
	// run is what it takes, and where it would be placed.
	run *runPlan
}

// fork checks what is asked for, shows the plan, starts the run and follows it.
func (a *app) fork(ctx context.Context, f forking, prefix string, overrides []string) error {
	plan, err := a.planFork(ctx, f, prefix, overrides)
	if err != nil {
		return err
	}
	c, endpoint, err := a.dial(ctx)
	if err != nil {
		return fmt.Errorf("%w; `turnwise dev` starts a server and workers on this machine", err)
	}
	defer c.Close()
	if err := connect.Preflight(ctx, c, endpoint); err != nil {
		return err
	}
	known, err := poolFleet(ctx, c)
	if err != nil {
		return err
	}
	if err := a.placeFork(plan, known); err != nil {
		return err
	}
	plan.print(a)
	if err := plan.run.refusal(); err != nil {
		return err
	}
	if !f.yes && isTerminal(a.in) && !a.confirm() {
		return codedError{exitCancelled, fmt.Errorf("not started")}
	}
	input := activity.InputOf(plan.id, plan.config, plan.run.shape)
	input.Fork = &plan.from
	if _, err := startWorkflow(ctx, c, input); err != nil {
		return err
	}
	folder, err := runfolder.Open(a.dataDir, plan.id)
	if err != nil {
		return err
	}
	if f.detach {
		if a.json() {
			return a.printJSON(forked{plan.id, folder.Path, plan.from.Run, plan.from.Step, plan.changes})
		}
		a.print("%s\n", plan.id)
		a.note("started; `turnwise watch %s` follows it", plan.id)
		return nil
	}
	return a.followFork(ctx, folder, plan)
}

// forked is the result of a fork that nobody follows.
type forked struct {
	Run    string `json:"run"`
	Folder string `json:"folder"`
	// From and Step say what the run goes on from.
	From    string          `json:"from"`
	Step    int             `json:"step"`
	Changes []settingChange `json:"changes"`
}

// planFork finds the step to fork from and the settings of the new run.
func (a *app) planFork(ctx context.Context, f forking, prefix string, overrides []string) (*forkPlan, error) {
	folder, id, err := a.findRun(prefix)
	if err != nil {
		return nil, err
	}
	plan := &forkPlan{id: f.id, from: workflows.Fork{Run: id, Step: f.step}}
	if plan.committed, err = folder.Committed(ctx); err != nil {
		return nil, err
	}
	if plan.from.Step < 0 {
		plan.from.Step = plan.committed
	}
	switch {
	case plan.committed < 0:
		return nil, usagef("run %s has committed no step to fork from: wait until it has, `turnwise watch %s` shows when", id, id)
	case plan.from.Step > plan.committed:
		return nil, usagef("run %s has no committed step %d: choose one of 0 to %d", id, plan.from.Step, plan.committed)
	}
	source, err := configAt(ctx, folder, id, plan.from.Step)
	if err != nil {
		return nil, err
	}
	if f.name != "" {
		overrides = append(slices.Clone(overrides), "name="+f.name)
	}
	if plan.config, err = configs.Fork(source, plan.from.Step, overrides); err != nil {
		return nil, err
	}
	plan.changes = changedSettings(source, plan.config)
	return plan, a.nameFork(plan)
}

// nameFork gives the new run an id that is free.
func (a *app) nameFork(plan *forkPlan) error {
	taken, err := runfolder.List(a.dataDir)
	if err != nil {
		return err
	}
	switch {
	case plan.id == "":
		for plan.id == "" || slices.Contains(taken, plan.id) {
			plan.id = newRunID(plan.config.Run.Name)
		}
	case slices.Contains(taken, plan.id):
		return usagef("there is a run %s already: choose another --id", plan.id)
	}
	return nil
}

// configAt is the config that made a step of a run, or the one it was submitted with where another run
// made the step.
func configAt(ctx context.Context, folder *runfolder.Folder, id string, step int) (*configs.Resolved, error) {
	manifest, err := folder.Manifest(ctx, step)
	if err != nil {
		return nil, err
	}
	revision := manifest.Config
	switch fork, err := folder.Fork(ctx); {
	case err == nil && step <= fork.Step:
		revision = 0
	case err != nil && !errors.Is(err, blob.ErrNotFound):
		return nil, err
	}
	text, err := folder.Config(ctx, revision)
	if err != nil {
		return nil, fmt.Errorf("config of step %d of run %s: %w", step, id, err)
	}
	return configs.Reload(runfolder.RevisionKey(revision), text)
}

// placeFork plans where the new run would be. Its network has the shape of the run that it comes from.
func (a *app) placeFork(plan *forkPlan, known fleet) error {
	var err error
	if plan.run, err = a.planRun(plan.from.Run, plan.config, known); err == nil {
		plan.run.id, plan.run.folder = plan.id, a.runPath(plan.id)
	}
	return err
}

func (p *forkPlan) print(a *app) {
	p.run.write(a.err)
	a.note("%-11s %s at step %d, of %d committed; steps 0 to %d are taken over, the run goes on with step %d", "from", p.from.Run, p.from.Step, p.committed, p.from.Step, p.from.Step+1)
	for i, change := range p.changes {
		a.note("%-11s %s", first(i, "changes"), change)
	}
}

// followFork shows the run until it ends or the person leaves. What it reached is compared with the run it
// comes from by other verbs.
func (a *app) followFork(ctx context.Context, folder *runfolder.Folder, plan *forkPlan) error {
	if err := a.follow(ctx, folder, plan.id); err != nil || ctx.Err() != nil {
		return err
	}
	if a.json() {
		return a.printJSON(forked{plan.id, folder.Path, plan.from.Run, plan.from.Step, plan.changes})
	}
	a.print("%s\n", plan.id)
	a.note("`turnwise compare %s %s` puts both runs side by side", plan.from.Run, plan.id)
	return nil
}
