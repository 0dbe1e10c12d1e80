package decode

import "github.com/turnwise-rl/turnwise/trainer/policy"

// Stats say what an engine does and has done. Prefixed + Computed tokens are all tokens that requests
// stood for, as often as they had to be computed, and where passes are queued ahead one more of each sequence that had ended by then.
type Stats struct {
	// Pages is the size of the cache. Used ones are in use by sequences, under way or kept between turns;
	// Cached ones are not, but still hold what a prompt may begin with; the others are free.
	Pages, PagesUsed, PagesCached int
	// Running and Waiting are the requests under way; Idle the sequences kept between turns.
	Running, Waiting, Idle int
	// Passes and ComputedTokens went through the network, prompts and sampled tokens alike.
	Passes, ComputedTokens int64
	// SampledTokens were given to requests.
	SampledTokens int64
	// PrefixTokens were found computed when a request started, or started over.
	PrefixTokens int64
	// PageCopies are pages copied because a sequence branched off inside of one.
	PageCopies int64
	// Preemptions are the times that a request gave its pages back for an older one.
	Preemptions int64
	// Swaps are the loads after the first.
	Swaps int64
	// Replays are passes of a token each that the device was given by one call, of which Recordings made the recording that is
	// replayed. Unrecorded ones would have been too, had the device not refused. Others are queued operation by operation: prompts, passes of
	// a kind that is seldom met, and all on a device that does not record.
	Replays, Recordings, Unrecorded int64
}

// Stats returns the state between two passes: zero before the first Load, the last one after Close.
func (e *Engine) Stats() Stats {
	answer := make(chan Stats, 1)
	e.mu.Lock()
	started, closed := e.device != nil, e.closed
	if started && !closed {
		e.post(func(b *batch) { answer <- b.stats() })
	}
	e.mu.Unlock()
	switch {
	case !started:
		return Stats{}
	case !closed:
		return <-answer
	}
	<-e.done
	return e.last
}

func (b *batch) stats() Stats {
	s, p, queued := b.schedule, b.schedule.pool, &b.totals.queued
	return Stats{
		Pages: len(p.pages), PagesUsed: len(p.pages) - p.available(), PagesCached: p.unreferenced,
		Running: len(s.running), Waiting: len(s.waiting), Idle: len(s.idle),
		Passes: b.totals.passes, ComputedTokens: b.totals.computed, SampledTokens: b.totals.sampled, Swaps: b.totals.swaps,
		PrefixTokens: s.counts.prefix, Preemptions: s.counts.preempted, PageCopies: s.counts.copied,
		Replays: queued[policy.Replayed] + queued[policy.Recorded], Recordings: queued[policy.Recorded], Unrecorded: queued[policy.Unrecorded],
	}
}
