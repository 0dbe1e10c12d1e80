package decode

import (
	"fmt"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// batch computes what the schedule plans, pass after pass. It belongs to one goroutine.
type batch struct {
	schedule *schedule
	pages    device.Pages
	text     func(id int32) []byte
	// unrecorded is told the first refusal to record; nil once it was.
	unrecorded func(why error)
	network    Network
	// ahead is the network where passes of all slots can be queued ahead; nil elsewhere.
	ahead   queuing
	version rollout.Version
	// flights take turns. flying is the one whose pass is begun and not settled, nil between passes that are not queued.
	flights [2]flight
	turn    int
	flying  *flight
	totals  totals
}

// totals count what was computed since the start.
type totals struct {
	passes, computed, sampled, swaps int64
	// queued are passes by how their work came to the device.
	queued [policy.Unrecorded + 1]int64
}

// use switches to other weights from the next pass on and frees the old ones.
func (b *batch) use(n Network, version rollout.Version) {
	if b.network != nil {
		b.drop()
		b.network.Free()
		b.totals.swaps++
	}
	b.network, b.version, b.ahead = n, version, nil
	if q, ok := n.(queuing); ok && q.Ahead() >= b.schedule.slots {
		b.ahead = q
	}
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

// take gives a sampled token to its request and ends it when it is complete.
func (b *batch) take(q *sequence, chosen device.Sampled) {
	g := q.generation
	q.pending = false
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
func (b *batch) failPass(f *flight, err error) {
	b.drop()
	for _, q := range f.planned {
		if q != nil {
			b.cancel(q.generation, fmt.Errorf("pass of %d sequences, %d tokens: %w", len(f.planned), len(f.pass.Tokens), err))
		}
	}
	b.schedule.invalidate()
}

// free gives back what the batch holds on the device.
func (b *batch) free() {
	b.drop()
	b.network.Device().FreePages(b.pages)
	b.network.Free()
}
