package overhead

import (
	"context"
	"errors"
	"time"

	sdk "go.temporal.io/sdk/activity"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/activity"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// observed is a registry in which what is measured stands for some of a run's activities.
type observed struct {
	activity.Registry
	instead map[string]any // by name
}

func (o observed) RegisterActivityWithOptions(function any, options sdk.RegisterOptions) {
	if other := o.instead[options.Name]; other != nil {
		function = other
	}
	o.Registry.RegisterActivityWithOptions(function, options)
}

// publishControl publishes and keeps count.
func (p *parts) publishControl(ctx context.Context, input workflows.ControlInput) error {
	err := p.activities.PublishControl(ctx, input)
	if err == nil {
		p.marks.published(input.Control, p.bench.GroupSize, time.Now())
	}
	return err
}

// trainStep takes its time and commits a step as the learner does, under its fence, with the weights that the
// run began with.
func (p *parts) trainStep(ctx context.Context, input workflows.TrainInput) (workflows.TrainResult, error) {
	ctx, _, release, err := p.activities.Leases.Use(ctx, input.Lease.Fence, input.Lease.Devices)
	if err != nil {
		return workflows.TrainResult{}, err
	}
	defer release()
	p.marks.stepBegins(input, time.Now())
	if err := p.folder.Acquire(ctx, input.Fence); err != nil {
		return workflows.TrainResult{}, err
	}
	first, err := p.folder.Manifest(ctx, 0)
	if err != nil {
		return workflows.TrainResult{}, err
	}
	stop := beat(ctx)
	err = pause(ctx, p.bench.Step)
	stop()
	if err != nil {
		return workflows.TrainResult{}, err
	}
	manifest := runfolder.Manifest{Step: input.Step, Kind: input.Kind, Fence: input.Fence, Committed: time.Now(), Batch: input.Batch,
		WeightsDigest: first.WeightsDigest, OptimizerDigest: first.OptimizerDigest, Digests: first.Digests, Weights: first.Weights}
	for _, drop := range input.Dropped {
		manifest.Dropped = append(manifest.Dropped, runfolder.Dropped{Group: drop.Number, Reason: drop.Reason, Object: drop.Object})
	}
	if err := p.folder.Commit(ctx, manifest); err != nil && !errors.Is(err, blob.ErrExists) {
		return workflows.TrainResult{}, err
	}
	p.marks.stepEnds(input.Step, time.Now())
	return workflows.TrainResult{Step: input.Step, Weights: runstate.Ref(*first.Weights)}, p.folder.AppendMetrics(ctx, input.Step)
}

// beat keeps an activity alive until it is stopped.
func beat(ctx context.Context) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				sdk.RecordHeartbeat(ctx)
			case <-ended:
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

// teller counts the signals of the rollout loop.
type teller struct {
	activity.Signaler
	marks *marks
}

func (t teller) SignalWorkflow(ctx context.Context, workflow, run, name string, arg any) error {
	t.marks.signalled()
	return t.Signaler.SignalWorkflow(ctx, workflow, run, name, arg)
}
