// Package runstate decides what a training run does next. It is the pure core under the TrainingRun
// workflow: events in, commands out, with no Temporal, clock, network or device in it. Time comes in
// with the events.
//
// A run has a plan: a supervised warm start of Spec.WarmSteps steps, then Spec.TrainSteps steps of
// reinforcement learning. Steps are numbered through, from 1, and the policy version after step s is s.
//
// Groups are numbered from 0 in the order they are admitted. A group is open from its admission until
// it is settled: trained by a step, or dropped with a reason that the next manifest records. The
// machine gives open groups to the pools that serve, as their shares; a pool plays its share and
// reports each group that is finished, short of members, or dropped.
//
// With staleness 0 a step trains the lowest open numbers in order, so the run is deterministic. With
// staleness k it trains the lowest numbers that are ready, none of whose tokens is more than k versions
// older than the version trained.
package runstate
