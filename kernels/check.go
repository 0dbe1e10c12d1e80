package kernels

import "fmt"

// Check reports the first way in which the batch cannot be evaluated by p with these totals: a stream
// that p needs and that is nil, a stream of the wrong length, offsets or turns out of order, a value
// at a sampled token that is not finite, or totals smaller than the batch. Values where Sampled is
// false are never looked at.
func (b Batch[T]) Check(p Program, totals Totals) error {
	if err := b.checkShape(); err != nil {
		return err
	}
	if err := b.checkNeeds(p); err != nil {
		return err
	}
	if err := b.checkTokens(); err != nil {
		return err
	}
	count := Count(b)
	if totals.Tokens < count.Tokens || totals.Sequences < count.Sequences {
		return fmt.Errorf("batch: totals count %d tokens in %d sequences, the batch alone has %d in %d: add up Count over all micro-batches of the update",
			totals.Tokens, totals.Sequences, count.Tokens, count.Sequences)
	}
	return nil
}

type namedStream[T Float] struct {
	name   string
	values []T
}

func (b Batch[T]) streams() []namedStream[T] {
	return []namedStream[T]{
		{"log-probabilities (LogProbs)", b.LogProbs},
		{"proximal log-probabilities (Proximal)", b.Proximal},
		{"behavior log-probabilities (Behavior)", b.Behavior},
		{"reference log-probabilities (Reference)", b.Reference},
		{"entropies (Entropy)", b.Entropy},
		{"advantages (Advantages)", b.Advantages},
		{"loss weights (LossWeights)", b.LossWeights},
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
	n := b.Tokens()
	if len(b.Sampled) != n {
		return fmt.Errorf("batch: Sampled has %d values for %d tokens", len(b.Sampled), n)
	}
	if len(b.Turn) != n && b.Turn != nil {
		return fmt.Errorf("batch: Turn has %d values for %d tokens", len(b.Turn), n)
	}
	for _, stream := range b.streams() {
		if stream.values != nil && len(stream.values) != n {
			return fmt.Errorf("batch: %s has %d values for %d tokens", stream.name, len(stream.values), n)
		}
	}
	return nil
}

func (b Batch[T]) checkNeeds(p Program) error {
	n := b.Tokens()
	missing := func(values []T, name, because string) error {
		if values != nil || n == 0 {
			return nil
		}
		return fmt.Errorf("batch: %s is nil, and the program needs it (%s)", name, because)
	}
	if err := missing(b.LogProbs, "log-probabilities (LogProbs)", "every loss"); err != nil {
		return err
	}
	if err := missing(b.Advantages, "advantages (Advantages)", "objective "+string(p.Objective)); err != nil {
		return err
	}
	if p.UsesAnchor() {
		values, name := b.Proximal, "proximal log-probabilities (Proximal)"
		if p.Anchor == AnchorBehavior {
			values, name = b.Behavior, "behavior log-probabilities (Behavior)"
		}
		if err := missing(values, name, "anchor "+string(p.Anchor)); err != nil {
			return err
		}
	}
	if p.UsesReference() {
		if err := missing(b.Reference, "reference log-probabilities (Reference)", "kl "+string(p.KL)); err != nil {
			return err
		}
	}
	if p.UsesEntropy() {
		if err := missing(b.Entropy, "entropies (Entropy)", fmt.Sprintf("entropy_coef %v", p.EntropyCoef)); err != nil {
			return err
		}
	}
	if p.UsesTurns() && b.Turn == nil && n > 0 {
		return fmt.Errorf("batch: turn indices (Turn) are nil, and the program needs them (ratio %s, aggregate %s)", p.Ratio, p.Aggregate)
	}
	return nil
}

// UsesTurns is true when the loss depends on where turns begin and end.
func (p Program) UsesTurns() bool { return p.Ratio == RatioTurn || p.Aggregate == StepMean }

func (b Batch[T]) checkTokens() error {
	for _, stream := range b.streams() {
		for t, v := range stream.values {
			if b.Sampled[t] && v-v != 0 { // NaN and ±Inf, and nothing else, do not cancel
				i, token := b.place(t)
				return fmt.Errorf("batch: sequence %d, token %d: %s is %v where the policy sampled", i, token, stream.name, v)
			}
		}
	}
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

// place is the sequence a position lies in and its index there.
func (b Batch[T]) place(position int) (sequence, token int) {
	for int(b.Offsets[sequence+1]) <= position {
		sequence++
	}
	return sequence, position - int(b.Offsets[sequence])
}
