package shape

import "github.com/turnwise-rl/turnwise/rollout"

// Divergence is the mean of what KLInReward charges for, by Per, over the trajectories that carry both
// log-probabilities, and how many these are: what the controller of the coefficient looks at.
func (s KLInReward) Divergence(groups []rollout.Group) (mean float64, trajectories int) {
	sum, tokens := 0.0, 0
	for _, group := range groups {
		for i := range group.Trajectories {
			t := &group.Trajectories[i]
			if s.needs(t) != nil {
				continue
			}
			trajectories++
			for p, sampled := range t.Sampled {
				if sampled {
					sum += divergence(s.Estimator, float64(t.BehaviorLogProbs[p])-float64(t.ReferenceLogProbs[p]))
					tokens++
				}
			}
		}
	}
	switch {
	case tokens == 0:
		return 0, trajectories
	case s.Per == PerTrajectory:
		return sum / float64(trajectories), trajectories
	}
	return sum / float64(tokens), trajectories
}

// Next is the part with the coefficient that the controller gives it for the step after one with this mean
// divergence over so many trajectories.
func (s KLInReward) Next(coef, mean float64, trajectories int) KLInReward {
	s.Coef = NextKLCoef(coef, mean, s.Target, trajectories, s.Horizon)
	return s
}
