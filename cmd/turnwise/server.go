package main

import (
	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/temporalserver"
)

func serverVerb(a *app) *cobra.Command {
	var config temporalserver.Config
	var parentPipe bool
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run the embedded Temporal server on 127.0.0.1",
		Long: "Run the embedded Temporal server of a data folder until interrupted. Other commands on the same data\n" +
			"folder find it by themselves. It asks for the token in <data>/temporal/token.",
		Example: "  turnwise server\n  turnwise server --data /srv/turnwise --ui-port 8233",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.makeDataDir(); err != nil {
				return err
			}
			ctx := cmd.Context()
			if parentPipe {
				ctx = connect.WatchParent(ctx)
			}
			config.DataDir = a.dataDir
			config.Notice = func(sentence string) { a.note("%s", sentence) }
			return temporalserver.Run(ctx, config, func(e connect.Endpoint) {
				a.note("temporal  %s (namespace %s)", e.Address, e.Namespace)
				if e.UIAddress != "" {
					a.note("ui        %s — sign in with the token in %s", e.UIAddress, e.TokenFile)
				}
			})
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&config.FrontendPort, "port", 0, "port of the frontend; 0 keeps the last one or chooses")
	flags.IntVar(&config.UIPort, "ui-port", 0, "port of the web UI; 0 keeps the last one or chooses")
	flags.BoolVar(&config.UI, "ui", true, "serve the web UI")
	flags.BoolVar(&parentPipe, "parent-pipe", false, "stop when standard input closes")
	_ = flags.MarkHidden("parent-pipe") // the flag exists
	return cmd
}
