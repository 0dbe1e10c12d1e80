package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels"
)

// measures is true when the proximal policy has to be measured: the program reads it, and the tokens may come
// of other weights than those the step begins with.
func (u Update) measures(batch []Sequence) bool {
	if !u.Program.Reads().Has(kernels.ReadsProximal) || brings(batch) {
		return false
	}
	return u.MeasureProximal || drifted(batch, u.Version-1)
}

// brings is true when the sequences carry proximal log-probabilities of their own.
func brings(batch []Sequence) bool {
	return slices.ContainsFunc(batch, func(s Sequence) bool { return s.Proximal != nil })
}

// drifted is true when some sampled token is known to come of another version than base.
func drifted(batch []Sequence, base int32) bool {
	for _, s := range batch {
		for t, version := range s.Versions {
			if s.Sampled[t] && version != base {
				return true
			}
		}
	}
	return false
}

// measure scores what is trained after the first update, with the weights before it. The part that the first
// update trains needs no pass of its own: its scores in the update are those of the weights before, to the last bit.
func (s *batchStep) measure(ctx context.Context, parts [][]Sequence) error {
	trains := func(part []Sequence) bool { return len(speaking(part, s.update.Program)) > 0 }
	first := slices.IndexFunc(parts, trains)
	if first < 0 {
		return nil
	}
	for i, part := range parts[first+1:] {
		parts[first+1+i] = slices.Clone(part) // the caller's sequences stay as they are
		if err := s.measurePart(ctx, parts[first+1+i]); err != nil {
			return fmt.Errorf("proximal policy: %w", err)
		}
	}
	return nil
}

func (s *batchStep) measurePart(ctx context.Context, part []Sequence) error {
	silent := silencing(s.update.Program)
	var asked []*Sequence
	var tokens []Sequence
	for i := range part {
		if !silent || part[i].speaks() {
			asked, tokens = append(asked, &part[i]), append(tokens, part[i])
		}
	}
	if len(asked) == 0 {
		return nil
	}
	for _, micro := range cut(tokens, s.update.MicroBatchTokens) {
		s.packing.layTokens(micro)
		scores, err := s.Model.Score(ctx, s.packing.packed, s.temperature)
		if err != nil {
			return err
		}
		offsets := s.packing.packed.Offsets
		for i := range micro {
			asked[i].Proximal = slices.Clone(scores.LogProbs[offsets[i]:offsets[i+1]])
		}
		asked = asked[len(micro):]
	}
	return nil
}

// distance is how far the proximal policy is from the one that sampled, over sampled tokens.
type distance struct {
	tokens, k3, largest float64
}

// add counts the tokens of a batch, of which proximal are the log-probabilities at step start.
func (d *distance) add(b kernels.Batch[float32], proximal []float32) {
	d.largest = math.Max(d.largest, 0)
	for t, sampled := range b.Sampled {
		if !sampled {
			continue
		}
		x := float64(proximal[t]) - float64(b.Behavior[t])
		d.tokens++
		d.largest = math.Max(d.largest, math.Abs(x))
		x = math.Max(-kernels.LogRatioBound, math.Min(x, kernels.LogRatioBound))
		d.k3 += math.Exp(x) - 1 - x
	}
}

// ages are how many versions behind base the sampled tokens of a batch are: the mean and the largest. Both are 0
// when the sequences carry no versions.
func ages(batch []Sequence, base int32) (mean float64, largest int) {
	tokens := 0
	for _, s := range batch {
		for t, version := range s.Versions {
			if s.Sampled[t] {
				age := int(base - version)
				tokens++
				mean += float64(age)
				largest = max(largest, age)
			}
		}
	}
	return mean / math.Max(1, float64(tokens)), largest
}
