package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func pauseVerb(a *app) *cobra.Command {
	var noWait bool
	cmd := steerVerb(a, &cobra.Command{
		Use:   "pause ID",
		Short: "Let a run come to rest at a safe point, and say when it has",
		Long: "Let a run come to rest at a safe point: the step at work is finished and committed, every episode waits\n" +
			"at its next turn, and nothing new is started. The command waits until the run rests and says what it waits\n" +
			"for; Ctrl-C leaves, and the run comes to rest all the same. `turnwise resume` goes on.",
		Example: "  turnwise pause quickstart-0c41\n  turnwise pause quick --no-wait -o json",
	}, func(ctx context.Context, h *helm) (steering, error) { return pauseRun(ctx, h, noWait) })
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return once the pause is asked for")
	return cmd
}

// pauseRun asks for a pause and follows the run until it rests.
func pauseRun(ctx context.Context, h *helm, noWait bool) (steering, error) {
	began := h.now()
	status, err := h.control(ctx, workflows.PauseUpdate)
	if err != nil {
		return steering{}, err
	}
	result := func() steering {
		return steering{Run: h.run, Status: status, Answer: pauseAnswer(status), Seconds: h.now().Sub(began).Seconds()}
	}
	said := ""
	for status.Phase == "pausing" && !noWait {
		if progress := pauseProgress(status); progress != said {
			said = progress
			h.note("%s", progress)
		}
		select {
		case <-ctx.Done():
			h.note("left; %s comes to rest all the same: `turnwise describe run %s` shows when", h.run, h.run)
			return result(), nil
		case <-h.tick:
		}
		if status, err = h.look(ctx, status); err != nil {
			return steering{}, err
		}
	}
	out := result()
	if out.Phase == "paused" && !noWait {
		out.Answer += fmt.Sprintf(" after %.1f s", out.Seconds)
	}
	return out, nil
}

// look asks the run how it stands. Without an answer it stands as before; a run that has ended says so.
func (h *helm) look(ctx context.Context, before runstate.Status) (runstate.Status, error) {
	now, err := ask(ctx, h, h.run)
	switch {
	case ctx.Err() != nil:
		return before, nil
	case err != nil:
		return before, unreachable(err)
	case !now.Known || now.Ended != "":
		return before, gone(ctx, h, h.run)
	case now.Status == nil:
		return before, nil
	}
	return *now.Status, nil
}

func pauseAnswer(status runstate.Status) string {
	switch status.Phase {
	case "paused":
		return fmt.Sprintf("paused at step %d of %d", status.Committed, status.LastStep)
	case "pausing":
		return fmt.Sprintf("%s; pauses after step %d of %d", pauseProgress(status), stopsAfter(status), status.LastStep)
	}
	return phaseAnswer(status)
}

// pauseProgress says what a run that is coming to rest still does.
func pauseProgress(status runstate.Status) string {
	var parts []string
	step := 0
	switch n, _ := fmt.Sscanf(status.WaitingFor, "the learner to commit step %d", &step); {
	case n == 1:
		parts = append(parts, fmt.Sprintf("step %d is being trained", step))
	case status.WaitingFor != "" && !strings.HasPrefix(status.WaitingFor, "the episodes of "):
		parts = append(parts, "waits for "+status.WaitingFor)
	}
	restless := 0
	for _, pool := range status.Pools {
		if pool.Serving && !pool.Quiet {
			restless++
		}
	}
	switch {
	case restless > 0:
		parts = append(parts, fmt.Sprintf("the episodes of %d of %s finish their turn", restless, plural(len(status.Pools), "pool")))
	case len(parts) == 0:
		parts = append(parts, "waits for "+status.WaitingFor)
	}
	if status.Stalled != nil {
		parts = append(parts, "stalled: "+status.Stalled.Unblock)
	}
	return "pausing: " + strings.Join(parts, ", ")
}

// phaseAnswer says what the run does instead of what it was asked for.
func phaseAnswer(status runstate.Status) string {
	answer := fmt.Sprintf("%s at step %d of %d", status.Phase, status.Committed, status.LastStep)
	if status.WaitingFor != "" {
		answer += ": waits for " + status.WaitingFor
	}
	return answer
}
