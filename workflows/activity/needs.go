package activity

import (
	"github.com/turnwise-rl/turnwise/algos"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
)

// needs are what a method asks of the networks.
type needs struct {
	// critic: the policy has a value head.
	critic bool
	// reference: some part compares with the reference policy.
	reference bool
	// Before credit, trajectories get the critic's values and the reference policy's log-probabilities.
	creditValues, creditReference bool
}

func needsOf(method algos.Method) needs {
	credit, loss := method.Reads(), method.Loss.Reads()
	n := needs{creditValues: credit.Values || loss.Has(kernels.ReadsOldValues), creditReference: credit.Reference}
	n.critic = n.creditValues || loss.Has(kernels.ReadsValues)
	n.reference = n.creditReference || loss.Has(kernels.ReadsReference)
	return n
}

// untrained says why a loss leaves a trajectory out that no part of the method dropped; "" when it does not. A
// trajectory with an advantage of 0 throughout stays in every count but is not gone through, because nothing
// would come of it: quiet is true.
func untrained(loss kernels.Program, s rollout.Streams) (reason string, quiet bool) {
	reads := loss.Reads()
	switch {
	case reads.Has(kernels.ReadsPairs):
		if s.Pair == "" {
			return "unpaired", false
		}
	case reads.Has(kernels.ReadsRankScores):
		if s.RankScore == nil {
			return "unranked", false
		}
	case reads&(kernels.ReadsReturns|kernels.ReadsValues) != 0:
		// The critic learns at every token, whatever the advantage.
	case reads.Has(kernels.ReadsAdvantages):
		return "", !nonZero(s.Advantage) && !(reads.Has(kernels.ReadsCEWeights) && nonZero(s.CEWeight)) &&
			!(reads.Has(kernels.ReadsReferenceKLWeights) && nonZero(s.ReferenceKLWeight))
	}
	return "", false
}

func nonZero(values []float64) bool {
	for _, v := range values {
		if v != 0 {
			return true
		}
	}
	return false
}
