package runfolder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
)

// MetricsLine is one line of metrics.jsonl.
type MetricsLine struct {
	Step      int       `json:"step"`
	Kind      string    `json:"kind"`
	Time      time.Time `json:"time"`
	Loss      float64   `json:"loss"`
	Reward    float64   `json:"reward"`
	Success   float64   `json:"success"`
	Turns     float64   `json:"turns"`
	Entropy   float64   `json:"entropy"`
	GradNorm  float64   `json:"grad_norm"`
	ClipRatio float64   `json:"clip_ratio"`
	// KeptRatio is the share of trained tokens that no mask and no off-policy part of the loss rejects.
	KeptRatio float64 `json:"kept_ratio"`
	RatioMean float64 `json:"ratio_mean"`
	// BehaviorKL is the k3 estimate of KL(behavior‖current) per token, ProximalKL that of KL(behavior‖proximal):
	// what the updates of earlier steps account for. OnPolicyGap is the largest log-probability difference between
	// sampler and learner before the first update (0: the same bits).
	BehaviorKL  float64 `json:"behavior_kl"`
	ProximalKL  float64 `json:"proximal_kl"`
	OnPolicyGap float64 `json:"on_policy_gap"`
	// StalenessVersions is how many versions old a trained token is on average, StalenessMax at most.
	StalenessVersions float64 `json:"staleness_versions"`
	StalenessMax      int     `json:"staleness_max"`
	// Dropped counts the groups that were given up since the step before.
	Dropped int `json:"dropped,omitempty"`
	// ReferenceKL is the loss's divergence from the reference policy per token; absent without one.
	ReferenceKL float64 `json:"reference_kl,omitempty"`
	// ValueError is the critic's mean squared error per token, ExplainedVariance the share of the returns'
	// variance that its values tell before the step's updates; absent without a critic.
	ValueError        float64 `json:"value_error,omitempty"`
	ExplainedVariance float64 `json:"explained_variance,omitempty"`
	// Pairs counts preferences trained, PairAccuracy is the share of them that the policy has the right way
	// round; absent without preferences.
	Pairs        int     `json:"pairs,omitempty"`
	PairAccuracy float64 `json:"pair_accuracy,omitempty"`
	// TokensSampled counts the policy's own tokens in the batch, TokensTrained those that moved it, and
	// Tokens all that went through the network.
	TokensSampled int     `json:"tokens_sampled"`
	Tokens        int     `json:"tokens"`
	TokensTrained int     `json:"tokens_trained"`
	UpdateSeconds float64 `json:"update_seconds"`
}

// Line is the manifest as a line of metrics.
func (m Manifest) Line() MetricsLine {
	return MetricsLine{
		Step: m.Step, Kind: string(m.Kind), Time: m.Committed, Loss: m.Report.Loss,
		Reward: m.Rewards.Reward, Success: m.Rewards.Success, Turns: m.Rewards.Turns,
		Entropy: m.Report.Entropy, GradNorm: m.Report.GradNorm, ClipRatio: m.Report.ClipRatio,
		KeptRatio: m.Report.KeptRatio, RatioMean: m.Report.RatioMean, BehaviorKL: m.Report.BehaviorKL, OnPolicyGap: m.Report.OnPolicyGap,
		ProximalKL: m.Report.ProximalKL, StalenessVersions: m.Report.StalenessVersions, StalenessMax: m.Report.StalenessMax, Dropped: len(m.Dropped),
		ReferenceKL: m.Report.ReferenceKL, ValueError: m.Report.ValueError, ExplainedVariance: m.Report.ExplainedVariance,
		Pairs: m.Report.Pairs, PairAccuracy: m.Report.PairAccuracy,
		TokensSampled: m.Rewards.SampledTokens, Tokens: m.Report.Tokens, TokensTrained: m.Report.TokensTrained, UpdateSeconds: m.Seconds.Update,
	}
}

// Event is one line of events.jsonl.
type Event struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

// AppendEvent writes a line of events.
func (f *Folder) AppendEvent(ctx context.Context, event Event) error {
	return f.appendLine(ctx, EventsKey, event)
}

// AppendMetrics writes the line of every committed step that has none yet, up to and including upTo.
// A learner that died between a commit and its line is made up for here.
func (f *Folder) AppendMetrics(ctx context.Context, upTo int) error {
	unlock, err := f.Lock(ctx, "metrics.lock") // a learner that was given up on may still be writing
	if err != nil {
		return err
	}
	defer unlock()
	lines, err := f.Metrics(ctx)
	if err != nil {
		return err
	}
	next := 1
	if len(lines) > 0 {
		next = lines[len(lines)-1].Step + 1
	}
	for ; next <= upTo; next++ {
		manifest, err := f.Manifest(ctx, next)
		if err != nil {
			return err
		}
		if err := f.appendLine(ctx, MetricsKey, manifest.Line()); err != nil {
			return err
		}
	}
	return nil
}

func (f *Folder) appendLine(ctx context.Context, key string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return f.Append(ctx, key, data)
}

// Metrics reads metrics.jsonl. A torn last line, as a crash may leave it, is left out; any other line
// that cannot be read is a [*FormatError].
func (f *Folder) Metrics(ctx context.Context) ([]MetricsLine, error) {
	return readLines[MetricsLine](ctx, f, MetricsKey, "remove the file: it is made again from the manifests")
}

// Events reads events.jsonl. A torn last line, as a crash may leave it, is left out; any other line
// that cannot be read is a [*FormatError].
func (f *Folder) Events(ctx context.Context) ([]Event, error) {
	return readLines[Event](ctx, f, EventsKey, "remove the line")
}

func readLines[T any](ctx context.Context, f *Folder, key, advice string) ([]T, error) {
	lines, _, err := f.Lines(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := make([]T, len(lines))
	for i, line := range lines {
		if err := json.Unmarshal(line, &out[i]); err != nil {
			return nil, &FormatError{Path: fmt.Sprintf("%s:%d", filepath.Join(f.Path, key), i+1), Err: fmt.Errorf("%w; %s", err, advice)}
		}
	}
	return out, nil
}
