package trainer

import (
	"fmt"
	"math"

	"github.com/turnwise-rl/turnwise/kernels"
)

// Report describes one batch of updates.
type Report struct {
	Loss float64 `json:"loss"`
	// GradNorm is the mean over the updates of the gradient's norm before clipping.
	GradNorm float64 `json:"grad_norm"`
	// ClipRatio is the share of sampled tokens whose surrogate is clipped.
	ClipRatio float64 `json:"clip_ratio"`
	// KeptRatio is the share of sampled tokens that no mask and no off-policy part of the program rejects.
	KeptRatio float64 `json:"kept_ratio"`
	// RatioMean is the mean ratio of current to anchor policy; exactly 1 in the first update on-policy.
	RatioMean float64 `json:"ratio_mean"`
	// BehaviorKL is the k3 estimate of KL(behavior‖current) per sampled token, over all updates.
	BehaviorKL float64 `json:"behavior_kl"`
	// ProximalKL is the k3 estimate of KL(behavior‖proximal) per sampled token: how far the weights before the
	// first update are from those that sampled. When the proximal policy is not measured it is over the tokens
	// of the first update; 0 when the behavior is unknown.
	ProximalKL float64 `json:"proximal_kl"`
	// StalenessVersions is how many versions behind the weights before the first update a sampled token is, on
	// average, StalenessMax at most; 0 when the versions are unknown.
	StalenessVersions float64 `json:"staleness_versions"`
	StalenessMax      int     `json:"staleness_max"`
	// ReferenceKL is the program's divergence from the reference policy per sampled token.
	ReferenceKL float64 `json:"reference_kl"`
	// Entropy is the mean policy entropy per sampled token, in nats.
	Entropy float64 `json:"entropy"`
	// ValueError is the critic's mean squared error (v − G)² per sampled token; 0 without a critic.
	ValueError float64 `json:"value_error"`
	// ExplainedVariance is 1 − Var(G − v)/Var(G) over sampled tokens, with the values before the first
	// update: 1 for a perfect critic, 0 for one that is as good as a constant, and 0 without a critic.
	ExplainedVariance float64 `json:"explained_variance"`
	// Pairs counts the pairs trained, PairAccuracy is the share of them whose chosen sequence the policy
	// prefers; 0 without pairs.
	Pairs        int     `json:"pairs"`
	PairAccuracy float64 `json:"pair_accuracy"`
	// OnPolicyGap is the largest |log π − log μ| before the first update, over the sampled tokens that ProximalKL
	// is over: 0 when sampler and learner agree to the last bit. Negative when the behavior is unknown.
	OnPolicyGap float64 `json:"on_policy_gap"`
	// TokensTrained counts sampled tokens; Tokens counts all tokens that went through the network.
	TokensTrained int `json:"tokens_trained"`
	Tokens        int `json:"tokens"`
	Updates       int `json:"updates"`
}

// check reports the first figure that is not a number to record.
func (r Report) check() error {
	for _, figure := range []struct {
		name  string
		value float64
	}{
		{"loss", r.Loss}, {"gradient norm", r.GradNorm}, {"mean ratio", r.RatioMean}, {"behavior KL", r.BehaviorKL}, {"proximal KL", r.ProximalKL},
		{"reference KL", r.ReferenceKL}, {"entropy", r.Entropy}, {"value error", r.ValueError}, {"on-policy gap", r.OnPolicyGap},
	} {
		if math.IsNaN(figure.value) || math.IsInf(figure.value, 0) {
			return fmt.Errorf("%s is %g: lower the learning rate", figure.name, figure.value)
		}
	}
	return nil
}

// tally gathers sums over micro-batches and updates.
type tally struct {
	report  Report
	metrics kernels.Metrics
	drift   distance
}

// begin notes what a batch tells before any update.
func (t *tally) begin(batch []Sequence, update Update) {
	t.drift.largest = -1
	t.report.ExplainedVariance = explainedVariance(batch)
	t.report.StalenessVersions, t.report.StalenessMax = ages(batch, update.Version-1)
}

// add counts one evaluation of the loss.
func (t *tally) add(result kernels.Result[float32], tokens int) {
	t.report.Loss += result.Loss
	t.report.Tokens += tokens
	t.metrics.Add(result.Metrics)
}

// finish turns sums into means.
func (t tally) finish() Report {
	r, m := t.report, t.metrics
	r.TokensTrained, r.Pairs = int(m.Tokens), int(m.Pairs)
	r.OnPolicyGap, r.ProximalKL = t.drift.largest, t.drift.k3/math.Max(1, t.drift.tokens)
	if r.Updates > 0 {
		r.Loss /= float64(r.Updates)
		r.GradNorm /= float64(r.Updates)
	}
	if m.Tokens > 0 {
		r.ClipRatio = m.Clipped / m.Tokens
		r.KeptRatio = m.Kept / m.Tokens
		r.RatioMean = m.RatioSum / m.Tokens
		r.BehaviorKL = m.BehaviorK3Sum / m.Tokens
		r.ReferenceKL = m.ReferenceKLSum / m.Tokens
		r.Entropy = m.EntropySum / m.Tokens
		r.ValueError = m.ValueErrorSum / m.Tokens
	}
	if m.Pairs > 0 {
		r.PairAccuracy = m.Ordered / m.Pairs
	}
	return r
}

// explainedVariance is how much of the variance of the returns the values before the first update tell.
func explainedVariance(batch []Sequence) float64 {
	var returns, rest moments
	for _, s := range batch {
		if s.OldValues == nil || s.Returns == nil {
			return 0
		}
		for t, sampled := range s.Sampled {
			if sampled {
				returns.add(float64(s.Returns[t]))
				rest.add(float64(s.Returns[t]) - float64(s.OldValues[t]))
			}
		}
	}
	if returns.squares == 0 {
		return 0
	}
	return 1 - rest.squares/returns.squares
}

// moments gathers a mean and the sum of squared deviations from it, one value after another (Welford 1962).
type moments struct{ n, mean, squares float64 }

func (m *moments) add(x float64) {
	m.n++
	d := x - m.mean
	m.mean += d / m.n
	m.squares += d * (x - m.mean)
}
