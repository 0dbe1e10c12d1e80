package decode

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// batch computes what the schedule plans, one pass at a time. It belongs to one goroutine.
type batch struct {
	schedule *schedule
	pages    device.Pages
	text     func(id int32) []byte
	network  Network
	version  rollout.Version
	pass     policy.Pass
	totals   totals
}

// totals count what was computed since the start.
type totals struct{ passes, computed, sampled, swaps int64 }

// use switches to other weights from the next pass on and frees the old ones.
func (b *batch) use(n Network, version rollout.Version) {
	if b.network != nil {
		b.network.Free()
		b.totals.swaps++
	}
	b.network, b.version = n, version
	b.schedule.invalidate()
}

func (b *batch) add(g *generation) { b.schedule.add(&g.sequence) }

// cancel takes a request out whose caller has gone.
func (b *batch) cancel(g *generation, err error) {
	if !g.ended {
		b.schedule.end(&g.sequence)
		g.finish(err)
	}
}

// abort ends all requests of a sequence with what was sampled.
func (b *batch) abort(name string) {
	for _, q := range b.under(func(q *sequence) bool { return q.name == name }) {
		b.schedule.end(q)
		q.generation.result.Finish = sampler.FinishAbort
		q.generation.finish(nil)
	}
}

// fail ends all requests with an error.
func (b *batch) fail(err error) {
	for _, q := range b.under(func(*sequence) bool { return true }) {
		b.cancel(q.generation, err)
	}
}

// under lists the sequences of requests under way that a condition holds for.
func (b *batch) under(condition func(*sequence) bool) []*sequence {
	var out []*sequence
	for _, all := range [][]*sequence{b.schedule.running, b.schedule.waiting} {
		for _, q := range all {
			if condition(q) {
				out = append(out, q)
			}
		}
	}
	return out
}

// step computes one pass. It reports false when there is nothing to compute.
func (b *batch) step() bool {
	planned := b.schedule.plan()
	if len(planned) == 0 {
		return false
	}
	for _, c := range b.schedule.copies {
		b.network.Device().CopyPage(b.pages, int(c.to), int(c.from))
	}
	b.describe(planned)
	if err := b.network.Extend(b.pages, &b.pass); err != nil {
		b.failPass(planned, err)
		return true
	}
	b.totals.passes++
	b.totals.computed += int64(len(b.pass.Tokens))
	b.schedule.commit()
	for i, q := range planned {
		if q.cached == len(q.tokens) {
			b.take(q, b.pass.Chosen[i])
		}
	}
	return true
}

// discarded is how a token is chosen behind a part of a prompt, where nobody asks for one.
var discarded = device.Sampling{TopP: 1}

// describe writes the planned pass in the network's terms.
func (b *batch) describe(planned []*sequence) {
	p := &b.pass
	p.Tokens, p.How = p.Tokens[:0], p.How[:0]
	p.At.Offsets, p.At.Cached, p.At.Tables = append(p.At.Offsets[:0], 0), p.At.Cached[:0], p.At.Tables[:0]
	for _, q := range planned {
		p.Tokens = append(p.Tokens, q.tokens[q.cached:q.cached+q.rows]...)
		p.At.Offsets = append(p.At.Offsets, int32(len(p.Tokens)))
		p.At.Cached = append(p.At.Cached, int32(q.cached))
		p.At.Tables = append(p.At.Tables, q.table)
		how := discarded
		if q.sampling() {
			how = q.generation.how()
		}
		p.How = append(p.How, how)
	}
	for len(p.Chosen) < len(planned) {
		p.Chosen = append(p.Chosen, device.Sampled{})
	}
	p.Chosen = p.Chosen[:len(planned)]
}

// take gives a sampled token to its request and ends it when it is complete.
func (b *batch) take(q *sequence, chosen device.Sampled) {
	g := q.generation
	if chosen.Token < 0 || chosen.LogProb != chosen.LogProb {
		q.forget = true
		b.cancel(g, fmt.Errorf("sampled token %d: %w", len(g.result.Tokens), policy.ErrNotANumber))
		return
	}
	b.totals.sampled++
	var text []byte
	if len(g.names) > 0 {
		text = b.text(chosen.Token)
	}
	if g.take(chosen, b.version, text) {
		b.schedule.end(q)
		g.finish(nil)
	}
}

// failPass ends the requests of a pass that the device did not compute. What a device holds after
// that is not relied on: the requests that were not part of the pass are computed anew.
func (b *batch) failPass(planned []*sequence, err error) {
	for _, q := range planned {
		b.cancel(q.generation, fmt.Errorf("pass of %d sequences, %d tokens: %w", len(planned), len(b.pass.Tokens), err))
	}
	b.schedule.invalidate()
}

// free gives back what the batch holds on the device.
func (b *batch) free() {
	d := b.network.Device()
	d.FreePages(b.pages)
	d.Free(b.pass.At.Device)
	b.network.Free()
}
