package graph

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"

	G "gorgonia.org/gorgonia"
)

// accepted is 1 where the drift stays within bounds:
//
//	k1: Low ≤ e^x ≤ High, x the token's, Σ x or mean x;  k2: x²/2 ≤ High;  k3: e^x − 1 − x ≤ High, the same of their
//	token, sum, mean or maximum
//
// verl docs/algo/rollout_corr_math.md.
func accepted(b *builder, c kernels.Reject, in inputs) *G.Node {
	if c.Estimator == kernels.DriftK1 {
		return b.inside(drifted(b, levelOf(c.Level), in), c.Low, c.High)
	}
	k := b.scale(0.5, b.square(in.drift))
	if c.Estimator == kernels.DriftK3 {
		k = b.shift(b.sub(b.exp(in.drift), in.drift), -1)
	}
	switch c.Level {
	case kernels.RejectSequenceSum:
		k = b.segmentSum(sequences, k)
	case kernels.RejectSequenceMean:
		k = b.segmentMean(sequences, k)
	case kernels.RejectSequenceMax:
		k = b.segmentMax(sequences, k)
	}
	return b.inside(k, math.Inf(-1), c.High)
}

// levelOf is what the ratio of k1 belongs to.
func levelOf(level kernels.RejectLevel) kernels.CorrectionLevel {
	switch level {
	case kernels.RejectSequenceSum:
		return kernels.LevelSequence
	case kernels.RejectSequenceMean:
		return kernels.LevelSequenceGeometric
	}
	return kernels.LevelToken
}
