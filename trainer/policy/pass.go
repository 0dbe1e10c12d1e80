package policy

import "github.com/turnwise-rl/turnwise/kernels/device"

// Pass is one decoding pass of some sequences through a network: new tokens of each, and for each a
// token sampled behind them.
type Pass struct {
	// Tokens are the new tokens of all sequences, one sequence after the other; each has at least one.
	Tokens []int32
	// At says where they stand in the cache.
	At device.Placement
	// How says how each sequence's next token is chosen. len = sequences.
	How []device.Sampling
	// Chosen receives the choices. len = sequences.
	Chosen []device.Sampled
}
