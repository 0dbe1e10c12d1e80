// Package orchestrate simulates training runs in virtual time, to show what a bound on staleness buys.
// The machine that decides is the one that decides in production, [runstate.Machine]; only what takes
// time is modeled: slots that play episodes, turns and tool calls with truncated log-normal latencies, a
// learner, and the publication of weights.
//
// [Simulate] plays one run and reports where its time went. [Compare] plays the same run synchronously,
// one step off and with a bound of its own; a trajectory draws the same latencies in each. [Sweep]
// measures what deciding costs as slots grow.
//
// Slots contend for the device that decodes: with n of s slots decoding, each sequence runs at speed
// 1/(1 + α·n/s), integrated exactly between changes of n. Weights are taken up in flight. Nothing fails
// in a simulation, nothing is lost, and no text is sampled: absolute times mean nothing, ratios do.
package orchestrate
