package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
)

func logsVerb(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:               "logs ID",
		Short:             "Print what happened in a run: its events and a line for each step",
		Example:           "  turnwise logs quickstart-0c41\n  turnwise logs quick -f",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix, err := oneRun("logs", args)
			if err != nil {
				return err
			}
			folder, _, err := a.findRun(prefix)
			if err != nil {
				return err
			}
			return a.logs(cmd.Context(), folder, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run ends")
	return cmd
}

// logLine is one line of a run's log: an event or a step.
type logLine struct {
	Time time.Time              `json:"time"`
	Text string                 `json:"text,omitempty"`
	Step *runfolder.MetricsLine `json:"step,omitempty"`
}

// logs prints the run's lines in the order of time. With follow it prints what comes, until the run's
// last event says how it ended.
func (a *app) logs(ctx context.Context, folder *runfolder.Folder, follow bool) error {
	r := &recorded{folder: folder}
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for events, steps := 0, 0; ; {
		if err := r.readLines(ctx); err != nil {
			return err
		}
		for _, line := range logLines(r.events[min(events, len(r.events)):], r.metrics[min(steps, len(r.metrics)):]) {
			if err := a.printLog(line); err != nil {
				return err
			}
		}
		events, steps = len(r.events), len(r.metrics)
		outcome, _ := r.ending()
		if !follow || outcome != "" {
			if events+steps == 0 {
				a.note("nothing has happened yet; `-f` waits")
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// logLines merges events and steps by time; an event comes before a step of the same moment.
func logLines(events []runfolder.Event, metrics []runfolder.MetricsLine) []logLine {
	var lines []logLine
	for _, e := range events {
		lines = append(lines, logLine{Time: e.Time, Text: e.Text})
	}
	for i := range metrics {
		lines = append(lines, logLine{Time: metrics[i].Time, Step: &metrics[i]})
	}
	slices.SortStableFunc(lines, func(x, y logLine) int { return x.Time.Compare(y.Time) })
	return lines
}

func (a *app) printLog(line logLine) error {
	if a.json() {
		return a.printJSON(line)
	}
	text := line.Text
	if line.Step != nil {
		text = metricsText(*line.Step)
	}
	a.print("%s  %s\n", line.Time.Local().Format(time.DateTime), text)
	return nil
}
