package batchfile

import "math"

// batch reads one batch.
func (p *parser) batch() (Batch, error) {
	var b Batch
	var sequences []sequence
	var schema string
	start, schemaAt, listAt := p.pos, 0, 0
	err := p.object("", []field{
		{"schema", true, func(at string) (err error) {
			schemaAt = p.pos
			schema, err = p.text(at)
			return err
		}},
		{"version", false, func(at string) (err error) {
			b.Version, err = p.whole(at)
			b.HasVersion = true
			return err
		}},
		{"sequences", true, func(at string) error {
			listAt = p.pos
			return p.list(at, func(i int) error {
				s, err := p.sequence(i)
				sequences = append(sequences, s)
				return err
			})
		}},
	})
	switch {
	case err != nil:
		return b, err
	case schema != Schema:
		return b, fail(schemaAt, "schema: %q, want %q", shorten(schema), Schema)
	case len(sequences) == 0:
		return b, fail(listAt, "sequences: the batch has none")
	}
	tokens := 0
	for _, s := range sequences {
		tokens += len(s.sampled.values)
	}
	if tokens > math.MaxInt32 {
		return b, fail(start, "sequences: %d tokens, at most %d: split the batch", tokens, math.MaxInt32)
	}
	for _, join := range []func(*Batch, []sequence) error{joinShape, joinStreams, joinWhole, p.joinVersions, joinGroups, joinPairs} {
		if err := join(&b, sequences); err != nil {
			return b, err
		}
	}
	return b, nil
}

// joinShape lays the sequences end to end.
func joinShape(b *Batch, sequences []sequence) error {
	b.Offsets = make([]int32, 1, len(sequences)+1)
	for _, s := range sequences {
		for _, x := range s.sampled.values {
			b.Sampled = append(b.Sampled, x == 1)
		}
		b.Offsets = append(b.Offsets, int32(len(b.Sampled)))
	}
	return nil
}

// samples is true when the policy sampled a token of the sequence.
func (s *sequence) samples() bool {
	for _, x := range s.sampled.values {
		if x == 1 {
			return true
		}
	}
	return false
}

// joinStreams joins the float streams.
func joinStreams(b *Batch, sequences []sequence) error {
	for j, stream := range tokenStreams {
		values, err := joinLists(stream.name, stream.absent, sequences, func(s *sequence) list { return s.tokens[j] })
		if err != nil {
			return err
		}
		*stream.of(&b.Batch) = values
	}
	for j, stream := range sequenceStreams {
		first := -1
		for i := range sequences {
			if !math.IsNaN(sequences[i].numbers[j]) {
				first = i
				break
			}
		}
		if first < 0 {
			continue
		}
		for i := range sequences {
			x := sequences[i].numbers[j]
			if math.IsNaN(x) {
				if stream.absent == nil {
					return partly(stream.name, i, first, sequences)
				}
				x = *stream.absent
			}
			*stream.of(&b.Batch) = append(*stream.of(&b.Batch), x)
		}
	}
	return nil
}

// joinLists joins one stream of all sequences; nil when none has it.
func joinLists(name string, absent *float64, sequences []sequence, of func(*sequence) list) ([]float64, error) {
	first := -1
	for i := range sequences {
		if len(of(&sequences[i]).values) > 0 {
			first = i
			break
		}
	}
	if first < 0 {
		return nil, nil
	}
	joined := []float64{}
	for i := range sequences {
		s := &sequences[i]
		values := of(s).values
		if values == nil {
			if absent == nil && s.samples() {
				return nil, partly(name, i, first, sequences)
			}
			values = make([]float64, len(s.sampled.values))
			for t := range values {
				if absent != nil {
					values[t] = *absent
				}
			}
		}
		joined = append(joined, values...)
	}
	return joined, nil
}

func partly(name string, i, first int, sequences []sequence) error {
	return fail(sequences[i].offset, "sequences[%d].%s: null, but sequences[%d] has it: give it to all sequences or to none", i, name, first)
}

// joinWhole joins the streams of whole numbers. Where the policy did not sample a turn is −1 and a version 0.
func joinWhole(b *Batch, sequences []sequence) error {
	for _, w := range []struct {
		name      string
		of        func(*sequence) list
		elsewhere int32
		out       *[]int32
	}{
		{"turn", func(s *sequence) list { return s.turn }, -1, &b.Turn},
		{"versions", func(s *sequence) list { return s.versions }, 0, &b.Versions},
	} {
		values, err := joinLists(w.name, nil, sequences, w.of)
		if err != nil {
			return err
		}
		if values == nil {
			continue
		}
		*w.out = make([]int32, len(values))
		for t, x := range values {
			(*w.out)[t] = w.elsewhere
			if b.Sampled[t] {
				(*w.out)[t] = int32(x)
			}
		}
	}
	return nil
}

// joinVersions checks that nothing was sampled by a version that is yet to come.
func (p *parser) joinVersions(b *Batch, sequences []sequence) error {
	if !b.HasVersion {
		return nil
	}
	for i, s := range sequences {
		for t, x := range s.versions.values {
			if s.sampled.values[t] == 1 && x > float64(b.Version) {
				offset, _ := p.item(s.versions.offset, t)
				return fail(offset, "sequences[%d].versions[%d]: %g is newer than the batch's version %d", i, t, x, b.Version)
			}
		}
	}
	return nil
}

// joinGroups numbers the groups in order of appearance.
func joinGroups(b *Batch, sequences []sequence) error {
	first := -1
	for i, s := range sequences {
		if s.group != nil {
			first = i
			break
		}
	}
	if first < 0 {
		return nil
	}
	numbers := map[string]int32{}
	for i, s := range sequences {
		if s.group == nil {
			return partly("group", i, first, sequences)
		}
		if _, known := numbers[*s.group]; !known {
			numbers[*s.group] = int32(len(numbers))
		}
		b.Group = append(b.Group, numbers[*s.group])
	}
	return nil
}

// joinPairs numbers the pairs in order of appearance.
func joinPairs(b *Batch, sequences []sequence) error {
	type sides struct {
		number  int32
		members map[bool]int // by role: the sequence
	}
	pairs := map[string]sides{}
	numbers, chosen := make([]int32, len(sequences)), make([]bool, len(sequences))
	for i, s := range sequences {
		if s.pairID == nil {
			numbers[i] = -1
			continue
		}
		pair, known := pairs[*s.pairID]
		if !known {
			pair = sides{int32(len(pairs)), map[bool]int{}}
			pairs[*s.pairID] = pair
		}
		if earlier, twice := pair.members[s.chosen]; twice {
			return fail(s.offset, "sequences[%d].pair: %q has sequences[%d] in the same role: a pair is one chosen and one rejected", i, shorten(*s.pairID), earlier)
		}
		if !s.samples() {
			return fail(s.offset, "sequences[%d].pair: %q has a sequence without a sampled token", i, shorten(*s.pairID))
		}
		pair.members[s.chosen] = i
		numbers[i], chosen[i] = pair.number, s.chosen
	}
	if len(pairs) == 0 {
		return nil
	}
	for i, s := range sequences {
		if s.pairID != nil && len(pairs[*s.pairID].members) != 2 {
			return fail(s.offset, "sequences[%d].pair: %q has no partner: a pair is one chosen and one rejected", i, shorten(*s.pairID))
		}
	}
	b.Pair, b.Chosen = numbers, chosen
	return nil
}
