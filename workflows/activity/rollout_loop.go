package activity

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/worker"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
)

// controlInterval is how often a loop looks at the control object: one small local file.
const controlInterval = 10 * time.Millisecond

// RolloutLoop plays the groups of one pool as they are admitted, keeps as many episodes in flight as
// the run allows, stores each group and tells the run about it. It learns of new weights, pause and
// stop by reading the control object. After a death it goes on with the groups that are not in the
// store.
func (a *Activities) RolloutLoop(ctx context.Context, input workflows.LoopInput) (workflows.LoopResult, error) {
	defer heartbeat(ctx)()
	result, err := a.rolloutLoop(ctx, input)
	if err != nil && ctx.Err() == nil {
		a.Log.Error("rollout loop failed", "run", input.Run, "pool", input.Pool, "error", err)
	}
	return result, classify(err)
}

func (a *Activities) rolloutLoop(ctx context.Context, input workflows.LoopInput) (workflows.LoopResult, error) {
	r, err := a.openRun(ctx, input.Run)
	if err != nil {
		return workflows.LoopResult{}, err
	}
	engine, err := r.newEngine()
	if err != nil {
		return workflows.LoopResult{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{
		input: input, run: r, engine: engine, signals: a.Signals, version: unknown,
		slots: worker.NewSlots(r.config.Sampling.Slots), ended: make(chan error, 1), next: input.Pool,
	}
	result, err := l.play(ctx)
	cancel()
	l.playing.Wait()
	engine.Close()
	return result, err
}

// newEngine returns a decoding engine for the run's policy, without weights.
func (r *run) newEngine() (*policy.Engine, error) {
	shape := r.config.Policy
	shape.VocabSize = r.tokenizer.VocabSize()
	engine, err := policy.NewEngine(shape, policy.EngineConfig{Slots: r.config.Sampling.Slots})
	return engine, lasting(err)
}

// loop is one rollout loop at work.
type loop struct {
	input   workflows.LoopInput
	run     *run
	engine  *policy.Engine
	signals Signaler
	slots   worker.Slots
	version int // of the weights in the engine
	next    int // next group of this pool to start or to report
	playing sync.WaitGroup
	active  int        // groups in flight
	ended   chan error // one entry for each group that ends
}

// play runs until the run stops, the loop hands over, or something breaks.
func (l *loop) play(ctx context.Context) (workflows.LoopResult, error) {
	started := time.Now()
	ticker := time.NewTicker(controlInterval)
	defer ticker.Stop()
	control, err := l.run.folder.Control(ctx)
	if err != nil {
		return workflows.LoopResult{}, err
	}
	l.skip(control.Consumed)
	for {
		control, err := l.run.folder.Control(ctx)
		if err != nil {
			return workflows.LoopResult{}, err
		}
		leaving := time.Since(started) > l.input.HandOverAfter
		switch {
		case control.Stopped:
			return workflows.LoopResult{Stopped: true}, nil
		case leaving && l.active == 0:
			return workflows.LoopResult{}, nil
		case !leaving:
			if err := l.admit(ctx, control); err != nil {
				return workflows.LoopResult{}, err
			}
		}
		select {
		case err := <-l.ended:
			l.active--
			if err != nil {
				return workflows.LoopResult{}, err
			}
		case <-ticker.C:
		case <-ctx.Done():
			return workflows.LoopResult{}, ctx.Err()
		}
	}
}

// skip moves next beyond the groups that are already trained.
func (l *loop) skip(consumed int) {
	for l.next < consumed {
		l.next += l.input.Pools
	}
}

// admit starts every group that may start and has a slot to begin with.
func (l *loop) admit(ctx context.Context, control runstate.Control) error {
	if l.next < control.Admitted && l.version != control.Version {
		model, err := l.run.loadWeights(ctx, blob.Ref(control.Weights))
		if err != nil {
			return err
		}
		l.engine.Load(model, rollout.Version(control.Version))
		l.version = control.Version
	}
	for ; l.next < control.Admitted && l.active < cap(l.slots); l.next += l.input.Pools {
		group := l.next
		l.active++
		l.playing.Go(func() {
			err := l.playGroup(ctx, group)
			select {
			case l.ended <- err:
			case <-ctx.Done():
			}
		})
	}
	return nil
}

// playGroup plays one group unless it is in the store, stores it and tells the run.
func (l *loop) playGroup(ctx context.Context, number int) error {
	ref, err := l.run.folder.Stat(ctx, runfolder.SegmentKey(number))
	if errors.Is(err, blob.ErrNotFound) {
		ref, err = l.makeGroup(ctx, number)
	}
	if err != nil {
		return fmt.Errorf("group %d: %w", number, err)
	}
	return l.tell(ctx, runstate.GroupRef{Number: number, Object: runstate.Ref(ref)})
}

func (l *loop) makeGroup(ctx context.Context, number int) (blob.Ref, error) {
	settings := l.run.config
	sampling := worker.Sampling{Sampler: l.engine, Temperature: settings.Sampling.Temperature,
		Seed: rollout.Seed(settings.Seed, rolloutStream, uint64(number))}
	group, err := l.run.player().PlayGroup(ctx, l.run.trainTask(number), groupID(number), settings.Training.GroupSize, sampling, l.slots)
	if err != nil {
		return blob.Ref{}, err
	}
	data, err := record.EncodeSegment(group)
	if err != nil {
		return blob.Ref{}, lasting(err)
	}
	return l.run.folder.PutOnce(ctx, runfolder.SegmentKey(number), data)
}

// tell signals the run. It keeps trying while the server is away; the run takes each number once.
func (l *loop) tell(ctx context.Context, group runstate.GroupRef) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := l.signals.SignalWorkflow(ctx, l.input.Run, "", workflows.GroupSignal, group)
		if err == nil || ctx.Err() != nil || runIsGone(err) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
