package trainer

import (
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// layout says which streams the micro-batches of a batch are laid out with. It is decided for the batch as a
// whole, so that all its parts are evaluated alike.
type layout struct {
	reads kernels.Stream
	// behavior, reference and versions: every sequence has them. weights and clipHigh: some have.
	behavior, reference, versions bool
	weights, clipHigh             bool
	// bound is the program's own upper clip bound, of sequences without one.
	bound   float32
	version int32
}

func newLayout(batch []Sequence, update Update) layout {
	l := layout{reads: update.Program.Reads(), behavior: true, reference: true, versions: true, version: update.Version}
	for _, s := range batch {
		l.behavior = l.behavior && s.Behavior != nil
		l.reference = l.reference && s.Reference != nil
		l.versions = l.versions && s.Versions != nil
		l.weights = l.weights || s.LossWeight != nil
		l.clipHigh = l.clipHigh || s.ClipHigh != nil
	}
	bound, own := update.Program.OwnBound()
	l.bound, l.clipHigh = float32(bound), l.clipHigh && own
	return l
}

// packing is sequences end to end, for the network and for the loss. It is written over by the next ones.
type packing struct {
	packed policy.Packed
	batch  kernels.Batch[float32]
}

// lay lays sequences end to end.
func (p *packing) lay(sequences []Sequence, l layout) {
	p.layTokens(sequences)
	b := &p.batch
	b.Offsets, b.Version = p.packed.Offsets, l.version
	b.Sampled = join(b.Sampled, sequences, true, func(s Sequence) []bool { return s.Sampled }, false)
	b.Turn = join(b.Turn, sequences, true, func(s Sequence) []int32 { return s.Turn }, -1)
	b.Versions = join(b.Versions, sequences, l.versions && l.reads.Has(kernels.ReadsVersions), func(s Sequence) []int32 { return s.Versions }, 0)
	for _, stream := range []struct {
		into *[]float32
		laid bool
		of   func(Sequence) []float32
		fill float32
	}{
		{&b.Proximal, l.reads.Has(kernels.ReadsProximal), Sequence.anchor, 0},
		{&b.Behavior, l.behavior, func(s Sequence) []float32 { return s.Behavior }, 0},
		{&b.Reference, l.reference && l.reads.Has(kernels.ReadsReference), func(s Sequence) []float32 { return s.Reference }, 0},
		{&b.OldValues, l.reads.Has(kernels.ReadsOldValues), func(s Sequence) []float32 { return s.OldValues }, 0},
		{&b.Returns, l.reads.Has(kernels.ReadsReturns), func(s Sequence) []float32 { return s.Returns }, 0},
		{&b.Advantages, l.reads.Has(kernels.ReadsAdvantages), func(s Sequence) []float32 { return s.Advantage }, 0},
		{&b.LossWeights, l.weights, func(s Sequence) []float32 { return s.LossWeight }, 1},
		{&b.CEWeights, l.reads.Has(kernels.ReadsCEWeights), func(s Sequence) []float32 { return s.CEWeight }, 0},
		{&b.ReferenceKLWeights, l.reads.Has(kernels.ReadsReferenceKLWeights), func(s Sequence) []float32 { return s.ReferenceKLWeight }, 0},
	} {
		*stream.into = join(*stream.into, sequences, stream.laid, stream.of, stream.fill)
	}
	p.laySequenceStreams(sequences, l)
}

func (p *packing) layTokens(sequences []Sequence) {
	p.packed.Tokens, p.packed.Offsets = p.packed.Tokens[:0], append(p.packed.Offsets[:0], 0)
	for _, s := range sequences {
		p.packed.Tokens = append(p.packed.Tokens, s.Tokens...)
		p.packed.Offsets = append(p.packed.Offsets, int32(len(p.packed.Tokens)))
	}
}

// laySequenceStreams writes what there is one of for each sequence. Pairs and groups are numbered in the order
// of their first sequence.
func (p *packing) laySequenceStreams(sequences []Sequence, l layout) {
	b := &p.batch
	b.Pair, b.Chosen, b.Group, b.RankScores, b.Outcomes, b.ClipHigh = nil, nil, nil, nil, nil, nil
	if l.reads.Has(kernels.ReadsPairs) {
		number := numbers{}
		for _, s := range sequences {
			pair := int32(-1)
			if s.Pair != "" {
				pair = number.of(s.Pair)
			}
			b.Pair, b.Chosen = append(b.Pair, pair), append(b.Chosen, s.Chosen)
		}
	}
	if l.reads.Has(kernels.ReadsRankScores) {
		number := numbers{}
		for _, s := range sequences {
			b.Group, b.RankScores = append(b.Group, number.of(s.Group)), append(b.RankScores, float32(*s.RankScore))
		}
	}
	if l.reads.Has(kernels.ReadsOutcomes) {
		for _, s := range sequences {
			b.Outcomes = append(b.Outcomes, float32(s.Outcome))
		}
	}
	if l.clipHigh {
		for _, s := range sequences {
			bound := l.bound
			if s.ClipHigh != nil {
				bound = float32(*s.ClipHigh)
			}
			b.ClipHigh = append(b.ClipHigh, bound)
		}
	}
}

// join lays the streams of sequences end to end in into; a sequence without one counts as filled. The
// result is nil when the stream is not laid out.
func join[T any](into []T, sequences []Sequence, laid bool, of func(Sequence) []T, fill T) []T {
	if !laid {
		return nil
	}
	into = into[:0]
	for _, s := range sequences {
		values := of(s)
		into = append(into, values...)
		if values == nil {
			for range s.Tokens {
				into = append(into, fill)
			}
		}
	}
	return into
}

// numbers gives names consecutive numbers from 0, in the order they are first asked for.
type numbers map[string]int32

func (n numbers) of(name string) int32 {
	number, known := n[name]
	if !known {
		number = int32(len(n))
		n[name] = number
	}
	return number
}
