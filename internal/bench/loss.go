package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/turnwise-rl/turnwise/kernels"
)

// LossEvaluator evaluates loss programs as training does.
type LossEvaluator interface {
	Evaluate(p kernels.Program, b kernels.Batch[float32], totals kernels.Totals) (kernels.Result[float32], error)
}

// Loss are the settings of a loss with its gradient over a batch of random streams, every token sampled.
type Loss struct {
	Machine
	// Method is the name of the method whose loss Program is.
	Method  string
	Program kernels.Program
	// NewEvaluator makes what evaluates on so many threads.
	NewEvaluator func(threads int) LossEvaluator
	Tokens       int
	// Samples is how often the time is measured.
	Samples int
}

// LossResult is the time that a loss with its gradient takes.
type LossResult struct {
	Conditions
	Method  string `json:"method"`
	Program string `json:"program"`
	Tokens  int    `json:"tokens"`
	Samples int    `json:"samples"`
	// CallsPerSample is how many evaluations one sample times, so that it is long against the clock.
	CallsPerSample int `json:"calls_per_sample"`
	// NSPerToken is the time of an evaluation over its tokens, in nanoseconds.
	NSPerToken Spread `json:"ns_per_token"`
	// Loss is what came out, which is the same in every evaluation.
	Loss float64 `json:"loss"`
}

const (
	maxLossTokens = 1 << 26
	// tokensPerSequence and tokensPerTurn are those of the random batch.
	tokensPerSequence = 1024
	tokensPerTurn     = 128
)

// Run measures. What the program needs to be compiled is not counted, nor is filling the streams.
func (l Loss) Run(ctx context.Context) (LossResult, error) {
	err := firstError(between("tokens", l.Tokens, 1, maxLossTokens), between("samples", l.Samples, 1, maxSamples), l.Machine.check())
	if err != nil {
		return LossResult{}, err
	}
	defer l.use()()
	batch := randomBatch(l.Program.Reads(), l.Tokens)
	totals, evaluator := kernels.Count(batch), l.NewEvaluator(l.Threads)
	loss := 0.0
	times := func(calls int) (time.Duration, error) {
		start := time.Now()
		for range calls {
			result, err := evaluator.Evaluate(l.Program, batch, totals)
			if err != nil {
				return 0, fmt.Errorf("method %s: %w", l.Method, err)
			}
			loss = result.Loss
		}
		return time.Since(start), stopped(ctx)
	}
	if _, err := times(2); err != nil { // compiles the program; pages and caches
		return LossResult{}, err
	}
	calls, took := 1, time.Duration(0)
	for {
		if took, err = times(calls); err != nil {
			return LossResult{}, err
		}
		if took >= sampleTime/2 {
			break
		}
		calls *= 2
	}
	samples := make([]float64, l.Samples)
	for i := range samples {
		if took, err = times(calls); err != nil {
			return LossResult{}, err
		}
		samples[i] = float64(took.Nanoseconds()) / float64(calls) / float64(l.Tokens)
	}
	return LossResult{
		Conditions: l.conditions(), Method: l.Method, Program: l.Program.String(), Tokens: l.Tokens, Samples: l.Samples,
		CallsPerSample: calls, NSPerToken: spread(samples), Loss: loss,
	}, nil
}

// randomBatch is a batch with the streams that a program reads, and no other: policies that differ by up to 0.3 in
// log-probability, and other values of the size they have in training.
func randomBatch(reads kernels.Stream, tokens int) kernels.Batch[float32] {
	random := rand.New(rand.NewPCG(1, 0x6c6f7373))
	b := kernels.Batch[float32]{Offsets: []int32{0}, Sampled: make([]bool, tokens), LogProbs: uniform(random, tokens), Version: 3}
	for i := range b.Sampled {
		b.Sampled[i] = true
		b.LogProbs[i] = 4*b.LogProbs[i] - 2.3
		if (i+1)%tokensPerSequence == 0 || i+1 == tokens {
			b.Offsets = append(b.Offsets, int32(i+1))
		}
	}
	for _, s := range []struct {
		reads        kernels.Stream
		stream       *[]float32
		near         []float32 // what the values lie around
		scale, shift float32
		n            int
	}{
		{kernels.ReadsAdvantages, &b.Advantages, nil, 4, 0, tokens},
		{kernels.ReadsProximal, &b.Proximal, b.LogProbs, 0.6, 0, tokens},
		{kernels.ReadsBehavior, &b.Behavior, b.LogProbs, 0.6, 0, tokens},
		{kernels.ReadsReference, &b.Reference, b.LogProbs, 0.6, 0, tokens},
		{kernels.ReadsEntropy, &b.Entropy, nil, 2, 1.5, tokens},
		{kernels.ReadsValues, &b.Values, nil, 2, 0, tokens},
		{kernels.ReadsOldValues, &b.OldValues, nil, 2, 0, tokens},
		{kernels.ReadsReturns, &b.Returns, nil, 2, 0, tokens},
		{kernels.ReadsCEWeights, &b.CEWeights, nil, 1, 0.5, tokens},
		{kernels.ReadsReferenceKLWeights, &b.ReferenceKLWeights, nil, 1, 0.5, tokens},
		{kernels.ReadsRankScores, &b.RankScores, nil, 2, 0, b.Sequences()},
		{kernels.ReadsOutcomes, &b.Outcomes, nil, 1, 0.5, b.Sequences()},
	} {
		if !reads.Has(s.reads) {
			continue
		}
		*s.stream = uniform(random, s.n)
		for i := range *s.stream {
			(*s.stream)[i] = s.scale*(*s.stream)[i] + s.shift
			if s.near != nil {
				(*s.stream)[i] += s.near[i]
			}
		}
	}
	numberTurnsAndPairs(&b, reads, random)
	return b
}

// numberTurnsAndPairs fills the streams of whole numbers: short turns, versions, pairs of neighbors and groups of eight.
func numberTurnsAndPairs(b *kernels.Batch[float32], reads kernels.Stream, random *rand.Rand) {
	if reads.Has(kernels.ReadsTurns) {
		b.Turn = make([]int32, b.Tokens())
		for i := range b.Turn {
			b.Turn[i] = int32(i % tokensPerSequence / tokensPerTurn)
		}
	}
	if reads.Has(kernels.ReadsVersions) {
		b.Versions = make([]int32, b.Tokens())
		for i := range b.Versions {
			b.Versions[i] = b.Version - int32(random.IntN(3))
		}
	}
	if reads.Has(kernels.ReadsRankScores) {
		b.Group = make([]int32, b.Sequences())
		for i := range b.Group {
			b.Group[i] = int32(i / 8)
		}
	}
	if reads.Has(kernels.ReadsPairs) {
		b.Pair, b.Chosen = make([]int32, b.Sequences()), make([]bool, b.Sequences())
		for i := range b.Pair {
			b.Pair[i], b.Chosen[i] = int32(i/2), i%2 == 0
		}
		if n := len(b.Pair); n%2 == 1 {
			b.Pair[n-1] = -1
		}
	}
}
