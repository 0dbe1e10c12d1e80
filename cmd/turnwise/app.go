package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/agent"
	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/workflows/activity"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1 // the run or the command failed
	exitUsage       = 2 // a mistake in arguments, config or input
	exitCancelled   = 3 // the run was cancelled
	exitUnreachable = 4 // Temporal could not be reached
	exitDevice      = 5 // a device failed this process: another one, or this one started again, goes on
)

// app is one invocation of the program. Results go to out, everything else to err.
type app struct {
	in       io.Reader
	out, err io.Writer
	// dataDir holds the runs and the embedded server's database.
	dataDir string
	// output is the format of results: "" for people, "json" for programs.
	output string
	// intercept is called before each tool call of a rollout process; nil outside of trials.
	intercept func(context.Context, rollout.Call) error
	// agent says which device agent this process is.
	agent agentFlags
	// metricsAddress is where this process is scraped; "" measures nothing. meters are what it measures then.
	metricsAddress string
	meters         *meters
}

// usageError is a user's mistake: one sentence, exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// codedError ends the program with a code of its own and no further message when Err is nil.
type codedError struct {
	code int
	err  error
}

func (e codedError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	a := &app{in: in, out: out, err: errs}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if message := strings.TrimSpace(err.Error()); message != "" {
		fmt.Fprintln(errs, "turnwise: "+message)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var coded codedError
	var usage interface{ UsageError() }
	var mistake usageError
	var failed *agent.FailedError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &usage), errors.As(err, &mistake), errors.Is(err, runfolder.ErrNoRun):
		return exitUsage
	case connect.IsUnreachable(err):
		return exitUnreachable
	case errors.As(err, &failed):
		return exitDevice
	}
	return exitFailed
}

// root is the command with all its verbs.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "turnwise",
		Short: "Train language-model agents that use tools, with credit that goes to the turn that earned it",
		Example: "  turnwise quickstart\n" +
			"  turnwise submit -f configs/presets/quickstart.yaml training.steps=60",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "" && a.output != "json" {
				return usagef("-o %s: know json only", a.output)
			}
			if err := cpu.CheckISA(); err != nil {
				return usageError{err}
			}
			return a.resolveDataDir()
		},
	}
	root.PersistentFlags().StringVar(&a.dataDir, "data", "", "data folder (default $TURNWISE_DATA, else turnwise in the user's data folder)")
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "", `format of the result: "json", or nothing for people`)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	for _, verb := range verbs {
		root.AddCommand(verb(a))
	}
	strictUsage(root)
	return root
}

// verbs are the program's commands, in the order of the help.
var verbs = []func(*app) *cobra.Command{
	quickstartVerb, planVerb, submitVerb, workerVerb, serverVerb, devVerb,
	getVerb, describeVerb, logsVerb, watchVerb, pauseVerb, resumeVerb, cancelVerb, setVerb, forkVerb, trajVerb, ledgerVerb, compareVerb, methodsVerb, creditVerb, lossVerb, configVerb, gpuVerb, benchVerb, chaosVerb, versionVerb, doctorVerb,
}

// resolveDataDir settles where the data folder is and makes sure only its owner can read it.
func (a *app) resolveDataDir() error {
	if a.dataDir == "" {
		a.dataDir = os.Getenv("TURNWISE_DATA")
	}
	if a.dataDir == "" {
		base := os.Getenv("XDG_DATA_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return usagef("no home folder (%v): choose a data folder with --data", err)
			}
			base = filepath.Join(home, ".local", "share")
		}
		a.dataDir = filepath.Join(base, "turnwise")
	}
	abs, err := filepath.Abs(a.dataDir)
	if err != nil {
		return err
	}
	a.dataDir = abs
	return nil
}

// makeDataDir creates the data folder for its owner alone. A folder that others can read is refused.
func (a *app) makeDataDir() error {
	if err := os.MkdirAll(a.dataDir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w: choose another one with --data", err)
	}
	info, err := os.Stat(a.dataDir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return usagef("data folder %s is open to others (mode %04o): run `chmod 700 %s` or choose another one with --data", a.dataDir, info.Mode().Perm(), a.dataDir)
	}
	return nil
}

// print writes a result for people.
func (a *app) print(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// note writes progress and advice, never results.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

// json reports whether results go to a program.
func (a *app) json() bool { return a.output == "json" }

// printJSON writes one result object on a line.
func (a *app) printJSON(value any) error {
	encoder := json.NewEncoder(a.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// dial reaches the Temporal server of this data folder, or the one the environment names.
func (a *app) dial(ctx context.Context) (client.Client, connect.Endpoint, error) {
	return connect.Dial(ctx, connect.Options{DataDir: a.dataDir, Logger: a.temporalLog()})
}

// temporalLog keeps the Temporal SDK's chatter away from the terminal: warnings and worse go to a file.
func (a *app) temporalLog() *slog.Logger {
	return slog.New(slog.DiscardHandler)
}

// runID completes a unique prefix of a run's id.
func (a *app) runID(prefix string) (string, error) { return runfolder.Resolve(a.dataDir, prefix) }

// loadConfig reads config files, or a preset when there is none, and applies overrides.
func loadConfig(files []string, preset string, overrides []string) (*configs.Resolved, error) {
	var sources []configs.Source
	if len(files) == 0 {
		source, err := configs.Preset(preset)
		if err != nil {
			return nil, usageError{err}
		}
		sources = append(sources, source)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usagef("no config file %s; for a preset write --preset NAME: quickstart, quickstart-async, chaos, or a method that `turnwise methods` lists", file)
		}
		if err != nil {
			return nil, usagef("read config: %v", err)
		}
		sources = append(sources, configs.Source{Name: file, Data: data})
	}
	return configs.Load(sources, overrides)
}

// checkStart refuses a run that could not start from its checkpoint, at the places of the config. A run
// that is prepared has its own copy and needs the checkpoint no more.
func (a *app) checkStart(ctx context.Context, id string, resolved *configs.Resolved) error {
	ids, err := runfolder.List(a.dataDir)
	if err != nil {
		return err
	}
	if slices.Contains(ids, id) {
		folder, err := runfolder.Open(a.dataDir, id)
		if err != nil {
			return err
		}
		if committed, err := folder.Committed(ctx); err != nil || committed >= 0 {
			return err
		}
	}
	return resolved.Refuse(activity.CheckStart(resolved.Run))
}
