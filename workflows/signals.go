package workflows

import (
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// signals are the channels of what the run is told from outside.
type signals struct{ groups, pools, evaluations workflow.ReceiveChannel }

func listenForSignals(ctx workflow.Context) signals {
	return signals{
		groups:      workflow.GetSignalChannel(ctx, GroupsSignal),
		pools:       workflow.GetSignalChannel(ctx, PoolSignal),
		evaluations: workflow.GetSignalChannel(ctx, EvaluationSignal),
	}
}

// waiting says whether there is a signal that nobody has taken.
func (s signals) waiting() bool {
	return s.groups.Len() > 0 || s.pools.Len() > 0 || s.evaluations.Len() > 0
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

func (n EvaluationNews) event() runstate.Event {
	if n.Reason != "" {
		return runstate.EvaluationFailed{Version: n.Version, Reason: n.Reason}
	}
	return runstate.Evaluated{Version: n.Version, Took: n.Took}
}
