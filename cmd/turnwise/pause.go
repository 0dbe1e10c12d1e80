package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func pauseVerb(a *app) *cobra.Command {
	return steerVerb(a, &cobra.Command{
		Use:   "pause ID",
		Short: "Let a run come to rest at a safe point",
		Long: "Let a run come to rest at a safe point: what is at work is finished and committed, nothing new is\n" +
			"started. Groups that are ready stay in the run folder. `turnwise resume` goes on.",
		Example: "  turnwise pause quickstart-0c41\n  turnwise pause quick -o json",
	}, pauseRun)
}

func pauseRun(ctx context.Context, t temporalClient, id string) (steering, error) {
	status, err := update(ctx, t, id, workflows.PauseUpdate)
	return steering{Run: id, Status: status, Answer: pauseAnswer(status)}, err
}

func pauseAnswer(status runstate.Status) string {
	switch status.Phase {
	case "paused":
		return fmt.Sprintf("paused at step %d of %d", status.Committed, status.LastStep)
	case "pausing":
		return fmt.Sprintf("pausing: waits for %s; pauses after step %d of %d", status.WaitingFor, stopsAfter(status), status.LastStep)
	}
	return phaseAnswer(status)
}

// phaseAnswer says what the run does instead of what it was asked for.
func phaseAnswer(status runstate.Status) string {
	answer := fmt.Sprintf("%s at step %d of %d", status.Phase, status.Committed, status.LastStep)
	if status.WaitingFor != "" {
		answer += ": waits for " + status.WaitingFor
	}
	return answer
}
