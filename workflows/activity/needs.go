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
	n.critic = method.NeedsCritic()
	n.reference = n.creditReference || loss.Has(kernels.ReadsReference)
	return n
}

// untrained says why a loss leaves a trajectory out that no part of the method dropped; "" when it does not.
func untrained(loss kernels.Program, s rollout.Streams) (reason string) {
	reads := loss.Reads()
	switch {
	case reads.Has(kernels.ReadsPairs) && s.Pair == "":
		return "unpaired"
	case reads.Has(kernels.ReadsRankScores) && s.RankScore == nil:
		return "unranked"
	}
	return ""
}
