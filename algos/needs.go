package algos

import "github.com/turnwise-rl/turnwise/kernels"

// NeedsCritic is true when credit or the loss reads a critic's values, so that the policy has to have a
// value head.
func (m Method) NeedsCritic() bool {
	loss := m.Loss.Reads()
	return m.Reads().Values || loss.Has(kernels.ReadsValues) || loss.Has(kernels.ReadsOldValues)
}
