package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/lease"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// signals are the channels of what the run is told from outside.
type signals struct {
	groups, pools, evaluations, leases workflow.ReceiveChannel
}

func listenForSignals(ctx workflow.Context) signals {
	return signals{
		groups:      workflow.GetSignalChannel(ctx, GroupsSignal),
		pools:       workflow.GetSignalChannel(ctx, PoolSignal),
		evaluations: workflow.GetSignalChannel(ctx, EvaluationSignal),
		leases:      workflow.GetSignalChannel(ctx, LeaseSignal),
	}
}

// waiting says whether there is a signal that nobody has taken.
func (s signals) waiting() bool {
	return s.groups.Len() > 0 || s.pools.Len() > 0 || s.evaluations.Len() > 0 || s.leases.Len() > 0
}

// take empties the channels. Groups come first: what a loop finished before it was lost is not played
// again, and a loop has nothing to report before the machine has heard of it.
func (s signals) take() []runstate.Event {
	var events []runstate.Event
	for report, ok := receive[GroupsReport](s.groups); ok; report, ok = receive[GroupsReport](s.groups) {
		events = append(events, report.events()...)
	}
	for news, ok := receive[PoolNews](s.pools); ok; news, ok = receive[PoolNews](s.pools) {
		events = append(events, news.events()...)
	}
	for news, ok := receive[EvaluationNews](s.evaluations); ok; news, ok = receive[EvaluationNews](s.evaluations) {
		events = append(events, news.event())
	}
	for news, ok := receive[lease.News](s.leases); ok; news, ok = receive[lease.News](s.leases) {
		events = append(events, leaseEvents(news)...)
	}
	return events
}

// receive takes one signal, if there is one. Each is decoded into a value of its own: absent fields
// keep what was there.
func receive[T any](channel workflow.ReceiveChannel) (T, bool) {
	var message T
	ok := channel.ReceiveAsync(&message)
	return message, ok
}

func (n PoolNews) events() []runstate.Event {
	switch n.State {
	case PoolServing:
		return []runstate.Event{runstate.PoolServing{Pool: n.Pool, Tenure: n.Tenure, Worker: n.Worker}}
	case PoolQuiet:
		return []runstate.Event{runstate.PoolQuiet{Pool: n.Pool, Tenure: n.Tenure, Revision: n.Revision}}
	case PoolLost:
		return []runstate.Event{runstate.PoolLost{Pool: n.Pool, Tenure: n.Tenure, Reason: n.Reason}}
	case PoolFailed:
		return []runstate.Event{runstate.PoolFailed{Pool: n.Pool, Reason: n.Reason}}
	}
	return nil // of a program with more states than this one
}

func (g GroupsReport) events() []runstate.Event {
	var events []runstate.Event
	for _, ready := range g.Ready {
		events = append(events, runstate.GroupReady{Group: ready.GroupRef, Failed: ready.Failed})
	}
	for _, short := range g.Short {
		events = append(events, runstate.GroupShort{Number: short.Number, Round: short.Round, Failed: short.Failed})
	}
	for _, dropped := range g.Dropped {
		events = append(events, runstate.GroupDropped{Number: dropped.Number, Reason: dropped.Reason})
	}
	if g.CorruptWeights != "" {
		events = append(events, runstate.WeightsCorrupt{Key: g.CorruptWeights})
	}
	return events
}

// leaseEvents is what news of the device pool mean to the run.
func leaseEvents(news lease.News) []runstate.Event {
	switch news.Kind {
	case lease.Granted:
		if l := news.Lease; l != nil {
			return []runstate.Event{runstate.LeaseGranted{Reason: news.Reason,
				Lease: runstate.Lease{Fence: l.Fence, Agent: l.Agent, Host: l.Host, Devices: l.Devices}}}
		}
	case lease.Waiting:
		return []runstate.Event{runstate.LeaseWaiting{Reason: news.Reason}}
	case lease.Yield:
		return []runstate.Event{runstate.LeaseYield{Fence: news.Fence, Reason: news.Reason}}
	case lease.Revoked:
		return []runstate.Event{runstate.LeaseRevoked{Fence: news.Fence, Reason: news.Reason}}
	}
	return nil // of a program that knows more kinds than this one
}

func (n EvaluationNews) event() runstate.Event {
	switch {
	case n.State == EvaluationWaiting:
		return runstate.EvaluationWaiting{Version: n.Version, Reason: n.Reason}
	case n.State == EvaluationPlaying:
		return runstate.EvaluationWaiting{Version: n.Version}
	case n.Reason != "":
		return runstate.EvaluationFailed{Version: n.Version, Reason: n.Reason}
	}
	return runstate.Evaluated{Version: n.Version, Took: n.Took}
}
