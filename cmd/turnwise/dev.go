package main

import (
	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

func devVerb(a *app) *cobra.Command {
	var ports connect.SpawnConfig
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run the Temporal server and workers of all roles on this machine",
		Long: "Run the embedded Temporal server and workers of all roles until interrupted; submit runs from\n" +
			"another terminal. Runs that were going on go on.",
		Example: "  turnwise dev\n  turnwise dev --ui-port 8233",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h, err := a.host(cmd.Context(), ports)
			if err != nil {
				return err
			}
			a.note("temporal  %s (namespace %s)", h.endpoint.Address, h.endpoint.Namespace)
			if h.endpoint.UIAddress != "" {
				a.note("ui        %s — sign in with the token in %s", h.endpoint.UIAddress, h.endpoint.TokenFile)
			}
			a.note("runs      %s", a.dataDir)
			a.note("submit    turnwise submit -f FILE; Ctrl-C stops, and what is committed stays")
			defer h.stop()
			select {
			case <-cmd.Context().Done():
				return nil
			case err := <-h.failed:
				return err
			}
		},
	}
	a.agent.add(cmd)
	a.addMetricsFlag(cmd)
	addPortFlags(cmd, &ports)
	return cmd
}

// addPortFlags adds the flags that fix the embedded server's ports.
func addPortFlags(cmd *cobra.Command, ports *connect.SpawnConfig) {
	cmd.Flags().IntVar(&ports.FrontendPort, "port", 0, "port of the embedded server; 0 keeps the last one or chooses")
	cmd.Flags().IntVar(&ports.UIPort, "ui-port", 0, "port of the web UI; 0 keeps the last one or chooses")
}
