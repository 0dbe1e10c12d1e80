package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/batchfile"
)

func lossVerb(a *app) *cobra.Command {
	var choice methodChoice
	var path string
	cmd := &cobra.Command{
		Use:   "loss --method NAME|-f FILE [key.path=value…] [--batch FILE]",
		Short: "Evaluate a method's loss and its gradient on given log-probabilities",
		Long: "Evaluate a method's loss and its gradient on given log-probabilities (turnwise.batch/v1), in float64 and by the\n" +
			"code that training runs. Without --batch the batches come from standard input: one JSON object, or several after\n" +
			"one another. Each gives one line of JSON.",
		Example: "  turnwise loss --method dr-grpo --batch batch.json\n" +
			"  turnwise loss --method grpo loss.objective.clip_high=0.28 < batches.jsonl",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			method, err := choice.load("loss", args)
			if err != nil {
				return err
			}
			in, name, err := a.openInput("--batch", path)
			if err != nil {
				return err
			}
			defer in.Close()
			return a.evaluateLosses(method.Method.Loss, in, name)
		},
	}
	choice.flags(cmd)
	cmd.Flags().StringVar(&path, "batch", "", "file with batches; standard input when not given")
	return cmd
}

// lossResult is the loss of one batch.
type lossResult struct {
	Loss float64 `json:"loss"`
	// DLogProbs, DEntropy and DValues are the derivatives of the loss: sequences, then tokens. Nil when
	// the loss does not depend on the stream.
	DLogProbs [][]float64 `json:"d_logprobs"`
	DEntropy  [][]float64 `json:"d_entropy"`
	DValues   [][]float64 `json:"d_values"`
	Metrics   lossMetrics `json:"metrics"`
}

// lossMetrics describe a batch by means over its sampled tokens; nil where there is nothing to take a
// mean of.
type lossMetrics struct {
	ClipRatio    *float64 `json:"clip_ratio"`
	BehaviorKL   *float64 `json:"kl_behavior_k3"`
	RatioMean    *float64 `json:"ratio_mean"`
	KeptRatio    *float64 `json:"kept_ratio"`
	WeightMean   *float64 `json:"weight_mean"` // off-policy weights, over kept tokens
	ReferenceKL  *float64 `json:"reference_kl"`
	Entropy      *float64 `json:"entropy"`
	ValueError   *float64 `json:"value_error"`
	PairAccuracy *float64 `json:"pair_accuracy"` // share of pairs whose chosen sequence has the larger margin
	Tokens       int      `json:"tokens"`
	Sequences    int      `json:"sequences"`
}

// evaluateLosses prints one result a batch.
func (a *app) evaluateLosses(program kernels.Program, in io.Reader, name string) error {
	reader, evaluator := batchfile.NewReader(in, name), newLossEvaluator()
	for count := 0; ; count++ {
		batch, err := reader.Next()
		if err == io.EOF && count == 0 {
			return usagef("%s: no batch: one JSON object a batch is wanted, with \"schema\":%q", name, batchfile.Schema)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return usageError{err}
		}
		bound, _ := program.OwnBound()
		batch.FillClipHigh(bound)
		if err := checkLoss(program, batch); err != nil {
			return usagef("%s:%d: %w", name, batch.Line, err)
		}
		result, err := evaluator.Evaluate(program, batch.Batch, kernels.Count(batch.Batch))
		if err != nil {
			return fmt.Errorf("%s:%d: %w", name, batch.Line, err)
		}
		place := fmt.Sprintf("%s:%d", name, batch.Line)
		if err := a.printFinite(place, newLossResult(program, batch, result)); err != nil {
			return err
		}
	}
}

// checkLoss reports what the program needs and the batch lacks.
func checkLoss(program kernels.Program, batch batchfile.Batch) error {
	if err := batch.Check(program, kernels.Count(batch.Batch)); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "batch: "))
	}
	if program.Reads().Has(kernels.ReadsVersions) && !batch.HasVersion {
		return fmt.Errorf("version is missing, and the program needs it (anchor %s): the policy version that is being trained", program.Anchor)
	}
	return nil
}

func newLossResult(program kernels.Program, batch batchfile.Batch, r kernels.Result[float64]) lossResult {
	m, count := r.Metrics, kernels.Count(batch.Batch)
	out := lossResult{
		Loss: r.Loss, DLogProbs: bySequence(batch, r.DLogProbs), DEntropy: bySequence(batch, r.DEntropy), DValues: bySequence(batch, r.DValues),
		Metrics: lossMetrics{
			ClipRatio: share(m.Clipped, m.Tokens), RatioMean: share(m.RatioSum, m.Tokens), KeptRatio: share(m.Kept, m.Tokens),
			WeightMean: share(m.WeightSum, m.Kept), PairAccuracy: share(m.Ordered, m.Pairs), Tokens: count.Tokens, Sequences: batch.Sequences(),
		},
	}
	if batch.Behavior != nil {
		out.Metrics.BehaviorKL = share(m.BehaviorK3Sum, m.Tokens)
	}
	if program.Reads().Has(kernels.ReadsReference) {
		out.Metrics.ReferenceKL = share(m.ReferenceKLSum, m.Tokens)
	}
	if batch.Entropy != nil {
		out.Metrics.Entropy = share(m.EntropySum, m.Tokens)
	}
	if program.Reads().Has(kernels.ReadsValues) {
		out.Metrics.ValueError = share(m.ValueErrorSum, m.Tokens)
	}
	return out
}

// share is a mean; nil when there is nothing to take it of.
func share(sum, n float64) *float64 {
	if n == 0 {
		return nil
	}
	mean := sum / n
	return &mean
}

// bySequence cuts a stream at the ends of the sequences; nil stays nil.
func bySequence(batch batchfile.Batch, stream []float64) [][]float64 {
	if stream == nil {
		return nil
	}
	out := make([][]float64, batch.Sequences())
	for i := range out {
		out[i] = stream[batch.Offsets[i]:batch.Offsets[i+1]]
		for t := range out[i] {
			out[i][t] += 0 // −0 is 0
		}
	}
	return out
}
