package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func resumeVerb(a *app) *cobra.Command {
	return steerVerb(a, &cobra.Command{
		Use:   "resume ID",
		Short: "Let a paused run, or one that stopped admitting because rollouts failed, go on",
		Long: "Let a paused run go on. A run that starts no new groups because too many rollouts failed goes on as well,\n" +
			"and the failures so far are forgotten: mend their cause first.",
		Example: "  turnwise resume quickstart-0c41\n  turnwise resume quick -o json",
	}, resumeRun)
}

func resumeRun(ctx context.Context, h *helm) (steering, error) {
	before := queryStatus(ctx, h, h.run) // nil when nobody answers, and then the update says so
	status, err := h.control(ctx, workflows.ResumeUpdate)
	if err != nil {
		return steering{}, err
	}
	return steering{Run: h.run, Status: status, Answer: resumeAnswer(before, status)}, nil
}

// resumeAnswer says what was taken back and how the run goes on.
func resumeAnswer(before *runstate.Status, status runstate.Status) string {
	switch status.Phase {
	case "cancelling", "failing", string(runstate.Completed), string(runstate.Failed), string(runstate.Cancelled):
		return phaseAnswer(status)
	}
	answer := fmt.Sprintf("goes on from step %d of %d (%s)", status.Committed, status.LastStep, status.Phase)
	switch {
	case before == nil:
	case before.Held != "":
		answer += "; new groups start again, which had stopped: " + before.Held
	case before.Phase != "paused" && before.Phase != "pausing":
		answer = fmt.Sprintf("was neither paused nor held: %s at step %d of %d", status.Phase, status.Committed, status.LastStep)
	}
	return answer
}
