package trainer

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// Sequence is what the learner sees of one trajectory. All slices have one entry per token.
type Sequence struct {
	Tokens []int32
	// Sampled is true at tokens that take part in the loss.
	Sampled []bool
	// Turn is the index of a token's turn, −1 where Sampled is false.
	Turn []int32
	// Behavior are the sampling engine's log-probabilities; nil when no policy sampled the sequence.
	Behavior []float32
	// Advantage is 0 where Sampled is false.
	Advantage []float32
	// LossWeight multiplies the loss; nil means 1.
	LossWeight []float32
}

func (s Sequence) check() error {
	n := len(s.Tokens)
	if n == 0 {
		return fmt.Errorf("no tokens")
	}
	streams := []struct {
		name   string
		length int
		absent bool
	}{
		{"sampled", len(s.Sampled), false},
		{"turn", len(s.Turn), false},
		{"behavior", len(s.Behavior), s.Behavior == nil},
		{"advantage", len(s.Advantage), false},
		{"loss_weight", len(s.LossWeight), s.LossWeight == nil},
	}
	for _, stream := range streams {
		if stream.length != n && !stream.absent {
			return fmt.Errorf("%s has %d entries for %d tokens", stream.name, stream.length, n)
		}
	}
	if !slices.Contains(s.Sampled, true) {
		return fmt.Errorf("none of %d tokens is sampled: there is nothing to learn from", n)
	}
	return nil
}

// totals are the sequence's share of the denominators.
func (s Sequence) totals() kernels.Totals {
	var totals kernels.Totals
	for _, sampled := range s.Sampled {
		if sampled {
			totals.Tokens++
		}
	}
	if totals.Tokens > 0 {
		totals.Sequences = 1
	}
	return totals
}

// cut divides sequences into consecutive micro-batches of at most limit tokens; a longer sequence
// stands alone.
func cut(sequences []Sequence, limit int) [][]Sequence {
	var out [][]Sequence
	start, tokens := 0, 0
	for i, s := range sequences {
		if i > start && tokens+len(s.Tokens) > limit {
			out = append(out, sequences[start:i])
			start, tokens = i, 0
		}
		tokens += len(s.Tokens)
	}
	return append(out, sequences[start:])
}

// pack lays sequences end to end, for the network and for the loss.
func pack(sequences []Sequence) (policy.Packed, kernels.Batch[float32]) {
	packed := policy.Packed{Offsets: make([]int32, 1, len(sequences)+1)}
	var batch kernels.Batch[float32]
	weighted, behaved := false, true
	for _, s := range sequences {
		weighted = weighted || s.LossWeight != nil
		behaved = behaved && s.Behavior != nil
	}
	for _, s := range sequences {
		packed.Tokens = append(packed.Tokens, s.Tokens...)
		packed.Offsets = append(packed.Offsets, int32(len(packed.Tokens)))
		batch.Sampled = append(batch.Sampled, s.Sampled...)
		batch.Turn = append(batch.Turn, s.Turn...)
		batch.Advantages = append(batch.Advantages, s.Advantage...)
		if behaved {
			batch.Behavior = append(batch.Behavior, s.Behavior...)
		}
		if weighted {
			batch.LossWeights = append(batch.LossWeights, weights(s)...)
		}
	}
	batch.Offsets = packed.Offsets
	return packed, batch
}

func weights(s Sequence) []float32 {
	if s.LossWeight != nil {
		return s.LossWeight
	}
	ones := make([]float32, len(s.Tokens))
	for t := range ones {
		ones[t] = 1
	}
	return ones
}
