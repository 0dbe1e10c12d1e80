package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

func quickstartVerb(a *app) *cobra.Command {
	var ports connect.SpawnConfig
	var seed uint64
	var fresh bool
	cmd := &cobra.Command{
		Use:   "quickstart [key=value ...]",
		Short: "Teach a small policy to use tools, from scratch, on this machine",
		Long: "Start the embedded Temporal server and workers, and train a small policy with configs/presets/quickstart.yaml.\n" +
			"When the process dies or is stopped, the same command goes on from the last committed step.",
		Example: "  turnwise quickstart\n  turnwise quickstart --seed 2 training.steps=60 -o json",
		RunE: func(cmd *cobra.Command, overrides []string) error {
			if cmd.Flags().Changed("seed") {
				overrides = append(overrides, fmt.Sprintf("seed=%d", seed))
			}
			resolved, err := loadConfig(nil, "quickstart", overrides)
			if err != nil {
				return err
			}
			return a.quickstart(cmd.Context(), resolved, ports, fresh)
		},
	}
	cmd.Flags().Uint64Var(&seed, "seed", 0, "the run's seed: the override seed=N")
	cmd.Flags().BoolVar(&fresh, "new", false, "start a new run even when an unfinished one has the same config")
	addPortFlags(cmd, &ports)
	return cmd
}

// quickstart hosts one run from its plan to its final table.
func (a *app) quickstart(ctx context.Context, resolved *configs.Resolved, ports connect.SpawnConfig, fresh bool) error {
	unfinished := ""
	if !fresh {
		var err error
		if unfinished, err = a.unfinishedRun(ctx, resolved); err != nil {
			return err
		}
	}
	if err := a.checkStart(ctx, unfinished, resolved); err != nil {
		return err
	}
	own, err := machineFleet(ctx, resolved.Run.Device.Leased())
	if err != nil {
		return err
	}
	if fits, err := a.planRun(unfinished, resolved, own); err != nil {
		return err
	} else if err := fits.refusal(); err != nil {
		return err
	}
	h, err := a.host(ctx, ports)
	if err != nil {
		return err
	}
	defer h.stop()
	id, err := a.chooseRun(ctx, resolved, fresh)
	if err != nil {
		return err
	}
	plan, err := a.planRun(id, resolved, own)
	if err != nil {
		return err
	}
	plan.write(a.err)
	if h.endpoint.UIAddress != "" {
		a.note("ui          %s — sign in with the token in %s", h.endpoint.UIAddress, h.endpoint.TokenFile)
	}
	if _, err := startWorkflow(ctx, h.client, activity.InputOf(id, resolved, plan.shape)); err != nil {
		return err
	}
	folder, err := runfolder.Open(a.dataDir, id)
	if err != nil {
		return err
	}
	following, end := h.whileServing(ctx)
	err = a.followHosted(following, h, folder, id)
	if following.Err() != nil && ctx.Err() == nil {
		err = context.Cause(following)
	}
	end()
	if err != nil {
		return err
	}
	return a.report(context.WithoutCancel(ctx), folder, id, resolved, h)
}

// chooseRun returns the id of the unfinished run with this config, or a new one.
func (a *app) chooseRun(ctx context.Context, resolved *configs.Resolved, fresh bool) (string, error) {
	if !fresh {
		id, err := a.unfinishedRun(ctx, resolved)
		if err != nil {
			return "", err
		}
		if id != "" {
			return id, a.noteResume(ctx, id, activity.Spec(resolved.Run).LastStep())
		}
	}
	return newRunID(resolved.Run.Name), nil
}

// noteResume says from where an unfinished run goes on.
func (a *app) noteResume(ctx context.Context, id string, lastStep int) error {
	folder, err := runfolder.Open(a.dataDir, id)
	if err != nil {
		return err
	}
	committed, err := folder.Committed(ctx)
	if err != nil {
		return err
	}
	a.note("continuing run %s from its last committed step, %d of %d (--new starts another)", id, max(0, committed), lastStep)
	return nil
}

// followHosted shows a run that this process carries until it ends. Stopping the process stops the
// work, not the run: what is committed stays.
func (a *app) followHosted(ctx context.Context, h *host, folder *runfolder.Folder, id string) error {
	recorded := &recorded{id: id, folder: folder}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	w := &watcher{app: a, run: recorded, patience: time.Hour, show: viewOn(a.err), tick: ticker.C, now: time.Now}
	w.dial = func(context.Context) (temporalClient, func(), error) { return h.client, func() {}, nil }
	w.leave = fmt.Sprintf("stopped; the same command goes on with run %s from its last committed step", id)
	err := w.watch(ctx)
	if err == nil && ctx.Err() != nil {
		return codedError{code: exitFailed}
	}
	return err
}

// describePolicy says where the policy comes from and how large it is.
func describePolicy(run configs.Run, shape policy.Config) string {
	if run.Policy.From == "" {
		return fmt.Sprintf("%d layers × %d, vocabulary ≤ %d, from scratch", shape.Layers, shape.Hidden, shape.VocabSize)
	}
	return fmt.Sprintf("%s, %d layers × %d, vocabulary %d, from %s", shape.Family, shape.Layers, shape.Hidden, shape.VocabSize, run.Policy.From)
}

// describeDevice says what computes, and how.
func describeDevice(d configs.Device) string {
	text := fmt.Sprintf("%s on %s", d.Precision, d.Kind)
	if d.Exact {
		text += ", exact"
	}
	return text
}

func describeWarmStart(w configs.WarmStart) string {
	if w.Steps == 0 {
		return "none"
	}
	return fmt.Sprintf("%d steps × %d updates on %d imperfect demonstrations", w.Steps, w.UpdatesPerStep, w.Demonstrations)
}
