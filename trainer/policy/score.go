package policy

import (
	"context"
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// Score returns for every token log π(token | tokens before it in its sequence) and the entropy of
// that distribution, in nats, at logits/temperature. Both are 0 at the first token of a sequence,
// which nothing predicts. len = tokens.
func (m *Model) Score(ctx context.Context, p Packed, temperature float32) (logProbs, entropies []float32, err error) {
	inverse, err := m.checkPass(p, temperature)
	if err != nil {
		return nil, nil, fmt.Errorf("score: %w", err)
	}
	logProbs, entropies = make([]float32, len(p.Tokens)), make([]float32, len(p.Tokens))
	chunks := p.chunks()
	m.net.prepareForward()
	m.work.parallel(len(chunks), func(s *scratch, task int) {
		if ctx.Err() != nil {
			return
		}
		ch := chunks[task]
		s.acts.grow(m.config, ch.to-ch.from)
		m.forwardChunk(p, ch, s, func(int) *activations { return &s.acts }, s.acts.xIn)
		m.scoreChunk(p, ch, s, s.acts.xIn, inverse, logProbs, entropies)
	})
	if ctx.Err() != nil {
		return nil, nil, fmt.Errorf("score: %w", context.Cause(ctx))
	}
	if err := checkScores(p, logProbs); err != nil {
		return nil, nil, fmt.Errorf("score: %w", err)
	}
	return logProbs, entropies, nil
}

func (m *Model) checkPass(p Packed, temperature float32) (inverse float32, err error) {
	if !(temperature > 0) || math.IsInf(float64(temperature), 0) {
		return 0, fmt.Errorf("temperature is %v, must be positive and finite", temperature)
	}
	return 1 / temperature, p.check(m.config)
}

// checkScores finds the first log-probability that is not a number.
func checkScores(p Packed, logProbs []float32) error {
	for i := range p.Sequences() {
		for j, v := range logProbs[p.Offsets[i]:p.Offsets[i+1]] {
			if v != v {
				return fmt.Errorf("sequence %d, token %d: the log-probability is not a number: the weights have diverged, lower the learning rate or clip gradients", i, j)
			}
		}
	}
	return nil
}

// forwardChunk runs all blocks over a chunk. layerActs gives the activations of a layer; the
// residual stream of layer l+1 is written to its xIn, and that of the last to xOut.
func (m *Model) forwardChunk(p Packed, ch chunk, s *scratch, layerActs func(l int) *activations, xOut []float32) {
	s.positions = s.positions[:0]
	for i := ch.firstSequence; i < ch.lastSequence; i++ {
		for j := range p.Offsets[i+1] - p.Offsets[i] {
			s.positions = append(s.positions, j)
		}
	}
	attend := func(_ int, a *activations) {
		for i := ch.firstSequence; i < ch.lastSequence; i++ {
			m.net.attendSequence(a, int(p.Offsets[i])-ch.from, int(p.Offsets[i+1])-ch.from, s)
		}
	}
	m.net.embed(layerActs(0).xIn, p.Tokens[ch.from:ch.to])
	for l := range m.config.Layers {
		out := xOut
		if l+1 < m.config.Layers {
			out = layerActs(l + 1).xIn
		}
		m.net.forwardLayer(l, layerActs(l), s.positions, s, attend, out)
	}
}

// headRows lists the rows of a chunk, relative to its start, that predict a token: all but the last
// of each sequence.
func (p Packed) headRows(ch chunk, rows []int32) []int32 {
	rows = rows[:0]
	for i := ch.firstSequence; i < ch.lastSequence; i++ {
		for j := p.Offsets[i]; j+1 < p.Offsets[i+1]; j++ {
			rows = append(rows, j-int32(ch.from))
		}
	}
	return rows
}

// headRowsAtOnce bounds the logits held at a time.
const headRowsAtOnce = 256

// scoreChunk turns the final residual stream of a chunk into log-probabilities and entropies.
func (m *Model) scoreChunk(p Packed, ch chunk, s *scratch, x []float32, inverse float32, logProbs, entropies []float32) {
	s.headRows = p.headRows(ch, s.headRows)
	for rows := s.headRows; len(rows) > 0; {
		part := rows[:min(len(rows), headRowsAtOnce)]
		rows = rows[len(part):]
		m.net.logits(s, x, part)
		for i, row := range part {
			z := s.logits[i*m.config.VocabSize : (i+1)*m.config.VocabSize]
			d := logitsRow(z, m.net.ones, inverse)
			at := ch.from + int(row) + 1
			logProbs[at], entropies[at] = d.logProb(z[p.Tokens[at]]), d.entropy
		}
	}
}

// logits fills s.logits with the raw logits of the given rows of the final residual stream x, one
// row of VocabSize each, and s.h and s.roots with the norm they come from.
func (n *network) logits(s *scratch, x []float32, rows []int32) {
	h := n.config.Hidden
	s.h = grown(s.h, len(rows)*h)
	s.roots = grown(s.roots, len(rows))
	s.logits = grown(s.logits, len(rows)*n.config.VocabSize)
	for i, row := range rows {
		s.roots[i] = cpu.RMSNorm(s.h[i*h:(i+1)*h], x[int(row)*h:(int(row)+1)*h], n.weights.norm, n.eps)
	}
	n.head.apply(s.logits, s.h, len(rows), false)
}
