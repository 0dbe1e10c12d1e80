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
	"github.com/turnwise-rl/turnwise/trainer/decode"
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
		load:  func(ctx context.Context, ref blob.Ref) (*policy.Network, error) { return a.loadNetwork(ctx, r, ref) },
		slots: worker.NewSlots(r.config.Sampling.Slots), ended: make(chan groupEnd, 1), playing: map[int]bool{}, revision: unknown,
	}
	result, err := l.play(ctx)
	cancel()
	l.group.Wait()
	engine.Close()
	return result, err
}

// newEngine returns a decoding engine for the run's policy, without weights.
func (r *run) newEngine() (*decode.Engine, error) {
	s := r.config.Sampling
	engine, err := decode.New(decode.Config{Slots: s.Slots, MaxTokens: s.MaxTokens, CacheBytes: s.CacheBytes})
	return engine, lasting(err)
}

// loop is one rollout loop at work.
type loop struct {
	input   workflows.LoopInput
	run     *run
	engine  *decode.Engine
	load    func(context.Context, blob.Ref) (*policy.Network, error)
	signals Signaler
	slots   worker.Slots
	version int // of the weights in the engine
	// revision is that of the control object next belongs to.
	revision int
	next     int          // next group of this pool to start or to report
	playing  map[int]bool // groups in flight
	ended    chan groupEnd
	group    sync.WaitGroup // the goroutines of the groups in flight
}

// groupEnd says that a group is stored and reported, or why not.
type groupEnd struct {
	number int
	err    error
}

// play runs until the run stops, the loop hands over, or something breaks.
func (l *loop) play(ctx context.Context) (workflows.LoopResult, error) {
	started := time.Now()
	ticker := time.NewTicker(controlInterval)
	defer ticker.Stop()
	for {
		control, err := l.run.folder.Control(ctx)
		if err != nil {
			return workflows.LoopResult{}, err
		}
		l.follow(control)
		leaving := time.Since(started) > l.input.HandOverAfter
		switch {
		case control.Stopped:
			return workflows.LoopResult{Stopped: true}, nil
		case leaving && len(l.playing) == 0:
			return workflows.LoopResult{}, nil
		case !leaving:
			if err := l.admit(ctx, control); err != nil {
				return workflows.LoopResult{}, err
			}
		}
		select {
		case end := <-l.ended:
			delete(l.playing, end.number)
			if end.err != nil {
				return workflows.LoopResult{}, end.err
			}
		case <-ticker.C:
		case <-ctx.Done():
			return workflows.LoopResult{}, ctx.Err()
		}
	}
}

// follow moves next to the first group of this pool that is not trained, whenever a new control object
// is published. Groups that were reported before are reported again: a run that was started anew on
// the same folder knows nothing of them, and one that knows takes each number once.
func (l *loop) follow(control runstate.Control) {
	if control.Revision == l.revision {
		return
	}
	l.revision, l.next = control.Revision, l.input.Pool
	for l.next < control.Consumed {
		l.next += l.input.Pools
	}
}

// admit starts every group that may start and has a slot to begin with.
func (l *loop) admit(ctx context.Context, control runstate.Control) error {
	if l.next < control.Admitted && l.version != control.Version {
		network, err := l.load(ctx, blob.Ref(control.Weights))
		if err != nil {
			return err
		}
		if err := l.engine.Load(network, rollout.Version(control.Version)); err != nil {
			return lasting(err)
		}
		l.version = control.Version
	}
	for ; l.next < control.Admitted && len(l.playing) < cap(l.slots); l.next += l.input.Pools {
		number := l.next
		if l.playing[number] {
			continue
		}
		l.playing[number] = true
		l.group.Go(func() {
			end := groupEnd{number, l.playGroup(ctx, number)}
			select {
			case l.ended <- end:
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
	if err == nil {
		err = l.tell(ctx, runstate.GroupRef{Number: number, Object: runstate.Ref(ref)})
	}
	if err != nil {
		return fmt.Errorf("group %d: %w", number, err)
	}
	return nil
}

func (l *loop) makeGroup(ctx context.Context, number int) (blob.Ref, error) {
	settings := l.run.config
	sampling := worker.Sampling{Sampler: l.engine, Temperature: settings.Sampling.Temperature,
		TopK: settings.Sampling.TopK, TopP: settings.Sampling.TopP, MinP: settings.Sampling.MinP,
		Seed: rollout.Seed(settings.Seed, rolloutStream, uint64(number))}
	played := l.run.player().PlayGroup(ctx, worker.Members{Task: l.run.trainTask(number), Group: groupID(number),
		Play: worker.FirstMembers(settings.Training.GroupSize), Sampling: sampling}, l.slots)
	if err := played.Err(); err != nil {
		return blob.Ref{}, err
	}
	data, err := record.EncodeSegment(played.Group)
	if err != nil {
		return blob.Ref{}, lasting(err)
	}
	return l.run.folder.PutOnce(ctx, runfolder.SegmentKey(number), data)
}

// tell signals the run. It keeps trying while the server is away; the run takes each number once.
func (l *loop) tell(ctx context.Context, group runstate.GroupRef) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := l.signals.SignalWorkflow(ctx, l.input.Run, "", workflows.GroupSignal, group)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case runIsGone(err):
			return fmt.Errorf("the run takes no signals, it has ended or was terminated: %w", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
