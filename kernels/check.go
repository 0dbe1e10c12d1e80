package kernels

import (
	"fmt"
	"slices"
)

// Check reports the first way in which the batch cannot be evaluated by p with these totals: a stream
// that p needs and that is nil, a stream of the wrong length, offsets, turns or pairs out of order, a value
// at a sampled token that is not finite, or totals that do not fit the batch. Values where Sampled is
// false are never looked at.
func (b Batch[T]) Check(p Program, totals Totals) error {
	for _, check := range []func() error{
		b.checkShape, func() error { return b.checkNeeds(p) }, b.checkValues, b.checkTurns, b.checkSequences,
		func() error { return totals.Check(p, Count(b)) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckLayout is the part of [Batch.Check] that looks at no value of a token stream and no totals, for an evaluator
// that meets the values on its way.
func (b Batch[T]) CheckLayout(p Program) error {
	for _, check := range []func() error{
		b.checkShape, func() error { return b.checkNeeds(p) }, b.checkTurns, b.checkSequences,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// Check reports totals of an update that do not fit one of its batches, which counts to count.
func (t Totals) Check(p Program, count Totals) error {
	if t.Tokens < count.Tokens || t.Sequences < count.Sequences {
		return fmt.Errorf("batch: totals count %d tokens in %d sequences, the batch alone has %d in %d: add up Count over all micro-batches of the update",
			t.Tokens, t.Sequences, count.Tokens, count.Sequences)
	}
	if p.Scope() == WholeUpdate && (t.Tokens != count.Tokens || t.Sequences != count.Sequences) {
		return fmt.Errorf("batch: %d of %d tokens: the program compares sequences of the whole update, so that it must be evaluated in one piece", count.Tokens, t.Tokens)
	}
	batch := count.divisors(p)
	for i, d := range t.divisors(p) {
		if d.sum == 0 && batch[i].sum != 0 {
			return fmt.Errorf("batch: totals sum %s to 0, the batch alone to %v: add up Count over all micro-batches of the update", d.name, batch[i].sum)
		}
	}
	return nil
}

// divisor is a sum of weights that a program divides by.
type divisor struct {
	name string
	sum  float64
}

func (t Totals) divisors(p Program) []divisor {
	var out []divisor
	if p.Aggregate == WeightedMean {
		out = append(out, divisor{"loss_weights", t.LossWeight})
	}
	if p.Reads().Has(ReadsCEWeights) {
		out = append(out, divisor{"ce_weights", t.CEWeight})
	}
	if p.Reads().Has(ReadsReferenceKLWeights) {
		out = append(out, divisor{"reference_kl_weights", t.ReferenceKLWeight})
	}
	return out
}

// Weightless is true when the totals sum to 0 a stream of weights that p divides by, which is right only where all those
// weights are 0. An evaluator that does not use [Batch.Check] has to look.
func (t Totals) Weightless(p Program) bool {
	return slices.ContainsFunc(t.divisors(p), func(d divisor) bool { return d.sum == 0 })
}

// TokenStreams are the float streams that the batch has, one value per token each.
func (b Batch[T]) TokenStreams() [][]T {
	var out [][]T
	for _, s := range b.tokenStreams() {
		if s.values != nil {
			out = append(out, s.values)
		}
	}
	return out
}

// stream is a float stream of a batch under its name in the batch format.
type stream[T Float] struct {
	name   string
	reads  Stream
	values []T
}

func (b Batch[T]) tokenStreams() []stream[T] {
	return []stream[T]{
		{"logprobs", 0, b.LogProbs},
		{"proximal", ReadsProximal, b.Proximal},
		{"behavior", ReadsBehavior, b.Behavior},
		{"reference", ReadsReference, b.Reference},
		{"entropy", ReadsEntropy, b.Entropy},
		{"values", ReadsValues, b.Values},
		{"old_values", ReadsOldValues, b.OldValues},
		{"returns", ReadsReturns, b.Returns},
		{"advantages", ReadsAdvantages, b.Advantages},
		{"loss_weights", 0, b.LossWeights},
		{"ce_weights", ReadsCEWeights, b.CEWeights},
		{"reference_kl_weights", ReadsReferenceKLWeights, b.ReferenceKLWeights},
	}
}

func (b Batch[T]) sequenceStreams() []stream[T] {
	return []stream[T]{
		{"rank_score", ReadsRankScores, b.RankScores},
		{"outcome", ReadsOutcomes, b.Outcomes},
		{"clip_high", 0, b.ClipHigh},
	}
}

func (b Batch[T]) checkShape() error {
	if len(b.Offsets) > 0 && b.Offsets[0] != 0 {
		return fmt.Errorf("batch: Offsets begin with %d: they must begin with 0", b.Offsets[0])
	}
	for i := 1; i < len(b.Offsets); i++ {
		if b.Offsets[i] < b.Offsets[i-1] {
			return fmt.Errorf("batch: sequence %d ends at %d before it begins at %d", i-1, b.Offsets[i], b.Offsets[i-1])
		}
	}
	n, sequences := b.Tokens(), b.Sequences()
	if len(b.Sampled) != n {
		return fmt.Errorf("batch: sampled has %d values for %d tokens", len(b.Sampled), n)
	}
	type length struct {
		name     string
		have     int
		absent   bool
		want     int
		wantNoun string
	}
	lengths := []length{
		{"turn", len(b.Turn), b.Turn == nil, n, "tokens"},
		{"versions", len(b.Versions), b.Versions == nil, n, "tokens"},
		{"pair", len(b.Pair), b.Pair == nil, sequences, "sequences"},
		{"role", len(b.Chosen), b.Chosen == nil && b.Pair == nil, sequences, "sequences"},
		{"group", len(b.Group), b.Group == nil, sequences, "sequences"},
	}
	for _, s := range b.tokenStreams() {
		lengths = append(lengths, length{s.name, len(s.values), s.values == nil, n, "tokens"})
	}
	for _, s := range b.sequenceStreams() {
		lengths = append(lengths, length{s.name, len(s.values), s.values == nil, sequences, "sequences"})
	}
	for _, l := range lengths {
		if !l.absent && l.have != l.want {
			return fmt.Errorf("batch: %s has %d values for %d %s", l.name, l.have, l.want, l.wantNoun)
		}
	}
	return nil
}

// checkNeeds reports the first stream that the program reads and the batch lacks.
func (b Batch[T]) checkNeeds(p Program) error {
	if b.Tokens() == 0 {
		return nil
	}
	if b.LogProbs == nil {
		return fmt.Errorf("batch: logprobs is null, and every loss needs it")
	}
	present := Stream(0)
	for _, streams := range [][]stream[T]{b.tokenStreams(), b.sequenceStreams()} {
		for _, s := range streams {
			if s.values != nil {
				present |= s.reads
			}
		}
	}
	for _, s := range []struct {
		reads Stream
		have  bool
	}{{ReadsTurns, b.Turn != nil}, {ReadsVersions, b.Versions != nil}, {ReadsPairs, b.Pair != nil}} {
		if s.have {
			present |= s.reads
		}
	}
	var err error
	p.Reads().Each(func(s Stream) {
		if err == nil && !present.Has(s) {
			err = fmt.Errorf("batch: %s is null, and the program needs it (%s)", s, p.reader(s))
		}
	})
	return err
}

// reader is the setting of the Program that makes it read a stream.
func (p Program) reader(s Stream) string {
	switch {
	case p.anchorReads().Has(s):
		return "anchor " + string(p.Anchor)
	case p.Objective.Reads().Has(s):
		return "objective " + NameOf(p.Objective)
	case s == ReadsTurns && p.Ratio == RatioTurn:
		return "ratio turn"
	case s == ReadsTurns:
		return "aggregate " + string(p.Aggregate)
	}
	for _, mask := range p.Mask {
		if mask.Reads().Has(s) {
			return "mask " + NameOf(mask)
		}
	}
	for _, term := range p.Regularizers {
		if term.Reads().Has(s) {
			return "regularizer " + NameOf(term)
		}
	}
	return "off_policy " + NameOf(p.OffPolicy[0])
}

func (b Batch[T]) checkValues() error {
	for _, s := range b.tokenStreams() {
		for t, v := range s.values {
			if b.Sampled[t] && v-v != 0 { // NaN and ±Inf, and nothing else, do not cancel
				i, token := b.place(t)
				return fmt.Errorf("batch: sequence %d, token %d: %s is %v where the policy sampled", i, token, s.name, v)
			}
		}
	}
	return nil
}

func (b Batch[T]) checkTurns() error {
	if b.Turn == nil {
		return nil
	}
	for i := 0; i < b.Sequences(); i++ {
		last := int32(-1)
		for t := b.Offsets[i]; t < b.Offsets[i+1]; t++ {
			if !b.Sampled[t] {
				continue
			}
			if b.Turn[t] < max(last, 0) {
				return fmt.Errorf("batch: sequence %d, token %d: turn %d after turn %d: turns of sampled tokens start at 0 and never decrease",
					i, t-b.Offsets[i], b.Turn[t], last)
			}
			last = b.Turn[t]
		}
	}
	return nil
}

// checkSequences checks the sequence streams: values are finite, and every pair has one chosen and one
// rejected sequence, each with a sampled token.
func (b Batch[T]) checkSequences() error {
	for _, s := range b.sequenceStreams() {
		for i, v := range s.values {
			if v-v != 0 {
				return fmt.Errorf("batch: sequence %d: %s is %v", i, s.name, v)
			}
		}
	}
	for i, v := range b.ClipHigh {
		if v < 0 {
			return fmt.Errorf("batch: sequence %d: clip_high %v is negative: the ratio is bounded above by 1 + clip_high", i, v)
		}
	}
	if b.Pair == nil {
		return nil
	}
	type sides struct{ chosen, rejected int }
	pairs := map[int32]sides{}
	for i, pair := range b.Pair {
		if pair < 0 {
			continue
		}
		s := pairs[pair]
		if b.Chosen[i] {
			s.chosen++
		} else {
			s.rejected++
		}
		pairs[pair] = s
		if s.chosen > 1 || s.rejected > 1 {
			return fmt.Errorf("batch: sequence %d: pair %d has two sequences with the same role: a pair is one chosen and one rejected", i, pair)
		}
		if !b.samples(i) {
			return fmt.Errorf("batch: sequence %d: pair %d has a sequence without a sampled token", i, pair)
		}
	}
	for i, pair := range b.Pair {
		if s := pairs[pair]; pair >= 0 && s.chosen+s.rejected != 2 {
			return fmt.Errorf("batch: sequence %d: pair %d has no partner: a pair is one chosen and one rejected", i, pair)
		}
	}
	return nil
}

// samples is true when the sequence has a sampled token.
func (b Batch[T]) samples(sequence int) bool {
	for t := b.Offsets[sequence]; t < b.Offsets[sequence+1]; t++ {
		if b.Sampled[t] {
			return true
		}
	}
	return false
}

// place is the sequence a position lies in and its index there.
func (b Batch[T]) place(position int) (sequence, token int) {
	for int(b.Offsets[sequence+1]) <= position {
		sequence++
	}
	return sequence, position - int(b.Offsets[sequence])
}
