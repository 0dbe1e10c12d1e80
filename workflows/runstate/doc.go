// Package runstate decides what a training run does next. It is the pure core under the TrainingRun
// workflow: events in, commands out, with no Temporal, clock, network or device in it.
//
// A run has a plan: a supervised warm start of Spec.WarmSteps steps, then Spec.TrainSteps steps of
// reinforcement learning. Steps are numbered through, from 1, and the policy version after step s is
// s. Reinforcement step k (from 1) trains the groups numbered (k−1)·GroupsPerStep and up, in that
// order, whatever order they became ready in; so a synchronous run is deterministic.
//
// Groups are admitted by number: rollout workers may start group g when g < Control.Admitted, and
// Admitted never exceeds what Spec.Staleness allows.
package runstate
