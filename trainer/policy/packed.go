package policy

import "fmt"

// Packed is a batch of sequences without padding: sequence i is Tokens[Offsets[i]:Offsets[i+1]].
type Packed struct {
	// Tokens are the ids of all sequences, one after the other.
	Tokens []int32
	// Offsets start with 0 and end with len(Tokens), never decreasing. len = sequences + 1; an empty
	// batch may have none.
	Offsets []int32
}

// Sequences is the number of sequences.
func (p Packed) Sequences() int { return max(0, len(p.Offsets)-1) }

// check reports the first sequence a network of shape c cannot read.
func (p Packed) check(c Config) error {
	if len(p.Offsets) == 0 {
		if len(p.Tokens) > 0 {
			return fmt.Errorf("packed batch: %d tokens and no offsets", len(p.Tokens))
		}
		return nil
	}
	if first, last := p.Offsets[0], p.Offsets[len(p.Offsets)-1]; first != 0 || int(last) != len(p.Tokens) {
		return fmt.Errorf("packed batch: offsets run from %d to %d, must run from 0 to %d tokens", first, last, len(p.Tokens))
	}
	for i := range p.Sequences() {
		from, to := p.Offsets[i], p.Offsets[i+1]
		if to < from || int(to) > len(p.Tokens) {
			return fmt.Errorf("packed batch: sequence %d runs from %d to %d of %d tokens", i, from, to, len(p.Tokens))
		}
		if int(to-from) > c.MaxPositions {
			return fmt.Errorf("packed batch: sequence %d has %d tokens, the network reads at most %d: raise max_positions or shorten it", i, to-from, c.MaxPositions)
		}
		if err := checkTokens(p.Tokens[from:to], c.VocabSize); err != nil {
			return fmt.Errorf("packed batch: sequence %d: %w", i, err)
		}
	}
	return nil
}

func checkTokens(tokens []int32, vocabulary int) error {
	for j, t := range tokens {
		if t < 0 || int(t) >= vocabulary {
			return fmt.Errorf("token %d is %d, the vocabulary has %d ids", j, t, vocabulary)
		}
	}
	return nil
}

// chunk is a run of whole sequences that one task computes at a time.
type chunk struct {
	firstSequence, lastSequence int // last exclusive
	from, to                    int // token rows
	headFrom, headTo            int // rows that predict a token, counted over the batch
	offsetsFrom                 int // its first entry in the batch's list of offsets
	liveFrom, liveTo            int // rows with a gradient, counted over the batch
}

func (c chunk) rows() int { return c.to - c.from }

// chunks appends the batch's chunks of about so many rows to all; a longer sequence is a chunk of its
// own. The split depends on the batch and the device alone, never on the number of threads, because
// gradients are summed chunk by chunk.
func (p Packed) chunks(all []chunk, rows int) []chunk {
	var open chunk
	for i := range p.Sequences() {
		from, to := int(p.Offsets[i]), int(p.Offsets[i+1])
		if open.to > open.from && to-open.from > rows {
			all = append(all, open)
			open = chunk{firstSequence: i, from: from, headFrom: open.headTo, headTo: open.headTo, offsetsFrom: open.offsetsFrom + i - open.firstSequence + 1}
		}
		open.lastSequence, open.to = i+1, to
		open.headTo += max(0, to-from-1)
	}
	if open.to > open.from {
		all = append(all, open)
	}
	return all
}
