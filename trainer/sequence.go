package trainer

import (
	"fmt"
	"slices"

	"github.com/turnwise-rl/turnwise/kernels"
)

// Sequence is what the learner sees of one trajectory. Token streams have one entry per token. A stream may
// be nil when the loss program does not read it; where nil means something else its field says so.
type Sequence struct {
	Tokens []int32
	// Sampled is true at tokens that take part in the loss.
	Sampled []bool
	// Turn is the index of a token's turn, −1 where Sampled is false.
	Turn []int32
	// Behavior are the sampling engine's log-probabilities; nil when no policy sampled the sequence.
	Behavior []float32
	// Proximal are the trainer's log-probabilities before the first update of a step. nil means that the learner
	// measures them, or takes those of Behavior, which are the same to the last bit when the engine sampled with
	// the weights the step begins with; see [Update].
	Proximal []float32
	// Reference are the frozen reference policy's log-probabilities; nil means that the learner asks the
	// reference policy when the program reads them.
	Reference []float32
	// Advantage is 0 where Sampled is false.
	Advantage []float32
	// OldValues are the value head's outputs before the first update of a step, Returns the targets of
	// its outputs.
	OldValues, Returns []float32
	// LossWeight multiplies the loss; nil means 1.
	LossWeight []float32
	// CEWeight weighs imitation and ReferenceKLWeight divergence from the reference policy; nil means 0.
	CEWeight, ReferenceKLWeight []float32
	// Versions is the policy version that sampled each token; nil when unknown.
	Versions []int32

	// Pair joins a chosen and a rejected sequence, which carry the same name; "" is unpaired. Chosen is
	// the role.
	Pair   string
	Chosen bool
	// RankScore orders the sequences of one Group; nil when they are not ranked.
	RankScore *float64
	Group     string
	// Outcome is the outcome reward.
	Outcome float64
	// ClipHigh is the sequence's own upper clip bound; nil means the program's.
	ClipHigh *float64
}

// stream is a token stream of a sequence under its name.
type stream struct {
	name  string
	reads kernels.Stream // programs that read these need it; 0 when it may always be left out
	// length is the number of entries, absent whether it is nil.
	length int
	absent bool
}

func (s Sequence) streams() []stream {
	return []stream{
		{"sampled", 0, len(s.Sampled), false}, // of every program
		{"turn", 0, len(s.Turn), false},
		{"behavior", kernels.ReadsBehavior, len(s.Behavior), s.Behavior == nil},
		{"proximal", kernels.ReadsProximal, len(s.anchor()), s.anchor() == nil},
		{"reference", 0, len(s.Reference), s.Reference == nil},
		{"advantage", kernels.ReadsAdvantages, len(s.Advantage), s.Advantage == nil},
		{"old_values", kernels.ReadsOldValues, len(s.OldValues), s.OldValues == nil},
		{"returns", kernels.ReadsReturns, len(s.Returns), s.Returns == nil},
		{"loss_weight", 0, len(s.LossWeight), s.LossWeight == nil},
		{"ce_weight", 0, len(s.CEWeight), s.CEWeight == nil},
		{"reference_kl_weight", 0, len(s.ReferenceKLWeight), s.ReferenceKLWeight == nil},
		{"versions", kernels.ReadsVersions, len(s.Versions), s.Versions == nil},
	}
}

// check reports the first stream that does not fit the tokens, or that a program which reads so much misses.
// behavior says whether the other sequences have behavior log-probabilities.
func (s Sequence) check(reads kernels.Stream, behavior bool) error {
	n := len(s.Tokens)
	switch {
	case n == 0:
		return fmt.Errorf("no tokens")
	case (s.Behavior != nil) != behavior:
		return fmt.Errorf("behavior log-probabilities are present in some sequences and absent in others")
	}
	for _, stream := range s.streams() {
		if stream.absent && (stream.reads == 0 || reads&stream.reads == 0) {
			continue
		}
		if stream.absent {
			return fmt.Errorf("the loss reads %s and this sequence has none", stream.name)
		}
		if stream.length != n {
			return fmt.Errorf("%s has %d entries for %d tokens", stream.name, stream.length, n)
		}
	}
	if reads.Has(kernels.ReadsRankScores) && s.RankScore == nil {
		return fmt.Errorf("the loss reads rank_score and this sequence has none")
	}
	if !slices.Contains(s.Sampled, true) {
		return fmt.Errorf("none of %d tokens is sampled: there is nothing to learn from", n)
	}
	return nil
}

// anchor are the log-probabilities before the first update of a step.
func (s Sequence) anchor() []float32 {
	if s.Proximal != nil {
		return s.Proximal
	}
	return s.Behavior
}

// totals are the sequence's share of the denominators.
func (s Sequence) totals() kernels.Totals {
	offsets := [2]int32{0, int32(len(s.Tokens))}
	return kernels.Count(kernels.Batch[float32]{
		Offsets: offsets[:], Sampled: s.Sampled, LossWeights: s.LossWeight, CEWeights: s.CEWeight, ReferenceKLWeights: s.ReferenceKLWeight,
	})
}
