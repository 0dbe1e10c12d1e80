package activity

import (
	"context"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
)

// PublishControl replaces the control object that rollout workers read.
func (a *Activities) PublishControl(ctx context.Context, input workflows.ControlInput) error {
	folder, err := a.folder(input.Run)
	if err != nil {
		return err
	}
	return folder.PublishControl(ctx, input.Control)
}

// RecordEvent writes a line into the run's events.
func (a *Activities) RecordEvent(ctx context.Context, input workflows.RecordInput) error {
	folder, err := a.folder(input.Run)
	if err != nil {
		return err
	}
	return folder.AppendEvent(ctx, runfolder.Event{Time: input.Time, Text: input.Text})
}
