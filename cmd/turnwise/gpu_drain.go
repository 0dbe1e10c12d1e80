package main

import (
	"context"
	"os/user"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows"
)

func gpuDrainVerb(a *app) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "drain UUID",
		Short: "Give a device to nobody new; who holds it finishes",
		Long: "Give a device to nobody new. Leases on it run to their end, so nothing is lost and nothing moves; `turnwise\n" +
			"gpu describe` shows when the last one has ended. The beginning of the UUID is enough.",
		Example: "  turnwise gpu drain GPU-1f2e --why 'fan is loud'\n  turnwise gpu drain 1f2e -o json",
		Args:    cobra.ArbitraryArgs,
		RunE:    a.withDevice(func(ctx context.Context, d *desk, prefix string) error { return d.takeOut(ctx, prefix, why) }),
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, for those who read it later")
	return cmd
}

func gpuUndrainVerb(a *app) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "undrain UUID",
		Short: "Give a device back, whatever was held against it",
		Long: "Give a device back: a drain, a quarantine and every other verdict on it are over, and leases are given again\n" +
			"at once. Who says so knows better than the health policy; faults that come later count as ever.",
		Example: "  turnwise gpu undrain GPU-1f2e --why 'board replaced'",
		Args:    cobra.ArbitraryArgs,
		RunE:    a.withDevice(func(ctx context.Context, d *desk, prefix string) error { return d.giveBack(ctx, prefix, why) }),
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, for those who read it later")
	return cmd
}

// withDevice runs a verb about one device, which its only argument names by a prefix of its UUID.
func (a *app) withDevice(run func(ctx context.Context, d *desk, prefix string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		prefix, err := oneDevice(cmd.Name(), args)
		if err != nil {
			return err
		}
		d := a.newDesk()
		defer d.hangUp()
		return run(cmd.Context(), d, prefix)
	}
}

func (d *desk) takeOut(ctx context.Context, prefix, why string) error {
	return d.decide(ctx, prefix, why, "drain", func(ctx context.Context, input workflows.DrainInput) (lease.DeviceStatus, error) {
		return d.pool.drain(ctx, input)
	})
}

func (d *desk) giveBack(ctx context.Context, prefix, why string) error {
	return d.decide(ctx, prefix, why, "undrain", func(ctx context.Context, input workflows.DrainInput) (lease.DeviceStatus, error) {
		return d.pool.undrain(ctx, input)
	})
}

// decide finds a device and asks the device pool to do something with it.
func (d *desk) decide(ctx context.Context, prefix, why, what string, act func(context.Context, workflows.DrainInput) (lease.DeviceStatus, error)) error {
	snapshot, err := d.snapshot(ctx)
	if err != nil {
		return err
	}
	row, err := listOf(snapshot, nil).find(prefix)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	status, err := act(waiting, workflows.DrainInput{UUID: row.UUID, By: d.signature(why)})
	if err := explainPool(ctx, waiting, err); err != nil {
		return err
	}
	if d.app.json() {
		return d.app.printJSON(status)
	}
	d.app.print("%s", verdictText(status, row, what))
	return nil
}

// verdictText says how a device stands after it was drained or given back.
func verdictText(status lease.DeviceStatus, before deviceRow, what string) string {
	text := status.UUID + " on " + status.Host + " is " + string(status.Health)
	if status.Why != "" {
		text += ": " + status.Why
	}
	text += "\n"
	switch {
	case what == "undrain":
	case len(status.Leases) == 0:
		text += "nobody holds it: it can be taken out\n"
	default:
		text += "who holds it finishes: " + before.holders() + "; `turnwise gpu describe " + status.UUID + "` shows when that is\n"
	}
	return text
}

// signature says who asks, and why.
func (d *desk) signature(why string) string {
	if why = oneLine(why); why != "" {
		return d.user + ": " + why
	}
	return d.user
}

// userName is who runs this program.
func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "somebody"
}
