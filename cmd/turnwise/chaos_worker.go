package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/chaos"
	"github.com/turnwise-rl/turnwise/internal/connect"
)

// seam is where `turnwise chaos` gets at a worker process. Without its flags it changes nothing.
type seam struct {
	// via is the address of a proxy to the embedded server.
	via string
	// faults is a file that says what is to fail in this process.
	faults string
	// parentPipe ends the process when standard input closes.
	parentPipe bool
}

func (s *seam) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.via, "via", "", "loopback address to reach the embedded server at")
	flags.StringVar(&s.faults, "faults", "", "file that says what is to fail in this process")
	flags.BoolVar(&s.parentPipe, "parent-pipe", false, "stop when standard input closes")
	for _, name := range []string{"via", "faults", "parent-pipe"} {
		_ = flags.MarkHidden(name) // the flag exists
	}
}

// open puts the seam in place. The returned context ends with the process that started this one.
func (s *seam) open(ctx context.Context, a *app) context.Context {
	if s.faults != "" {
		a.intercept = chaos.Hanging(s.faults)
	}
	if s.parentPipe {
		return connect.WatchParent(ctx)
	}
	return ctx
}
