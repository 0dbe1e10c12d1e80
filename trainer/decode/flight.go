package decode

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// queuing is a network whose device computes while its host does something else. Then the next pass is queued before the choices of
// the one before are known, which the device reads where it has drawn them, so that it does not wait for the host between two
// passes. A sequence that turns out to have ended has one row too many in the next pass, whose choice nobody takes and whose keys and
// values nobody reads.
type queuing interface {
	Network
	// Ahead is the most sequences of a pass that can be queued; 0 where none can.
	Ahead() int
	// Queue begins a pass, of which the network keeps nothing. Two may be under way.
	Queue(pages device.Pages, pass *policy.Pass) error
	// Finish waits for the choices of the pass that was queued first.
	Finish(pass *policy.Pass) error
}

// flight is a pass from its plan to its choices.
type flight struct {
	pass policy.Pass
	// planned are its sequences, nil where one has ended or given way since.
	planned []*sequence
	// samples says of each whether the token chosen behind it is its next one. It is written by commit.
	samples []bool
	// queued says that its choices are still to be waited for, err why it was not computed.
	queued bool
	err    error
}

// step computes one pass, and queues the one behind it where it can. It reports false when there is nothing to compute.
func (b *batch) step() bool {
	if b.flying != nil && !b.flying.wanted() {
		b.drop()
	}
	now := b.flying
	if now == nil {
		if now = b.begin(false); now == nil {
			return false
		}
	}
	b.flying = nil
	if now.err != nil {
		b.failPass(now, now.err)
		return true
	}
	b.schedule.commit(now)
	if now.queued {
		b.flying = b.begin(true)
	}
	b.settle(now)
	return true
}

// wanted reports whether a sequence of a pass under way has neither ended nor given way.
func (f *flight) wanted() bool {
	for _, q := range f.planned {
		if q.rows > 0 {
			return true
		}
	}
	return false
}

// begin plans the next pass and has the device compute it, behind one under way whose choices are not known yet if it is ahead of
// them. It returns nil when there is nothing to compute.
func (b *batch) begin(ahead bool) *flight {
	planned := b.schedule.plan()
	for _, c := range b.schedule.copies {
		b.network.Device().CopyPage(b.pages, int(c.to), int(c.from))
	}
	if len(planned) == 0 {
		return nil
	}
	f := &b.flights[b.turn]
	b.turn = 1 - b.turn
	f.describe(planned, ahead)
	if f.queued = b.ahead != nil; f.queued {
		f.err = b.ahead.Queue(b.pages, &f.pass)
	} else {
		f.err = b.network.Extend(b.pages, &f.pass)
	}
	return f
}

// drop forgets the pass under way: its sequences are to be computed anew, or have ended. Nobody hears of its error, behind which
// nothing that the device holds is relied on.
func (b *batch) drop() {
	f := b.flying
	if b.flying = nil; f == nil {
		return
	}
	if f.err == nil && f.queued {
		f.err = b.ahead.Finish(&f.pass)
	}
	if f.err != nil {
		b.schedule.invalidate()
		return
	}
	b.count(&f.pass)
}

// count counts a pass that was computed.
func (b *batch) count(p *policy.Pass) {
	b.totals.passes++
	b.totals.computed += int64(len(p.Tokens))
	b.totals.queued[p.Queued]++
	if p.Queued == policy.Unrecorded && b.unrecorded != nil {
		b.unrecorded(p.Refused)
		b.unrecorded = nil
	}
}

// settle waits for the choices of a pass and gives them to its sequences. Where one has led to what is not a number, its request ends, and
// all that is computed is forgotten before anybody is told what it has led to.
func (b *batch) settle(f *flight) {
	if f.queued {
		if err := b.ahead.Finish(&f.pass); err != nil {
			b.failPass(f, err)
			return
		}
	}
	b.count(&f.pass)
	spoiled := false
	for i, q := range f.planned {
		switch chosen := f.pass.Chosen[i]; {
		case q == nil:
		case chosen.Token < 0 || chosen.LogProb != chosen.LogProb: // behind a part of a prompt too
			spoiled = true
			b.cancel(q.generation, fmt.Errorf("sampled token %d: %w", len(q.generation.result.Tokens), policy.ErrNotANumber))
		case f.samples[i]:
			b.take(q, chosen)
		}
	}
	if spoiled { // keys and values of rows before may be no numbers either, and others may have begun with them
		b.schedule.invalidate()
	}
}

// discarded is how a token is chosen behind a part of a prompt, where nobody asks for one.
var discarded = device.Sampling{TopP: 1}

// describe writes the planned pass in the network's terms. Ahead of another one, tokens that it chooses are told by their places
// in it.
func (f *flight) describe(planned []*sequence, ahead bool) {
	f.planned = append(f.planned[:0], planned...)
	p := &f.pass
	p.Tokens, p.How, p.Drawn = p.Tokens[:0], p.How[:0], p.Drawn[:0]
	p.At.Offsets, p.At.Cached, p.At.Tables = append(p.At.Offsets[:0], 0), p.At.Cached[:0], p.At.Tables[:0]
	for _, q := range planned {
		if q.pending {
			p.Tokens, p.Drawn = append(p.Tokens, 0), append(p.Drawn, q.place)
		} else {
			p.Tokens = append(p.Tokens, q.tokens[q.cached:q.cached+q.rows]...)
			for ahead && len(p.Drawn) < len(p.Tokens) {
				p.Drawn = append(p.Drawn, -1)
			}
		}
		p.At.Offsets = append(p.At.Offsets, int32(len(p.Tokens)))
		p.At.Cached = append(p.At.Cached, int32(q.cached))
		p.At.Tables = append(p.At.Tables, q.table)
		how := discarded
		if q.sampling() {
			how = q.generation.how(q.length() - len(q.tokens))
		}
		p.How = append(p.How, how)
	}
	for len(p.Chosen) < len(planned) {
		p.Chosen = append(p.Chosen, device.Sampled{})
	}
	p.Chosen = p.Chosen[:len(planned)]
}
