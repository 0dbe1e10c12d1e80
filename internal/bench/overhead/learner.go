package overhead

import (
	"context"
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// noDigest stands where a run has the digest of weights.
const noDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// weightsOf is a reference as long as those of real weights; nothing is stored under it.
func weightsOf(version int) runstate.Ref {
	return runstate.Ref{Key: runfolder.WeightsKey(version, noDigest), Digest: noDigest, Size: 1}
}

func (p *parts) prepare(context.Context, workflows.PrepareInput) (workflows.PrepareResult, error) {
	return workflows.PrepareResult{Weights: weightsOf(0)}, nil
}

func (p *parts) publishControl(ctx context.Context, input workflows.ControlInput) error {
	p.marks.published()
	return p.folder.PublishControl(ctx, input.Control)
}

func (p *parts) recordEvent(ctx context.Context, input workflows.RecordInput) error {
	return p.folder.AppendEvent(ctx, runfolder.Event{Time: input.Time, Text: input.Text})
}

func (p *parts) evaluate(context.Context, workflows.EvaluateInput) error { return nil }

// trainStep commits a step as the learner does, under its fence, and trains nothing.
func (p *parts) trainStep(ctx context.Context, input workflows.TrainInput) (workflows.TrainResult, error) {
	p.marks.stepBegins(input, time.Now())
	weights := weightsOf(input.Step)
	if err := p.folder.Acquire(ctx, input.Fence); err != nil {
		return workflows.TrainResult{}, err
	}
	stored := blob.Ref(weights)
	err := p.folder.Commit(ctx, runfolder.Manifest{Step: input.Step, Kind: input.Kind, Fence: input.Fence, Committed: time.Now(),
		Batch: input.Batch, WeightsDigest: noDigest, OptimizerDigest: noDigest, Weights: &stored})
	if err != nil {
		return workflows.TrainResult{}, err
	}
	p.marks.stepEnds(input.Step, time.Now())
	return workflows.TrainResult{Step: input.Step, Weights: weights}, nil
}
