package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"golang.org/x/sys/unix"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

func doctorVerb(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check this machine, its data folder and Temporal; stop at the first thing to fix",
		Example: "  turnwise doctor\n" +
			"  TEMPORAL_ADDRESS=temporal.example:7233 turnwise doctor",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("doctor takes no arguments, got %q", args[0])
			}
			d := &doctor{app: a}
			defer d.hangUp()
			return d.examine(cmd.Context(), []check{
				{"data folder", d.dataFolder}, {"disk", d.disk}, {"arithmetic", d.arithmetic}, {"devices", d.devices},
				{"temporal", d.reach}, {"namespace", d.namespace}, {"clock", d.clock},
			})
		},
	}
}

// doctor examines one thing after the other.
type doctor struct {
	app      *app
	client   client.Client
	endpoint connect.Endpoint
}

// check looks at one thing. It returns what it found, or what is wrong and the command to try.
type check struct {
	name string
	look func(context.Context) (finding string, err error)
}

// finding is one line of the doctor's report.
type finding struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Text  string `json:"text"`
}

// examine prints a line for each check and stops at the first that fails.
func (d *doctor) examine(ctx context.Context, checks []check) error {
	for _, c := range checks {
		text, err := c.look(ctx)
		if err != nil {
			text = err.Error()
		}
		if reportErr := d.report(finding{c.name, err == nil, text}); reportErr != nil {
			return reportErr
		}
		if err != nil {
			return codedError{code: max(exitFailed, exitCode(err))}
		}
	}
	return nil
}

func (d *doctor) report(f finding) error {
	if d.app.json() {
		return d.app.printJSON(f)
	}
	verdict := "ok "
	if !f.OK {
		verdict = "fix"
	}
	d.app.print("%s  %-12s %s\n", verdict, f.Check, f.Text)
	return nil
}

// dataFolder checks that the data folder can be written and that only its owner can read it.
func (d *doctor) dataFolder(context.Context) (string, error) {
	dir := d.app.dataDir
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		if err := d.app.makeDataDir(); err != nil {
			return "", err
		}
		return dir + " (made now)", nil
	}
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return "", fmt.Errorf("%s is a file: choose another data folder with --data", dir)
	}
	if err := d.app.makeDataDir(); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return "", fmt.Errorf("cannot write to %s (%w): run `chmod u+rwx %s`, or choose another data folder with --data", dir, err, dir)
	}
	return dir, errors.Join(file.Close(), os.Remove(file.Name()))
}

// minimumFree is the free disk space below which a run soon stops: a quickstart writes less.
const minimumFree = 1 << 30

func (d *doctor) disk(context.Context) (string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(d.app.dataDir, &stat); err != nil {
		return "", fmt.Errorf("free space of %s: %w", d.app.dataDir, err)
	}
	free := uint64(stat.Bavail) * uint64(stat.Bsize)
	if free < minimumFree {
		return "", fmt.Errorf("%s free at %s, at least %s is wanted: make room, or choose another disk with --data", bytesText(free), d.app.dataDir, bytesText(minimumFree))
	}
	return bytesText(free) + " free", nil
}

func bytesText(n uint64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

func (d *doctor) arithmetic(context.Context) (string, error) {
	if err := cpu.CheckISA(); err != nil {
		return "", err
	}
	return cpu.ISA(), nil
}

func (d *doctor) reach(ctx context.Context) (string, error) {
	var err error
	d.client, d.endpoint, err = d.app.dial(ctx)
	if err != nil {
		return "", err
	}
	kind := "a cluster that the environment names"
	if d.endpoint.Embedded {
		kind = "the embedded server"
	}
	return fmt.Sprintf("%s, %s", d.endpoint.Address, kind), nil
}

func (d *doctor) hangUp() {
	if d.client != nil {
		d.client.Close()
	}
}

// namespace checks namespace and search attributes; what a person should know is a line of its own.
func (d *doctor) namespace(ctx context.Context) (string, error) {
	warnings, err := connect.Check(ctx, d.client, d.endpoint)
	if err != nil {
		return "", err
	}
	for _, warning := range warnings {
		d.app.note("note: %s", warning)
	}
	return d.endpoint.Namespace + ", with search attributes " + strings.Join(connect.SearchAttributes(), ", "), nil
}

// maximumSkew is the difference of clocks beyond which ages and times in views mislead.
const maximumSkew = 5 * time.Second

// clock looks for signs that this machine's clock differs from the server's, which tells its own only in
// the times of workflows.
func (d *doctor) clock(ctx context.Context) (string, error) {
	if d.endpoint.Embedded {
		return "the server runs on this machine", nil
	}
	runs, err := listRuns(ctx, d.client, d.endpoint.Namespace, "")
	if err != nil {
		return "", unreachable(err)
	}
	return judgeClock(runs, time.Now())
}

func judgeClock(runs []listed, now time.Time) (string, error) {
	for _, run := range runs {
		if ahead := run.started.Sub(now); ahead > maximumSkew {
			return "", fmt.Errorf("run %s started %s from now: this machine's clock is behind the server's; set it with `timedatectl set-ntp true`", run.id, short(ahead))
		}
	}
	if len(runs) == 0 {
		return "nothing to compare with: no run has been submitted to the server", nil
	}
	return "no run started in the future", nil
}
