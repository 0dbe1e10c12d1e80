package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// submission is how a run is submitted.
type submission struct {
	files  []string
	preset string
	id     string
	detach bool
	yes    bool
}

// load reads the config that is submitted.
func (s submission) load(overrides []string) (*configs.Resolved, error) {
	return loadConfig(s.files, s.preset, overrides)
}

// source says what overrides change.
func (s submission) source() string {
	if len(s.files) == 0 {
		return "preset " + s.preset
	}
	return strings.Join(s.files, " ")
}

func (s *submission) addSourceFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&s.files, "file", "f", nil, "config file; several are merged left to right")
	flags.StringVar(&s.preset, "preset", "quickstart", "preset to use when no file is given")
}

func submitVerb(a *app) *cobra.Command {
	var s submission
	cmd := &cobra.Command{
		Use:   "submit [key=value ...]",
		Short: "Submit a run to the workers that serve the data folder",
		Long: "Check a config, show the plan, start the run and follow it. Ctrl-C detaches: the run goes on, and\n" +
			"`turnwise watch` comes back. A run id that exists with the same config is attached to.",
		Example: "  turnwise submit -f my.yaml training.steps=60\n  turnwise submit --preset quickstart -d -y",
		RunE: func(cmd *cobra.Command, overrides []string) error {
			resolved, err := s.load(overrides)
			if err != nil {
				return err
			}
			return a.submit(cmd.Context(), s, resolved)
		},
	}
	flags := cmd.Flags()
	s.addSourceFlags(cmd)
	flags.StringVar(&s.id, "id", "", "id of the run (default: the config's name and random digits)")
	flags.BoolVarP(&s.detach, "detach", "d", false, "return once the run has started")
	flags.BoolVarP(&s.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) submit(ctx context.Context, s submission, resolved *configs.Resolved) error {
	if err := a.checkStart(ctx, s.id, resolved); err != nil {
		return err
	}
	if err := a.makeDataDir(); err != nil {
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
	id := s.id
	if id == "" {
		id = newRunID(resolved.Run.Name)
	}
	fleet, err := poolFleet(ctx, c)
	if err != nil {
		return err
	}
	plan, err := a.planRun(id, resolved, fleet)
	if err != nil {
		return err
	}
	plan.compare(s)
	plan.write(a.err)
	if err := plan.refusal(); err != nil {
		return err
	}
	folder, err := runfolder.Open(a.dataDir, id)
	if err != nil {
		return usageError{err}
	}
	if !s.yes && isTerminal(a.in) && !a.confirm() {
		return codedError{exitCancelled, fmt.Errorf("not started")}
	}
	if _, err := startWorkflow(ctx, c, activity.InputOf(id, resolved, plan.shape)); err != nil {
		return err
	}
	if s.detach {
		if a.json() {
			return a.printJSON(map[string]string{"run": id, "folder": folder.Path})
		}
		a.print("%s\n", id)
		a.note("started; `turnwise watch %s` follows it", id)
		return nil
	}
	return a.followSubmitted(ctx, folder, id, resolved)
}

// followSubmitted shows a run that other processes carry until it ends or the person leaves.
func (a *app) followSubmitted(ctx context.Context, folder *runfolder.Folder, id string, resolved *configs.Resolved) error {
	if err := a.follow(ctx, folder, id); err != nil || ctx.Err() != nil {
		return err
	}
	r, err := newReport(ctx, folder, id, resolved)
	if err != nil {
		return err
	}
	if a.json() {
		return a.printJSON(r)
	}
	a.printTable(r)
	return nil
}

// follow watches a run with patience; a view on stderr leaves stdout to the result.
func (a *app) follow(ctx context.Context, folder *runfolder.Folder, id string) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	w := &watcher{app: a, run: &recorded{id: id, folder: folder}, patience: time.Hour, show: viewOn(a.err), tick: ticker.C, now: time.Now}
	w.dial = func(ctx context.Context) (temporalClient, func(), error) {
		c, _, err := a.dial(ctx)
		if err != nil {
			return nil, nil, err
		}
		return c, c.Close, nil
	}
	return w.watch(ctx)
}

// confirm asks whether to start; an empty answer means yes.
func (a *app) confirm() bool {
	fmt.Fprint(a.err, "start? [Y/n] ")
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && err != io.EOF {
		return false
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "" || answer == "y" || answer == "yes"
}

// isTerminal reports whether a stream is a person's terminal.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// runPath is where a run's folder is.
func (a *app) runPath(id string) string {
	return runfolder.Runs(a.dataDir) + string(os.PathSeparator) + id
}

// describeMethod is a method on one line.
func describeMethod(m algos.Method) string { return m.Name + " = " + m.Summary() }
