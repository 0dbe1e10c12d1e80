package main

import "github.com/spf13/cobra"

func trajVerb(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "traj",
		Short: "Read a run's trajectories: list, show, export",
		Example: "  turnwise traj ls quickstart-0c41 --where 'reward<0.2 && stop==\"max_turns\"'\n" +
			"  turnwise traj show quickstart-0c41/g7/3 --tokens",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("traj what? know: ls, show, export; try `turnwise traj ls RUN`")
			}
			return usagef("traj %s: know ls, show, export", args[0])
		},
	}
	cmd.AddCommand(trajLsVerb(a), trajShowVerb(a), trajExportVerb(a))
	return cmd
}
