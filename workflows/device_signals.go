package workflows

import (
	"cmp"
	"slices"

	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
)

// What a holder tells the device pool. Signals of different names that arrive together have lost their order;
// Said tells it: it grows with everything that a holder says, also from one history of its workflow to the next.
type (
	saidRequest struct {
		lease.Request
		Said int64 `json:"said,omitempty"`
	}
	saidRenewal struct {
		lease.Lease
		Said int64 `json:"said,omitempty"`
	}
	saidRelease struct {
		lease.Released
		Said int64 `json:"said,omitempty"`
	}
)

// poolSignals are the channels of what holders tell the pool.
type poolSignals struct{ requests, renewals, releases workflow.ReceiveChannel }

func listenForHolders(ctx workflow.Context) poolSignals {
	return poolSignals{
		requests: workflow.GetSignalChannel(ctx, RequestSignal),
		renewals: workflow.GetSignalChannel(ctx, RenewSignal),
		releases: workflow.GetSignalChannel(ctx, ReleaseSignal),
	}
}

func (s poolSignals) waiting() bool {
	return s.requests.Len() > 0 || s.renewals.Len() > 0 || s.releases.Len() > 0
}

// take empties the channels, in the order in which things were said: a holder may give back what it has just
// asked for, or ask for another lease as soon as it has given one back.
func (s poolSignals) take() []lease.Event {
	type line struct {
		said  int64
		event lease.Event
	}
	var lines []line
	for r, ok := receive[saidRelease](s.releases); ok; r, ok = receive[saidRelease](s.releases) {
		lines = append(lines, line{r.Said, r.Released})
	}
	for l, ok := receive[saidRenewal](s.renewals); ok; l, ok = receive[saidRenewal](s.renewals) {
		lines = append(lines, line{l.Said, lease.Renewed{Lease: l.Lease}})
	}
	for r, ok := receive[saidRequest](s.requests); ok; r, ok = receive[saidRequest](s.requests) {
		lines = append(lines, line{r.Said, lease.Requested{Request: r.Request}})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.said, b.said) })
	events := make([]lease.Event, 0, len(lines))
	for _, line := range lines {
		events = append(events, line.event)
	}
	return events
}
