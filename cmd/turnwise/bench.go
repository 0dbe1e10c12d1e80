package main

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/internal/bench"
)

func benchVerb(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench WHAT",
		Short: "Measure how fast this machine computes",
		Long: "Measure how fast this machine multiplies matrices, trains a policy, samples from it and evaluates a loss, on\n" +
			"random weights and tokens. A warm-up comes first and is not counted.",
		Example: "  turnwise bench train\n  turnwise bench gemm --m 512 --n 512 --k 512 --threads 1 -o json",
		Args:    cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("bench %s: know gemm, train, generate, loss and orchestrate; see `turnwise bench --help`", args[0])
			}
			return usagef("bench takes what to measure: gemm, train, generate, loss or orchestrate; see `turnwise bench --help`")
		},
	}
	cmd.AddCommand(benchGemm(a), benchTrain(a), benchGenerate(a), benchLoss(a), benchOrchestrate(a))
	return cmd
}

// measureCommand is one thing to measure; run measures with the flags' values and prints the result.
func measureCommand(name, short, long, example string, run func(context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short, Long: long, Example: example, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("bench %s takes flags only, got %q", name, args[0])
			}
			if err := run(cmd.Context()); err != nil {
				return fmt.Errorf("bench %s: %w", name, err)
			}
			return nil
		},
	}
}

func benchGemm(a *app) *cobra.Command {
	var g bench.Gemm
	cmd := measureCommand("gemm", "Measure a matrix product",
		"Measure the matrix product C = A·B in float32, A [m × k], B [k × n]. B is packed in every call.",
		"  turnwise bench gemm\n  turnwise bench gemm --m 16 --n 512 --k 512 --transpose-b --threads 2 -o json",
		func(ctx context.Context) error {
			result, err := g.Run(ctx)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(result)
			}
			list := newTable("", ">MIN", ">MEDIAN", ">MAX")
			list.add(spreadCells("GFLOP/s", result.GFLOPS)...)
			list.write(a.out)
			a.noteConditions(result.Conditions)
			return nil
		})
	flags := cmd.Flags()
	flags.IntVar(&g.M, "m", 512, "rows of A and C")
	flags.IntVar(&g.N, "n", 512, "columns of B and C")
	flags.IntVar(&g.K, "k", 512, "columns of A, rows of B")
	flags.BoolVar(&g.TransposeB, "transpose-b", false, "B is stored [n × k], as weights are")
	flags.IntVar(&g.Samples, "samples", 11, "how often the rate is measured")
	machineFlags(cmd, &g.Machine)
	return cmd
}

func benchTrain(a *app) *cobra.Command {
	t := bench.Train{PeakBytes: func() int64 { return peakRSS(os.Getpid()) }}
	cmd := measureCommand("train", "Measure a training step",
		"Measure a training step: forward, cross-entropy over every token, backward and AdamW.",
		"  turnwise bench train\n  turnwise bench train --layers 6 --hidden 256 --heads 8 --kv-heads 4 --ffn 768 --vocab 4096 --batch 8 --seq 512 -o json",
		func(ctx context.Context) error {
			result, err := t.Run(ctx)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(result)
			}
			a.printTrain(result)
			return nil
		})
	flags := cmd.Flags()
	shapeFlags(cmd, &t.Shape, "tokens of a sequence")
	flags.StringVar(&t.DType, "dtype", "f32", "type of weights and arithmetic: f32")
	flags.IntVar(&t.Steps, "steps", 10, "how many steps are timed")
	machineFlags(cmd, &t.Machine)
	return cmd
}

func benchGenerate(a *app) *cobra.Command {
	var g bench.Generate
	cmd := measureCommand("generate", "Measure sampling",
		"Measure sampling: a batch of prompts that arrive at once, each continued at temperature 1.",
		"  turnwise bench generate\n  turnwise bench generate --batch 64 --prompt 32 --new 96 --threads 2 -o json",
		func(ctx context.Context) error {
			result, err := g.Run(ctx)
			if err != nil {
				return err
			}
			if a.json() {
				return a.printJSON(result)
			}
			list := newTable("", ">MIN", ">MEDIAN", ">MAX")
			list.add(spreadCells("round ms", result.RoundMS)...)
			list.write(a.out)
			a.print("\nsampled       %s tokens/s\nfirst token   %s ms after the batch came\n",
				thousands(int(result.TokensPerSecond)), number(result.TimeToFirstTokenMS))
			a.noteConditions(result.Conditions)
			return nil
		})
	flags := cmd.Flags()
	shapeFlags(cmd, &g.Shape, "the longest context the sampler is made for")
	flags.IntVar(&g.Prompt, "prompt", 32, "tokens of a prompt")
	flags.IntVar(&g.New, "new", 96, "tokens sampled after each prompt")
	flags.IntVar(&g.Rounds, "rounds", 5, "how often the batch is sampled")
	machineFlags(cmd, &g.Machine)
	return cmd
}

func machineFlags(cmd *cobra.Command, m *bench.Machine) {
	flags := cmd.Flags()
	flags.StringVar(&m.Device, "device", "cpu", "what computes: cpu")
	flags.IntVar(&m.Threads, "threads", runtime.GOMAXPROCS(0), "the most cores used at a time")
}

// shapeFlags are a small policy's by default; seq says what the length of a sequence means.
func shapeFlags(cmd *cobra.Command, s *bench.Shape, seq string) {
	flags := cmd.Flags()
	flags.IntVar(&s.Layers, "layers", 4, "blocks of the network")
	flags.IntVar(&s.Hidden, "hidden", 128, "width of the residual stream")
	flags.IntVar(&s.Heads, "heads", 4, "query heads")
	flags.IntVar(&s.KVHeads, "kv-heads", 2, "key and value heads")
	flags.IntVar(&s.HeadDim, "head-dim", 32, "width of a head")
	flags.IntVar(&s.FFN, "ffn", 384, "inner width of the feed-forward part")
	flags.IntVar(&s.Vocab, "vocab", 512, "token ids")
	flags.IntVar(&s.Batch, "batch", 16, "sequences at once")
	flags.IntVar(&s.Seq, "seq", 256, seq)
}

func spreadCells(name string, s bench.Spread) []string {
	return []string{name, number(s.Min), number(s.Median), number(s.Max)}
}

func (a *app) printTrain(r bench.TrainResult) {
	list := newTable("", ">MIN", ">MEDIAN", ">MAX")
	list.add(spreadCells("step ms", r.StepMS)...)
	list.write(a.out)
	a.print("\ntrained       %s tokens/s\nallocations   %s a step, %s KiB\n", thousands(int(r.TokensPerSecond)),
		number(r.AllocationsPerStep), number(r.AllocatedBytesPerStep/1024))
	a.print("loss          %s, then %s\n\n", number(r.FirstLoss), number(r.LastLoss))
	memory := newTable("MEMORY", ">MIB")
	for _, row := range []struct {
		name  string
		bytes int64
	}{
		{"parameters", r.Accounted.Parameters}, {"optimizer", r.Accounted.Optimizer}, {"gradients", r.Accounted.Gradients},
		{"activations", r.Accounted.Activations}, {"accounted", r.Accounted.Total}, {"workspace", r.WorkspaceBytes},
		{"device peak", r.DevicePeakBytes}, {"process peak", r.PeakBytes},
	} {
		memory.add(row.name, number(float64(row.bytes)/(1<<20)))
	}
	memory.write(a.out)
	a.note("training took %s × what is accounted for at its peak; the program itself takes %s MiB besides", number(r.PeakRatio), number(float64(r.ProcessBytes)/(1<<20)))
	a.noteConditions(r.Conditions)
}

func (a *app) noteConditions(c bench.Conditions) {
	a.note("on %s (%s), %s", c.Device, c.ISA, plural(c.Threads, "thread"))
}
