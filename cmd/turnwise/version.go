package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/temporalserver"
	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// build says what this binary is.
type build struct {
	Version string `json:"version"`
	// Revision and Time are of the commit it was built from; "" when the build did not record them.
	Revision string `json:"revision"`
	Modified bool   `json:"modified"`
	Time     string `json:"time"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// ISA is the instruction set its arithmetic runs on; bits agree only within one.
	ISA string `json:"isa"`
	// Server is true when the embedded Temporal server is linked in.
	Server bool `json:"server"`
}

func thisBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, ISA: cpu.ISA(), Server: temporalserver.Available}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func versionVerb(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Say what this binary is",
		Example: "  turnwise version\n  turnwise version -o json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("version takes no arguments, got %q", args[0])
			}
			b := thisBuild()
			if a.json() {
				return a.printJSON(b)
			}
			b.write(a)
			return nil
		},
	}
}

func (b build) write(a *app) {
	server := "linked"
	if !b.Server {
		server = "left out (slim build): use another one through TEMPORAL_ADDRESS"
	}
	a.print("turnwise   %s\n", b.Version)
	if b.Revision != "" {
		modified := ""
		if b.Modified {
			modified = ", with local changes"
		}
		a.print("revision   %s of %s%s\n", b.Revision, b.Time, modified)
	}
	a.print("go         %s on %s\narithmetic %s\nserver     %s\n", b.Go, b.Platform, b.ISA, server)
}
