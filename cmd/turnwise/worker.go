package main

import (
	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

func workerVerb(a *app) *cobra.Command {
	var list string
	var loops int
	var faults seam
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Serve runs as a control, rollout, learner or device process",
		Long: "Serve runs until interrupted. Control processes run workflows, rollout processes play episodes,\n" +
			"learner processes train. All processes of a run must see the same data folder. A rollout process holds\n" +
			"as many rollout loops at once as --loops says; a run has sampling.pools of them. Every process but one\n" +
			"that has the control role alone reports the devices of its machine; with the role device alone it does\n" +
			"nothing else.",
		Example: "  turnwise worker --roles control,rollout,learner\n" +
			"  TEMPORAL_ADDRESS=temporal.example:7233 turnwise worker --roles rollout --data /shared/turnwise",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			chosen, err := parseRoles(list)
			if err != nil {
				return err
			}
			if loops < 1 {
				return usagef("--loops %d: must be at least 1", loops)
			}
			if err := a.makeDataDir(); err != nil {
				return err
			}
			log, closeLog, err := a.openLog("worker.log")
			if err != nil {
				return err
			}
			defer closeLog()
			closeMetrics, err := a.openMetrics(cmd.Context(), log)
			if err != nil {
				return err
			}
			defer closeMetrics()
			ctx := faults.open(cmd.Context(), a)
			c, endpoint, err := connect.Dial(ctx, connect.Options{DataDir: a.dataDir, Logger: warnOnly(log), Via: faults.via, Metrics: a.meters.handler()})
			if err != nil {
				return err
			}
			defer c.Close()
			if err := connect.Preflight(ctx, c, endpoint); err != nil {
				return err
			}
			serving, err := a.newService(c, chosen, loops, log)
			if err != nil {
				return err
			}
			if err := serving.start(ctx); err != nil {
				return err
			}
			defer serving.stop()
			a.meters.announce(serving.name())
			a.note("serving %s for %s at %s; Ctrl-C stops", list, a.dataDir, endpoint.Address)
			select {
			case <-ctx.Done():
				return nil
			case err := <-serving.failed():
				return err
			}
		},
	}
	cmd.Flags().StringVar(&list, "roles", "control,rollout,learner", "comma-separated roles to serve")
	cmd.Flags().IntVar(&loops, "loops", 1, "most rollout loops this process holds at once, and most evaluations; each serves one pool of a run")
	a.agent.add(cmd)
	a.addMetricsFlag(cmd)
	faults.addFlags(cmd)
	return cmd
}
