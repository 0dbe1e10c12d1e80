package randombatch

import (
	"math"

	"github.com/turnwise-rl/turnwise/kernels"

	"pgregory.net/rapid"
)

// Batch draws a batch with every stream that a program may need; those it may do without are absent at times. Tokens
// that are not sampled hold NaN. Sequences may be empty or have no sampled token. One batch in five has log-ratios
// beyond the clamp.
func Batch(t *rapid.T) kernels.Batch[float64] {
	b := kernels.Batch[float64]{Offsets: []int32{0}}
	for range rapid.IntRange(0, 6).Draw(t, "sequences") {
		drawTurns(t, &b)
		b.Offsets = append(b.Offsets, int32(len(b.Sampled)))
	}
	drawTokens(t, &b)
	drawSequences(t, &b)
	return b
}

// drawTurns appends the tokens of one sequence: which are sampled, and in which turn.
func drawTurns(t *rapid.T, b *kernels.Batch[float64]) {
	turn, before := int32(-1), false
	for range rapid.IntRange(0, 9).Draw(t, "tokens") {
		sampled := rapid.IntRange(0, 3).Draw(t, "sampled") > 0
		b.Sampled = append(b.Sampled, sampled)
		if sampled && !before {
			turn++
		}
		before = sampled
		if sampled {
			b.Turn = append(b.Turn, turn)
		} else {
			b.Turn = append(b.Turn, -1)
		}
	}
}

func drawTokens(t *rapid.T, b *kernels.Batch[float64]) {
	b.LogProbs = stream(t, b, "logprob", rapid.Float64Range(-6, 0))
	drift := rapid.Float64Range(-0.6, 0.6)
	if oneIn(t, 5, "wild") {
		drift = rapid.Float64Range(-25, 25)
	}
	near := func(label string, at []float64, distance *rapid.Generator[float64]) []float64 {
		values := stream(t, b, label, distance)
		for i := range values {
			values[i] += at[i]
		}
		return values
	}
	b.Proximal, b.Behavior, b.Reference = near("proximal", b.LogProbs, drift), near("behavior", b.LogProbs, drift), near("reference", b.LogProbs, drift)
	b.Entropy = stream(t, b, "entropy", rapid.Float64Range(0, 4))
	b.Values = stream(t, b, "value", rapid.Float64Range(-2, 2))
	b.OldValues = near("old value", b.Values, rapid.Float64Range(-0.6, 0.6))
	b.Returns = stream(t, b, "return", rapid.Float64Range(-2, 2))
	b.Advantages = stream(t, b, "advantage", rapid.Float64Range(-3, 3))
	// Sums of tiny weights would be denominators that magnify everything.
	weight := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.1, 2), rapid.Float64Range(0.1, 2))
	if !oneIn(t, 4, "no loss weights") {
		b.LossWeights = stream(t, b, "loss weight", weight)
	}
	if oneIn(t, 6, "no imitation") {
		weight = rapid.Just(0.0)
	}
	b.CEWeights, b.ReferenceKLWeights = stream(t, b, "ce weight", weight), stream(t, b, "reference kl weight", weight)
	b.Version = int32(rapid.IntRange(0, 6).Draw(t, "version"))
	for range b.Sampled {
		b.Versions = append(b.Versions, int32(rapid.IntRange(0, 6).Draw(t, "sampled by")))
	}
}

// drawSequences draws what belongs to sequences. Pairs join any two with a sampled token.
func drawSequences(t *rapid.T, b *kernels.Batch[float64]) {
	n := b.Sequences()
	b.Pair, b.Chosen = make([]int32, n), make([]bool, n)
	b.RankScores, b.Outcomes = make([]float64, n), make([]float64, n)
	var live []int
	for i := range n {
		b.Pair[i], b.Chosen[i] = -1, rapid.Bool().Draw(t, "chosen")
		b.RankScores[i] = float64(rapid.IntRange(0, 3).Draw(t, "rank score"))
		b.Outcomes[i] = rapid.Float64Range(-1, 1).Draw(t, "outcome")
		for at := b.Offsets[i]; at < b.Offsets[i+1]; at++ {
			if b.Sampled[at] {
				live = append(live, i)
				break
			}
		}
	}
	if len(live) > 1 {
		live = rapid.Permutation(live).Draw(t, "pairs")
	}
	for k := 0; k+1 < len(live) && rapid.IntRange(0, 3).Draw(t, "another pair") > 0; k += 2 {
		b.Pair[live[k]], b.Pair[live[k+1]] = int32(7-k), int32(7-k)
		b.Chosen[live[k]], b.Chosen[live[k+1]] = true, false
	}
	if rapid.Bool().Draw(t, "groups") {
		b.Group = make([]int32, n)
		for i := range b.Group {
			b.Group[i] = int32(rapid.IntRange(0, 2).Draw(t, "group"))
		}
	}
	if oneIn(t, 3, "bounds of their own") {
		b.ClipHigh = make([]float64, n)
		for i := range b.ClipHigh {
			b.ClipHigh[i] = pick(t, "clip high", []float64{0.1, 0.3, 1})
		}
	}
}

func stream(t *rapid.T, b *kernels.Batch[float64], label string, values *rapid.Generator[float64]) []float64 {
	out := make([]float64, len(b.Sampled))
	for i := range out {
		out[i] = math.NaN()
		if b.Sampled[i] {
			out[i] = values.Draw(t, label)
		}
	}
	return out
}
