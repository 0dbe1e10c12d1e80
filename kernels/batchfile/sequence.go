package batchfile

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// list is a stream of one sequence and where it stands.
type list struct {
	values []float64 // nil when it is null or missing
	offset int
}

// sequence is a sequence as it is written.
type sequence struct {
	offset  int
	sampled list
	// tokens are the float streams in the order of tokenStreams.
	tokens         []list
	turn, versions list
	// numbers are the sequence streams in the order of sequenceStreams; NaN when not given.
	numbers []float64
	group   *string
	pairID  *string
	chosen  bool
}

// stream is a float stream of the format and where a batch holds it.
type stream struct {
	name string
	of   func(*kernels.Batch[float64]) *[]float64
	// absent is what sequences without it have when others have it; nil when then all must.
	absent *float64
}

var zero, one, nan = 0.0, 1.0, math.NaN()

// tokenStreams have one value a token; the first is required.
var tokenStreams = []stream{
	{"logprobs", func(b *kernels.Batch[float64]) *[]float64 { return &b.LogProbs }, nil},
	{"proximal", func(b *kernels.Batch[float64]) *[]float64 { return &b.Proximal }, nil},
	{"behavior", func(b *kernels.Batch[float64]) *[]float64 { return &b.Behavior }, nil},
	{"reference", func(b *kernels.Batch[float64]) *[]float64 { return &b.Reference }, nil},
	{"entropy", func(b *kernels.Batch[float64]) *[]float64 { return &b.Entropy }, nil},
	{"values", func(b *kernels.Batch[float64]) *[]float64 { return &b.Values }, nil},
	{"old_values", func(b *kernels.Batch[float64]) *[]float64 { return &b.OldValues }, nil},
	{"returns", func(b *kernels.Batch[float64]) *[]float64 { return &b.Returns }, nil},
	{"advantages", func(b *kernels.Batch[float64]) *[]float64 { return &b.Advantages }, nil},
	{"loss_weights", func(b *kernels.Batch[float64]) *[]float64 { return &b.LossWeights }, &one},
	{"ce_weights", func(b *kernels.Batch[float64]) *[]float64 { return &b.CEWeights }, &zero},
	{"reference_kl_weights", func(b *kernels.Batch[float64]) *[]float64 { return &b.ReferenceKLWeights }, &zero},
}

// sequenceStreams have one value a sequence.
var sequenceStreams = []stream{
	{"rank_score", func(b *kernels.Batch[float64]) *[]float64 { return &b.RankScores }, nil},
	{"outcome", func(b *kernels.Batch[float64]) *[]float64 { return &b.Outcomes }, nil},
	{"clip_high", func(b *kernels.Batch[float64]) *[]float64 { return &b.ClipHigh }, &nan},
}

// sequence reads sequence i.
func (p *parser) sequence(i int) (sequence, error) {
	p.space()
	s := sequence{offset: p.pos, tokens: make([]list, len(tokenStreams)), numbers: make([]float64, len(sequenceStreams))}
	var fields []field
	for j, stream := range tokenStreams {
		fields = append(fields, field{stream.name, j == 0, func(at string) error { return p.numbers(at, &s.tokens[j]) }})
	}
	fields = append(fields,
		field{"sampled", true, func(at string) error { return p.sampled(at, &s.sampled) }},
		field{"turn", false, func(at string) error { return p.numbers(at, &s.turn) }},
		field{"versions", false, func(at string) error { return p.numbers(at, &s.versions) }})
	for j, stream := range sequenceStreams {
		s.numbers[j] = math.NaN()
		fields = append(fields, field{stream.name, false, func(at string) (err error) {
			s.numbers[j], err = p.finite(at)
			return err
		}})
	}
	fields = append(fields,
		field{"group", false, func(at string) error {
			text, err := p.text(at)
			s.group = &text
			return err
		}},
		field{"pair", false, func(at string) error { return p.pair(at, &s) }})
	at := fmt.Sprintf("sequences[%d]", i)
	if err := p.object(at, fields); err != nil {
		return s, err
	}
	return s, p.check(i, at, &s)
}

// numbers reads a stream.
func (p *parser) numbers(at string, out *list) error {
	p.space()
	out.offset, out.values = p.pos, []float64{}
	return p.list(at, func(i int) error {
		start := p.pos
		x, err := p.loose(at)
		if err != nil { // once more with the whole path, which would take long to write for every number
			p.pos = start
			_, err = p.loose(fmt.Sprintf("%s[%d]", at, i))
		}
		out.values = append(out.values, x)
		return err
	})
}

// sampled reads a list of 0 and 1.
func (p *parser) sampled(at string, out *list) error {
	if err := p.numbers(at, out); err != nil {
		return err
	}
	for i, x := range out.values {
		if x != 0 && x != 1 {
			offset, text := p.item(out.offset, i)
			return fail(offset, "%s[%d]: %s, want 0 or 1", at, i, text)
		}
	}
	return nil
}

// pair reads a preference's id and the sequence's role in it.
func (p *parser) pair(at string, s *sequence) error {
	return p.object(at, []field{
		{"id", true, func(at string) error {
			id, err := p.text(at)
			s.pairID = &id
			return err
		}},
		{"role", true, func(at string) error {
			offset := p.pos
			role, err := p.text(at)
			if err == nil && role != "chosen" && role != "rejected" {
				return fail(offset, "%s: %q is unknown; known: chosen, rejected", at, shorten(role))
			}
			s.chosen = role == "chosen"
			return err
		}},
	})
}

// item finds item i of the list of numbers that begins at an offset: its place and its text.
func (p *parser) item(offset, i int) (int, string) {
	again := parser{data: p.data, pos: offset + 1}
	for ; ; i-- {
		again.space()
		start := again.pos
		if _, err := again.loose(""); err != nil || i == 0 {
			return start, string(p.data[start:again.pos])
		}
		again.take(',')
	}
}

// check compares the streams of a sequence with its tokens.
func (p *parser) check(i int, at string, s *sequence) error {
	n := len(s.tokens[0].values)
	lengths := map[string]list{"sampled": s.sampled, "turn": s.turn, "versions": s.versions}
	for _, name := range []string{"sampled", "turn", "versions"} {
		if l := lengths[name]; l.values != nil && len(l.values) != n {
			return fail(l.offset, "%s.%s: %d entries for %d tokens", at, name, len(l.values), n)
		}
	}
	for j, l := range s.tokens {
		if l.values != nil && len(l.values) != n {
			return fail(l.offset, "%s.%s: %d entries for %d tokens", at, tokenStreams[j].name, len(l.values), n)
		}
		for t, x := range l.values {
			if x-x != 0 && s.sampled.values[t] == 1 { // NaN and ±Inf, and nothing else, do not cancel
				offset, text := p.item(l.offset, t)
				return fail(offset, "%s.%s[%d]: sequence %d, token %d: %s where sampled is 1, want a finite number", at, tokenStreams[j].name, t, i, t, text)
			}
		}
	}
	for _, name := range []string{"turn", "versions"} {
		last := 0.0
		for t, x := range lengths[name].values {
			if s.sampled.values[t] == 0 {
				continue
			}
			offset, text := 0, ""
			if !isWhole(x) || name == "turn" && x < last {
				offset, text = p.item(lengths[name].offset, t)
			}
			switch {
			case !isWhole(x):
				return fail(offset, "%s.%s[%d]: sequence %d, token %d: %s where sampled is 1, want a whole number from 0", at, name, t, i, t, text)
			case name == "turn" && x < last:
				return fail(offset, "%s.turn[%d]: %s after turn %g: turns never decrease", at, t, text, last)
			}
			last = x
		}
	}
	return nil
}
