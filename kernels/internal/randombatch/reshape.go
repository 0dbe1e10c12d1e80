package randombatch

import (
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels"
)

// Sequence is sequence i of a batch as a batch.
func Sequence[T kernels.Float](b kernels.Batch[T], i int) kernels.Batch[T] {
	return Sequences(b, i, i+1)
}

// Sequences are the sequences first..last of a batch, without last, as a batch.
func Sequences[T kernels.Float](b kernels.Batch[T], first, last int) kernels.Batch[T] {
	from, to := int(b.Offsets[first]), int(b.Offsets[last])
	offsets := make([]int32, 0, last-first+1)
	for _, offset := range b.Offsets[first : last+1] {
		offsets = append(offsets, offset-b.Offsets[first])
	}
	return reshape(b, offsets, from, to, first, last)
}

// Joined lays batches with the same streams end to end.
func Joined[T kernels.Float](batches ...kernels.Batch[T]) kernels.Batch[T] {
	out := kernels.Batch[T]{Offsets: []int32{0}}
	for _, b := range batches {
		at := int32(out.Tokens())
		for _, end := range b.Offsets[1:] {
			out.Offsets = append(out.Offsets, at+end)
		}
		out.Version = b.Version
		into, from := append(tokenStreams(&out), sequenceStreams(&out)...), append(tokenStreams(&b), sequenceStreams(&b)...)
		for i := range into {
			*into[i] = append(*into[i], *from[i]...)
		}
		out.Sampled, out.Chosen = append(out.Sampled, b.Sampled...), append(out.Chosen, b.Chosen...)
		out.Turn, out.Versions = append(out.Turn, b.Turn...), append(out.Versions, b.Versions...)
		out.Pair, out.Group = append(out.Pair, b.Pair...), append(out.Group, b.Group...)
	}
	return out
}

// Padded is a batch with n tokens that are not sampled behind every sequence, and where the tokens of the batch went.
func Padded(b kernels.Batch[float64], n int) (padded kernels.Batch[float64], positions []int) {
	var pieces []kernels.Batch[float64]
	at := 0
	for i := range b.Sequences() {
		piece := Sequence(b, i)
		tokens := piece.Tokens()
		for t := range tokens {
			positions = append(positions, at+t)
		}
		at += tokens + n
		piece.Offsets = []int32{0, int32(tokens + n)}
		for range n {
			for _, s := range tokenStreams(&piece) {
				if *s != nil {
					*s = append(*s, math.NaN())
				}
			}
			piece.Sampled, piece.Turn, piece.Versions = append(piece.Sampled, false), append(piece.Turn, -1), append(piece.Versions, 0)
		}
		pieces = append(pieces, piece)
	}
	return Joined(pieces...), positions
}

// reshape is a batch with other offsets and with tokens from..to and sequences first..last of every stream.
func reshape[T kernels.Float](b kernels.Batch[T], offsets []int32, from, to, first, last int) kernels.Batch[T] {
	out := b
	out.Offsets = offsets
	for _, s := range tokenStreams(&out) {
		*s = part(*s, from, to)
	}
	for _, s := range sequenceStreams(&out) {
		*s = part(*s, first, last)
	}
	out.Sampled, out.Turn, out.Versions = part(b.Sampled, from, to), part(b.Turn, from, to), part(b.Versions, from, to)
	out.Pair, out.Chosen, out.Group = part(b.Pair, first, last), part(b.Chosen, first, last), part(b.Group, first, last)
	return out
}

func part[V any](values []V, from, to int) []V {
	if values == nil {
		return nil
	}
	return values[from:to:to]
}

// tokenStreams are the float token streams of a batch, those that are absent included.
func tokenStreams[T kernels.Float](b *kernels.Batch[T]) []*[]T {
	return []*[]T{
		&b.LogProbs, &b.Proximal, &b.Behavior, &b.Reference, &b.Entropy, &b.Values, &b.OldValues, &b.Returns, &b.Advantages,
		&b.LossWeights, &b.CEWeights, &b.ReferenceKLWeights,
	}
}

// sequenceStreams are the float sequence streams.
func sequenceStreams[T kernels.Float](b *kernels.Batch[T]) []*[]T {
	return []*[]T{&b.RankScores, &b.Outcomes, &b.ClipHigh}
}

// Rounded is a batch in single precision, and the same numbers in double.
func Rounded(b kernels.Batch[float64]) (kernels.Batch[float32], kernels.Batch[float64]) {
	narrow := kernels.Batch[float32]{
		Offsets: b.Offsets, Sampled: b.Sampled, Turn: b.Turn, Versions: b.Versions, Version: b.Version,
		Pair: b.Pair, Chosen: b.Chosen, Group: b.Group,
	}
	wide := b
	pairs := func(narrow *[]float32, wide *[]float64) {
		if *wide == nil {
			return
		}
		n, w := make([]float32, len(*wide)), make([]float64, len(*wide))
		for i, v := range *wide {
			n[i] = float32(v)
			w[i] = float64(n[i])
		}
		*narrow, *wide = n, w
	}
	n, w := append(tokenStreams(&narrow), sequenceStreams(&narrow)...), append(tokenStreams(&wide), sequenceStreams(&wide)...)
	for i := range n {
		pairs(n[i], w[i])
	}
	return narrow, wide
}

// Junk replaces every value at tokens that are not sampled.
func Junk(b kernels.Batch[float64], value float64) kernels.Batch[float64] {
	out := b
	for _, s := range tokenStreams(&out) {
		if *s == nil {
			continue
		}
		values := slices.Clone(*s)
		for i, sampled := range b.Sampled {
			if !sampled {
				values[i] = value
			}
		}
		*s = values
	}
	return out
}
