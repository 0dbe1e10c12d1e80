package randombatch

import "github.com/turnwise-rl/turnwise/kernels"

// Repeat is a batch several times after itself, as many sequences of its own; pairs and groups stay within a copy.
func Repeat(b kernels.Batch[float64], times int) kernels.Batch[float64] {
	out := b
	out.Offsets, out.Pair, out.Group = []int32{0}, nil, nil
	for _, s := range tokenStreams(&out) {
		*s = repeated(*s, times)
	}
	for _, s := range []*[]float64{&out.RankScores, &out.Outcomes, &out.ClipHigh} {
		*s = repeated(*s, times)
	}
	out.Sampled, out.Turn, out.Versions, out.Chosen = repeated(b.Sampled, times), repeated(b.Turn, times), repeated(b.Versions, times), repeated(b.Chosen, times)
	for k := range int32(times) {
		for _, offset := range b.Offsets[1:] {
			out.Offsets = append(out.Offsets, k*int32(b.Tokens())+offset)
		}
		for i := range b.Sequences() {
			if b.Pair != nil {
				out.Pair = append(out.Pair, renumbered(b.Pair[i], k))
			}
			switch {
			case b.Group != nil:
				out.Group = append(out.Group, renumbered(b.Group[i], k))
			case b.RankScores != nil:
				out.Group = append(out.Group, k)
			}
		}
	}
	return out
}

// renumbered is a number of a copy's own; copies have fewer than a thousand numbers.
func renumbered(number, copy int32) int32 {
	if number < 0 {
		return number
	}
	return copy*1000 + number
}

func repeated[V any](values []V, times int) []V {
	if values == nil {
		return nil
	}
	out := make([]V, 0, len(values)*times)
	for range times {
		out = append(out, values...)
	}
	return out
}

// AllSampled is a batch whose every token is sampled: the others get numbers too, and the turn before them.
func AllSampled(b kernels.Batch[float64]) kernels.Batch[float64] {
	out := b
	for _, s := range tokenStreams(&out) {
		*s = append([]float64(nil), *s...)
	}
	out.Sampled, out.Turn = make([]bool, b.Tokens()), append([]int32(nil), b.Turn...)
	for i := range b.Sequences() {
		turn := int32(0)
		for t := b.Offsets[i]; t < b.Offsets[i+1]; t++ {
			out.Sampled[t] = true
			if b.Sampled[t] {
				turn = b.Turn[t]
				continue
			}
			out.Turn[t] = turn
			for _, s := range tokenStreams(&out) {
				if *s != nil {
					(*s)[t] = -1 / float64(t+2)
				}
			}
		}
	}
	return out
}
