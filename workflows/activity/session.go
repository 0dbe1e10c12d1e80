package activity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/policy"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// session is a learner in memory, at some committed step of one run. It is used by one activity at
// a time.
type session struct {
	run     *run
	learner *trainer.Learner
	// arithmetic is what credit computes with.
	arithmetic kernels.Arithmetic
	// beginning makes the policy of step 0 once more.
	beginning func(context.Context) (*policy.Model, error)
	log       *slog.Logger
	// handovers is where it leaves weights for the samplers of this process.
	handovers *handovers
	// fence is that of the lease that the learner's memory belongs to.
	fence int
	// configs are revisions of the run's config by the digest of their text.
	configs map[string]configs.Run
	// at is the step the weights belong to; unknown when an error left them half-way.
	at int
	// demonstrations are the warm start's sequences, read when first needed.
	demonstrations []trainer.Sequence
	committed      time.Time     // when this process last committed a step with it; zero before
	busy           chan struct{} // holds one token while an activity uses the session
	forgotten      bool          // guarded by Activities.mu; the memory goes when nobody uses it
	freed          bool          // its memory is gone; belongs to who has the token
}

// unknown marks weights that belong to no committed step.
const unknown = -1

// newSession returns a session at step 0 with an untrained model, whose memory it owns.
func (a *Activities) newSession(r *run, model *policy.Model) (*session, error) {
	optimizer, err := trainer.NewOptimizer(model, r.config.Optimizer, 0) // each step has a seed of its own
	if err != nil {
		model.Free()
		return nil, err
	}
	s := &session{
		run: r, learner: &trainer.Learner{Model: model, Optimizer: optimizer, Loss: a.NewEvaluator()}, arithmetic: a.Arithmetic,
		beginning: func(ctx context.Context) (*policy.Model, error) { return a.beginning(ctx, model.Device(), r) },
		log:       a.Log, handovers: &a.handovers, configs: map[string]configs.Run{}, busy: make(chan struct{}, 1),
	}
	s.learner.Relieve = s.takeBack
	return s, nil
}

// free gives the learner's memory back, and what it has left to samplers.
func (s *session) free() {
	s.handovers.drop(s)
	s.learner.Optimizer.Free()
	s.learner.Model.Free()
	if s.learner.Reference != nil {
		s.learner.Reference.Free()
	}
}

// forget lets go of the learner of a run that has made its last step, once whoever uses it gives it
// back. When it is asked for again it comes back from the last checkpoint.
func (a *Activities) forget(id string) {
	a.mu.Lock()
	s := a.sessions[id]
	if s != nil {
		s.forgotten = true
		delete(a.sessions, id)
	}
	a.mu.Unlock()
	if s != nil {
		a.collect(s)
	}
}

// collect gives the memory of a session back that is forgotten, unless somebody uses it, who will.
func (a *Activities) collect(s *session) {
	select {
	case s.busy <- struct{}{}:
	default:
		return
	}
	if a.isForgotten(s) && !s.freed {
		s.freed = true
		s.free()
	}
	<-s.busy
}

// newModel makes a network of the run's shape.
func newModel(on device.Device, r *run, seed uint64) (*policy.Model, error) {
	return policy.New(on, r.shape, computed(options(r.config, seed), on, r.config))
}

// options are those of the network that is trained. All copies of it have the same tensors, those that are
// only sampled from too.
func options(config configs.Run, seed uint64) policy.Options {
	return policy.Options{
		Seed: seed, Recompute: config.Policy.Recompute, LoRA: config.Policy.LoRA, ValueHead: needsOf(config.Method).critic,
	}
}

// opener opens the device that a run computes on.
type opener func(r *run) (device.Device, error)

// session returns the learner of a run under a lease, at whatever step it is, and the function that gives it
// back. One from another lease is forgotten: the work begins again from what is committed.
func (a *Activities) session(ctx context.Context, id string, fence int, open opener) (*session, func(), error) {
	for {
		a.mu.Lock()
		s := a.sessions[id]
		a.mu.Unlock()
		if s != nil && s.fence != fence {
			a.forget(id)
			s = nil
		}
		if s == nil {
			fresh, err := a.openSession(ctx, id, fence, open)
			if err != nil {
				return nil, nil, err
			}
			s = a.keep(id, fresh)
		}
		select {
		case s.busy <- struct{}{}:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		if !a.isForgotten(s) {
			return s, func() { a.giveBack(s) }, nil
		}
		a.giveBack(s) // it was forgotten meanwhile
	}
}

// openSession makes a learner that is at no step yet.
func (a *Activities) openSession(ctx context.Context, id string, fence int, open opener) (*session, error) {
	r, err := a.openRun(ctx, id)
	if err != nil {
		return nil, err
	}
	on, err := open(r)
	if err != nil {
		return nil, err
	}
	model, err := newModel(on, r, 0)
	if err != nil {
		return nil, lasting(err)
	}
	s, err := a.newSession(r, model)
	if err == nil {
		s.fence = fence
	}
	return s, err
}

func (a *Activities) isForgotten(s *session) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return s.forgotten
}

// giveBack ends an activity's use of a session.
func (a *Activities) giveBack(s *session) {
	<-s.busy
	if a.isForgotten(s) {
		a.collect(s)
	}
}

// keep remembers a session unless another activity was faster.
func (a *Activities) keep(id string, fresh *session) *session {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.sessions[id]; s != nil {
		fresh.free()
		return s
	}
	if a.sessions == nil {
		a.sessions = make(map[string]*session)
	}
	fresh.at = unknown
	a.sessions[id] = fresh
	return fresh
}

// frozen reads a version's weights into a network that only scores.
func (r *run) frozen(ctx context.Context, dev device.Device, ref blob.Ref) (*policy.Model, error) {
	data, err := r.folder.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	frozen := computed(options(r.config, 0), dev, r.config)
	frozen.Frozen = true
	model, err := policy.DecodeWeights(dev, r.shape, frozen, data)
	if err != nil {
		return nil, lasting(fmt.Errorf("%s: %w", ref.Key, err))
	}
	return model, nil
}

// loadNetwork reads a version's weights into a network to sample from.
func loadNetwork(ctx context.Context, on device.Device, r *run, ref blob.Ref) (*policy.Network, error) {
	data, err := r.folder.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	network, err := policy.DecodeNetwork(on, r.shape, computed(options(r.config, 0), on, r.config), data)
	if err != nil {
		return nil, lasting(fmt.Errorf("%s: %w", ref.Key, err))
	}
	return network, nil
}

// result is what computing a step tells besides the new weights.
type result struct {
	report  trainer.Report
	rewards runfolder.Rewards
	ledger  []runfolder.LedgerRow
	seconds runfolder.Seconds
	// laps and advantageAbs are for the [Observer] alone.
	laps         trainer.Laps
	advantageAbs float64
}

// order is a step to make.
type order struct {
	step  int
	kind  runstate.Kind
	batch []runstate.GroupRef
	// revision is that of the config that the step uses.
	revision int
	// rebuilt are groups of the batch, by number, that stand for what the store has lost.
	rebuilt map[int]rollout.Group
}

// compute makes the updates of one step on the weights of the step before. On success the session is
// at the step; on an error its weights belong to no step, unless nothing has touched them yet.
func (s *session) compute(ctx context.Context, o order) (result, error) {
	config, err := s.settings(ctx, o.step, o.revision)
	if err != nil {
		return result{}, err
	}
	var out result
	laps := new(trainer.Laps)
	s.learner.Laps = laps
	s.learner.Optimizer.Reseed(rollout.Seed(config.Seed, roundingStream, uint64(o.step)))
	switch o.kind {
	case runstate.Warm:
		out, err = s.imitate(ctx, o.step, config)
	case runstate.Reinforce:
		out, err = s.reinforce(ctx, o, config)
	default:
		err = lasting(fmt.Errorf("step %d has the unknown kind %q", o.step, o.kind))
	}
	if err != nil {
		return result{}, err
	}
	s.at, out.laps = o.step, *laps
	return out, nil
}

// imitate makes one step of the supervised warm start.
func (s *session) imitate(ctx context.Context, step int, config configs.Run) (result, error) {
	if err := s.readDemonstrations(ctx); err != nil {
		return result{}, err
	}
	settings := config.WarmStart
	total := settings.Steps * settings.UpdatesPerStep
	var out result
	started := time.Now()
	s.at = unknown
	for u := range settings.UpdatesPerStep {
		number := (step-1)*settings.UpdatesPerStep + u
		report, err := s.learner.Step(ctx, s.demonstrationBatch(number, config), trainer.Update{
			Program: trainer.Imitation, LearningRate: settings.LearningRate * warmUpThenDecay(number, total),
			Minibatches: 1, MicroBatchTokens: config.Training.MicroBatchTokens,
		})
		if err != nil {
			return result{}, learning(ctx, step, err)
		}
		out.report = sumReports(out.report, report)
	}
	out.report = meanReport(out.report, settings.UpdatesPerStep)
	out.seconds.Update = time.Since(started).Seconds()
	return out, nil
}

// learning marks what a learner refuses as lasting: the same batch on the same weights gives the same
// error. Only a withdrawn activity is another matter.
func learning(ctx context.Context, step int, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return lasting(fmt.Errorf("step %d: %w", step, err))
}

// warmUpThenDecay rises linearly over the first twentieth of the updates and then falls along a
// cosine to a tenth.
func warmUpThenDecay(update, total int) float64 {
	rise := max(1, total/20)
	if update < rise {
		return float64(update+1) / float64(rise)
	}
	progress := float64(update-rise) / float64(max(1, total-rise))
	return 0.1 + 0.9*(1+math.Cos(math.Pi*progress))/2
}

// demonstrationBatch returns the sequences of an update: the demonstrations in an order of their own
// for each pass over them.
func (s *session) demonstrationBatch(update int, config configs.Run) []trainer.Sequence {
	n, size := len(s.demonstrations), config.WarmStart.BatchSize
	batch := make([]trainer.Sequence, 0, size)
	for i := update * size; i < (update+1)*size; i++ {
		order := permutation(n, rollout.Seed(config.Seed, orderStream, uint64(i/n)))
		batch = append(batch, s.demonstrations[order[i%n]])
	}
	return batch
}

func (s *session) readDemonstrations(ctx context.Context) error {
	if s.demonstrations != nil {
		return nil
	}
	groups, err := s.run.demonstrations(ctx)
	if err != nil {
		return err
	}
	for _, group := range groups {
		for _, trajectory := range group.Trajectories {
			s.demonstrations = append(s.demonstrations, imitationSequence(trajectory))
		}
	}
	if len(s.demonstrations) == 0 {
		return lasting(errors.New("warm start without demonstrations: set warm_start.steps=0 or warm_start.demonstrations above 0"))
	}
	return nil
}
