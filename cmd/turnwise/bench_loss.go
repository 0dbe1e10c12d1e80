package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/bench"
)

func benchLoss(a *app) *cobra.Command {
	var choice methodChoice
	l := bench.Loss{NewEvaluator: newBenchEvaluator}
	cmd := &cobra.Command{
		Use:   "loss --method NAME|-f FILE [key.path=value…]",
		Short: "Measure a method's loss with its gradient",
		Long: "Measure a method's loss with its gradient in float32, on random streams of one batch in which every token is\n" +
			"sampled.",
		Example: "  turnwise bench loss --method grpo\n  turnwise bench loss --method grpo --tokens 1048576 --threads 2 -o json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			method, err := choice.load("bench loss", args)
			if err != nil {
				return err
			}
			l.Method, l.Program = method.Method.Name, method.Method.Loss
			result, err := l.Run(cmd.Context())
			if err != nil {
				return fmt.Errorf("bench loss: %w", err)
			}
			if a.json() {
				return a.printJSON(result)
			}
			list := newTable("", ">MIN", ">MEDIAN", ">MAX")
			list.add(spreadCells("ns a token", result.NSPerToken)...)
			list.write(a.out)
			a.note("%s: %s", result.Method, result.Program)
			a.noteConditions(result.Conditions)
			return nil
		},
	}
	choice.flags(cmd)
	flags := cmd.Flags()
	flags.IntVar(&l.Tokens, "tokens", 1<<20, "tokens of the batch")
	flags.IntVar(&l.Samples, "samples", 11, "how often the time is measured")
	machineFlags(cmd, &l.Machine)
	return cmd
}
