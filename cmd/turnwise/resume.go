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
		Use:     "resume ID",
		Short:   "Let a paused run go on",
		Example: "  turnwise resume quickstart-0c41\n  turnwise resume quick -o json",
	}, resumeRun)
}

func resumeRun(ctx context.Context, t temporalClient, id string) (steering, error) {
	status, err := update(ctx, t, id, workflows.ResumeUpdate)
	return steering{Run: id, Status: status, Answer: resumeAnswer(status)}, err
}

func resumeAnswer(status runstate.Status) string {
	switch status.Phase {
	case "cancelling", "failing", string(runstate.Completed), string(runstate.Failed), string(runstate.Cancelled):
		return phaseAnswer(status)
	}
	return fmt.Sprintf("goes on from step %d of %d (%s)", status.Committed, status.LastStep, status.Phase)
}
