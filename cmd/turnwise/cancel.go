package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func cancelVerb(a *app) *cobra.Command {
	var now bool
	cmd := steerVerb(a, &cobra.Command{
		Use:   "cancel ID",
		Short: "End a run for good; what it has committed stays",
		Long: "End a run for good. The step at work is finished and committed first; with --now it is abandoned.\n" +
			"Episodes in flight and groups that wait for training are given up. Committed steps, weights,\n" +
			"trajectories and evaluations stay in the run folder. `turnwise pause` stops a run that shall go on later.",
		Example: "  turnwise cancel quickstart-0c41\n  turnwise cancel quick --now",
	}, func(ctx context.Context, h *helm) (steering, error) {
		if now {
			return cancelNow(ctx, h)
		}
		return cancelRun(ctx, h)
	})
	cmd.Flags().BoolVar(&now, "now", false, "abandon the step at work instead of finishing it")
	return cmd
}

func cancelRun(ctx context.Context, h *helm) (steering, error) {
	status, err := h.control(ctx, workflows.CancelUpdate)
	return steering{Run: h.run, Status: status, Answer: cancelAnswer(status)}, err
}

func cancelAnswer(status runstate.Status) string {
	switch status.Phase {
	case string(runstate.Cancelled):
		return fmt.Sprintf("cancelled at step %d of %d; what is committed stays", status.Committed, status.LastStep)
	case "cancelling":
		return fmt.Sprintf("cancelling: waits for %s; ends after step %d of %d, and what is committed stays", status.WaitingFor, stopsAfter(status), status.LastStep)
	}
	return phaseAnswer(status)
}

// cancelNow has Temporal cancel the workflow, which abandons its activities. No worker need answer.
func cancelNow(ctx context.Context, h *helm) (steering, error) {
	now, err := ask(ctx, h, h.run)
	if err != nil {
		return steering{}, unreachable(err)
	}
	if !now.Known || now.Ended != "" {
		return steering{}, gone(ctx, h, h.run)
	}
	if err := h.CancelWorkflow(ctx, h.run, ""); err != nil {
		if unknownWorkflow(err) {
			return steering{}, gone(ctx, h, h.run)
		}
		return steering{}, unreachable(err)
	}
	result := steering{Run: h.run, Answer: "cancelling now: the step at work is abandoned; what is committed stays"}
	if now.Status != nil {
		result.Status = *now.Status
		result.Answer = fmt.Sprintf("cancelling now, after step %d of %d: the step at work is abandoned; what is committed stays", now.Status.Committed, now.Status.LastStep)
	}
	result.Phase = "cancelling"
	return result, nil
}
