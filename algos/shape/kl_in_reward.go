package shape

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/algos/fact"
	"github.com/turnwise-rl/turnwise/algos/scored"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
)

// KLInReward charges for leaving the reference policy, at every sampled token:
//
//	r_t ← r_t − Coef·k(log μ, log π_ref)
//
// with the estimators and limits of the loss's kl term, and the log-probabilities of the policy that sampled
// in place of the current one's. Observations cost nothing. Use this or kl in the loss, not both. Ziegler et
// al., arXiv 1909.08593, eq. 2; verl core_algos.py, kl_penalty.
type KLInReward struct {
	// Estimator of the divergence; those with a plus differ in their gradient alone, and a reward has none.
	// Default k1.
	Estimator kernels.Divergence `yaml:"estimator" jsonschema:"enum=k1,enum=k2,enum=k3,enum=abs"`
	// Coef multiplies it. Default 0.001.
	Coef float64 `yaml:"coef"`
	// Target is the mean divergence towards which the coefficient adapts from step to step; 0 keeps it. Default
	// 0; StepTool has 6 per trajectory, from a coefficient of 0.3.
	Target float64 `yaml:"target"`
	// Per says what the mean divergence that Target is compared with is a mean over: of a token, as in verl, or of the
	// sum over a trajectory, as in TRL. Unused without a target. Default token.
	Per DivergencePer `yaml:"per" jsonschema:"enum=token,enum=trajectory"`
	// Horizon is how many trajectories the adapting takes; the more, the slower. Default 10000.
	Horizon int `yaml:"horizon"`
}

// DivergencePer is what a mean divergence is taken over.
type DivergencePer string

const (
	PerToken      DivergencePer = "token"      // sampled tokens
	PerTrajectory DivergencePer = "trajectory" // trajectories, each with the sum over its sampled tokens
)

// NewKLInReward returns KLInReward with its defaults.
func NewKLInReward() KLInReward {
	return KLInReward{Estimator: kernels.KLK1, Coef: 0.001, Per: PerToken, Horizon: 10000}
}

// Validate reports settings that are unknown or out of range.
func (s KLInReward) Validate() error {
	estimators := []kernels.Divergence{kernels.KLK1, kernels.KLK2, kernels.KLK3, kernels.KLAbs}
	return first(oneOf("estimator", s.Estimator, estimators), fact.NotNegative("coef", s.Coef), fact.NotNegative("target", s.Target),
		oneOf("per", s.Per, []DivergencePer{PerToken, PerTrajectory}), fact.Positive("horizon", float64(s.Horizon)))
}

// ReadsReference is true: the trajectories must carry the reference policy's log-probabilities.
func (KLInReward) ReadsReference() bool { return true }

// Shape adds the rewards at tokens.
func (s KLInReward) Shape(g *scored.Group) error {
	if g.Tokens == nil {
		g.Tokens = make([][]float64, len(g.Trajectories))
		for i := range g.Trajectories {
			g.Tokens[i] = make([]float64, len(g.Trajectories[i].Tokens))
		}
	}
	for _, i := range kept(g) {
		t := &g.Trajectories[i]
		if err := s.needs(t); err != nil {
			return err
		}
		for p, sampled := range t.Sampled {
			if !sampled {
				continue
			}
			behavior, reference := float64(t.BehaviorLogProbs[p]), float64(t.ReferenceLogProbs[p])
			if !isFinite(behavior) || !isFinite(reference) {
				return fmt.Errorf("trajectory %s: token %d: behavior_logprobs %v, reference_logprobs %v: kl_in_reward needs finite numbers where sampled is 1",
					t.ID, p, behavior, reference)
			}
			g.Tokens[i][p] -= s.Coef * divergence(s.Estimator, behavior-reference)
		}
	}
	return nil
}

func (KLInReward) needs(t *rollout.Trajectory) error {
	for _, stream := range []struct {
		name, fix string
		values    []float32
	}{
		{"behavior_logprobs", "record them when sampling", t.BehaviorLogProbs},
		{"reference_logprobs", "give the run a reference policy, or remove the part", t.ReferenceLogProbs},
	} {
		switch {
		case stream.values == nil:
			return fmt.Errorf("trajectory %s: %s is null, which kl_in_reward reads: %s", t.ID, stream.name, stream.fix)
		case len(stream.values) != len(t.Tokens):
			return fmt.Errorf("trajectory %s: %s: %d values for %d tokens", t.ID, stream.name, len(stream.values), len(t.Tokens))
		}
	}
	return nil
}

// divergence is the value of an estimator at log-ratio d = log π − log π_ref, with the limits that the loss's
// kl term has by default: k1 = d, k2 = d²/2, k3 = e^−d + d − 1 with d and the result limited, abs = |d|.
func divergence(estimator kernels.Divergence, d float64) float64 {
	switch estimator {
	case kernels.KLK2:
		return d * d / 2
	case kernels.KLK3:
		limits := kernels.NewKL()
		d = min(max(d, -limits.Clamp), limits.Clamp)
		return min(max(math.Exp(-d)+d-1, -limits.Bound), limits.Bound)
	case kernels.KLAbs:
		return math.Abs(d)
	}
	return d
}

// NextKLCoef is the adaptive controller: the coefficient of the next step after one with this mean divergence
// over so many samples,
//
//	β ← β·(1 + clip(mean/target − 1, −0.2, 0.2)·samples/horizon)
//
// With target 0 the coefficient stays. Ziegler et al., arXiv 1909.08593, section 2.2; verl core_algos.py,
// AdaptiveKLController.
func NextKLCoef(coef, mean, target float64, samples, horizon int) float64 {
	if target == 0 {
		return coef
	}
	off := min(max(mean/target-1, -0.2), 0.2)
	return coef * (1 + off*float64(samples)/float64(horizon))
}
