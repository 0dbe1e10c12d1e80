package policy

import (
	"context"
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
)

// Scores are numbers for every token of a batch, or the derivatives of a loss with respect to them.
// Each is 0 at the first token of a sequence, which nothing predicts. len = tokens.
type Scores struct {
	// LogProbs is log π(token | tokens before it in its sequence), in nats, at logits/temperature.
	LogProbs []float32
	// Entropies is the entropy of that distribution, in nats.
	Entropies []float32
	// Values is the value head's estimate before the token was chosen, from the tokens before it; nil
	// without a value head.
	Values []float32
}

// Score computes the scores of a batch.
func (m *Model) Score(ctx context.Context, p Packed, temperature float32) (Scores, error) {
	if err := m.begin(ctx, p, temperature, keepNothing); err != nil {
		return Scores{}, fmt.Errorf("score: %w", err)
	}
	var fresh Scores
	if err := m.forward(ctx, &fresh); err != nil {
		return Scores{}, fmt.Errorf("score: %w", err)
	}
	return fresh, nil
}

// forward runs all chunks and gathers their scores.
func (m *Model) forward(ctx context.Context, out *Scores) error {
	m.dev.Each(len(m.batch.chunks), m.forwardTask)
	if err := m.scratches.failure(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return m.collect(out)
}

// forwardChunk runs all blocks and the head over a chunk.
func (m *Model) forwardChunk(task int) {
	b := &m.batch
	ch := &b.chunks[task]
	if b.stopped() {
		return
	}
	s := m.scratches.take(b.longest, scratchNeeds(b.keep))
	if s == nil {
		return
	}
	defer m.scratches.give(s)
	span := b.span(ch)
	s.packed = b.attention(m.net, ch)
	m.net.embed(m.stream(0, ch, s), span)
	for l := range m.form.config.Layers {
		m.net.forwardLayer(l, span, m.stream(l, ch, s), m.stream(l+1, ch, s), m.activations(l, ch, s), s, &s.packed)
	}
	m.scoreChunk(ch, s)
}

// scratchNeeds is what both directions of a pass use, so that the second does not move what the first made.
func scratchNeeds(k keep) need {
	switch k {
	case keepNothing:
		return needOnce | needStream
	case keepInputs:
		return needOnce | needBack
	default:
		return needBack
	}
}

// scoreChunk turns the rows of a chunk that predict a token into scores.
func (m *Model) scoreChunk(ch *chunk, s *scratch) {
	b, rows := &m.batch, ch.headTo-ch.headFrom
	if rows == 0 {
		return
	}
	m.lastRows(m.stream(m.form.config.Layers, ch, s), b.headRows.Slice(ch.headFrom, ch.headTo), rows, s)
	m.dev.Score(m.scored(s, rows, b.targets.Slice(ch.headFrom, ch.headTo), b.logProbs.Slice(ch.headFrom, ch.headTo), b.entropies.Slice(ch.headFrom, ch.headTo)))
	if m.form.valueHead {
		values := device.Dense(b.values.Slice(ch.headFrom, ch.headTo), 1)
		m.dev.Product(values, device.Dense(s.h, m.form.config.Hidden), rows, m.net.value, false)
		m.dev.AddBias(values, m.net.weights.value.bias, rows)
	}
}

// lastRows gathers rows of the last residual stream x in s.lastX and normalises them into s.h.
func (m *Model) lastRows(x device.Rows, index device.Buffer, rows int, s *scratch) {
	h := m.form.config.Hidden
	last := device.Dense(s.lastX, h)
	m.dev.Gather(last, x, index, rows, h)
	m.dev.RMSNorm(device.Dense(s.h, h), last, m.net.weights.norm, s.roots, rows, m.net.eps)
}

// scored are the operands of the fused head over the rows in s.h.
func (m *Model) scored(s *scratch, rows int, targets, logProbs, entropies device.Buffer) device.Scored {
	return device.Scored{
		X:    m.net.head.extend(m.dev, device.Dense(s.h, m.form.config.Hidden), rows, s.wide, s.low),
		Rows: rows, Head: m.net.head.form, Matrix: m.net.head.matrix, Targets: targets,
		InverseTemperature: m.batch.inverse, LogProbs: logProbs, Entropies: entropies,
	}
}

// collect brings the scores to the host, in one copy, and puts each at the token it is of.
func (m *Model) collect(out *Scores) error {
	b, n := &m.batch, len(m.batch.packed.Tokens)
	parts := []*[]float32{&out.LogProbs, &out.Entropies}
	if m.form.valueHead {
		parts = append(parts, &out.Values)
	}
	b.compact = resized(b.compact, len(parts)*b.rows)
	if err := m.dev.Download(b.compact, b.scoresMemory.Slice(0, len(b.compact))); err != nil {
		return err
	}
	for k, into := range parts {
		*into = resized(*into, n)
		clear(*into)
		i := 0
		for _, ch := range b.chunks {
			for ; i < ch.headTo; i++ {
				(*into)[ch.from+int(b.hostHeadRows[i])+1] = b.compact[k*b.rows+i]
			}
		}
	}
	return b.packed.checkScores(*out)
}

// checkScores finds the first score that is not a number.
func (p Packed) checkScores(s Scores) error {
	for i := range p.Sequences() {
		for j := p.Offsets[i]; j < p.Offsets[i+1]; j++ {
			what := ""
			switch {
			case s.LogProbs[j] != s.LogProbs[j]:
				what = "log-probability"
			case s.Values != nil && s.Values[j] != s.Values[j]:
				what = "value"
			default:
				continue
			}
			return fmt.Errorf("sequence %d, token %d: the %s is not a number: the weights have diverged, lower the learning rate or clip gradients", i, j-p.Offsets[i], what)
		}
	}
	return nil
}
