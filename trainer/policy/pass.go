package policy

import "github.com/turnwise-rl/turnwise/kernels/device"

// Pass is one decoding pass of some sequences through a network: new tokens of each, and for each a
// token sampled behind them.
type Pass struct {
	// Tokens are the new tokens of all sequences, one sequence after the other; each has at least one.
	Tokens []int32
	// Drawn is empty, or says of each of Tokens that the device knows it already: as the token chosen for that sequence of the pass
	// that was queued before, in place of what Tokens has. −1 is none. See [Network.Queue].
	Drawn []int32
	// At says where they stand in the cache.
	At device.Placement
	// How says how each sequence's next token is chosen. len = sequences.
	How []device.Sampling
	// Chosen receives the choices. len = sequences.
	Chosen []device.Sampled
	// Queued is how the work came to the device, and Refused why it was not recorded where it is Unrecorded; Extend writes
	// both.
	Queued  Queued
	Refused error
}
