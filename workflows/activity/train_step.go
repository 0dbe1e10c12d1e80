package activity

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/trainer"
	"github.com/turnwise-rl/turnwise/trainer/weights"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// attemptBits is how many low bits of a fencing token tell attempts of one command apart, so that a
// retry fences off the attempt before it.
const attemptBits = 16

// TrainStep makes one step a transaction: when its manifest exists, it is done; else the learner is
// brought to the step before, computes, stores what came out, and commits under its fencing token. Groups of the batch
// that do not hold what they held are set aside and named, and the step is not made. It runs under a lease.
func (a *Activities) TrainStep(ctx context.Context, input workflows.TrainInput) (workflows.TrainResult, error) {
	defer heartbeat(ctx)()
	fence := input.Fence<<attemptBits | int(activity.GetInfo(ctx).Attempt)&(1<<attemptBits-1)
	result, err := a.trainStep(ctx, input, fence)
	if err != nil {
		a.Log.Error("step failed", "run", input.Run, "step", input.Step, "error", err)
	}
	return result, classify(err)
}

func (a *Activities) trainStep(ctx context.Context, input workflows.TrainInput, fence int) (result workflows.TrainResult, err error) {
	err = a.withLearner(ctx, input.Run, input.Lease, func(ctx context.Context, s *session) error {
		result, err = a.makeStep(ctx, input, fence, s)
		return err
	})
	return result, err
}

func (a *Activities) makeStep(ctx context.Context, input workflows.TrainInput, fence int, s *session) (workflows.TrainResult, error) {
	folder := s.run.folder
	if err := folder.Acquire(ctx, fence); err != nil {
		return workflows.TrainResult{}, err
	}
	if done, err := folder.Manifest(ctx, input.Step); err == nil {
		return trainResult(done), folder.AppendMetrics(ctx, input.Step)
	} else if !errors.Is(err, blob.ErrNotFound) {
		return workflows.TrainResult{}, err
	}
	if err := s.goTo(ctx, input.Step-1); err != nil {
		return workflows.TrainResult{}, err
	}
	out, err := s.compute(ctx, order{step: input.Step, kind: input.Kind, batch: input.Batch, revision: input.Config})
	var broken *brokenGroups
	if errors.As(err, &broken) {
		a.Log.Warn("groups are corrupt and the step waits for them", "run", input.Run, "step", input.Step, "error", err)
		return workflows.TrainResult{Step: input.Step, Corrupt: broken.numbers()}, broken.setAside(ctx, folder)
	}
	if err != nil {
		return workflows.TrainResult{}, err
	}
	manifest, err := s.commit(ctx, input, fence, out)
	if err != nil {
		s.at = unknown
		return workflows.TrainResult{}, fmt.Errorf("commit step %d: %w", input.Step, err)
	}
	s.handOver(manifest)
	s.seen(a.observer(), input, manifest, out)
	if err := s.expire(ctx, manifest); err != nil {
		a.Log.Warn("old weights stay", "run", input.Run, "step", input.Step, "error", err)
	}
	if input.Step == s.run.lastStep() {
		a.forget(input.Run)
		if err := pruneTurns(ctx, s.run); err != nil {
			a.Log.Warn("records of turns stay", "run", input.Run, "error", err)
		}
	}
	return trainResult(manifest), folder.AppendMetrics(ctx, input.Step)
}

func trainResult(m runfolder.Manifest) workflows.TrainResult {
	result := workflows.TrainResult{Step: m.Step}
	if m.Weights != nil {
		result.Weights = runstate.Ref(*m.Weights)
	}
	return result
}

// commit stores what the step made and creates its manifest.
func (s *session) commit(ctx context.Context, input workflows.TrainInput, fence int, out result) (runfolder.Manifest, error) {
	started := time.Now()
	manifest := runfolder.Manifest{Step: input.Step, Kind: input.Kind, Fence: fence, ISA: s.computedWith(), Config: input.Config, Batch: input.Batch,
		Report: out.report, Rewards: out.rewards, Ledger: out.ledger, Seconds: out.seconds}
	for _, drop := range input.Dropped {
		manifest.Dropped = append(manifest.Dropped, runfolder.Dropped{Group: drop.Number, Reason: drop.Reason, Object: drop.Object})
	}
	sampled := input.Step >= s.run.config.WarmStart.Steps
	if err := s.store(ctx, &manifest, sampled, input.Checkpoint); err != nil {
		return manifest, err
	}
	if input.Step == s.run.lastStep() {
		if err := s.exportPolicy(); err != nil {
			return manifest, fmt.Errorf("export the policy: %w", err)
		}
	}
	manifest.Committed = time.Now().UTC()
	manifest.Seconds.Commit = time.Since(started).Seconds()
	return manifest, s.run.folder.Commit(ctx, manifest)
}

func (r *run) lastStep() int { return r.config.WarmStart.Steps + r.config.Training.Steps }

// exportPolicy writes the policy in Hugging Face layout, in float32, for other programs and for runs that
// start from it. The files of a checkpoint go with it as they came. A value head stays behind: it belongs to
// the method, and other programs do not know it.
func (s *session) exportPolicy() error {
	dir, model := s.run.folder.PolicyPath(), s.learner.Model
	if s.run.config.Policy.From != "" {
		if err := model.Carry(s.run.folder.StartPath()); err != nil {
			return lasting(err)
		}
		return model.SavePolicy(dir, weights.Options{})
	}
	if err := model.SavePolicy(dir, weights.Options{}); err != nil {
		return err
	}
	return s.run.tokenizer.SaveFolder(dir)
}

// retention is the rule by which the run's objects go.
func (r *run) retention() runfolder.Retention {
	return runfolder.Retention{Plan: Spec(r.config), Checkpoints: r.config.Checkpoint.Keep}
}

// expire removes what no one needs any more, by the rule of [runfolder.Retention].
func (s *session) expire(ctx context.Context, newest runfolder.Manifest) error {
	rule := s.run.retention()
	for _, age := range rule.Ages() {
		step := newest.Step - age
		if step <= 0 {
			continue
		}
		manifest, err := s.run.folder.Manifest(ctx, step)
		if err != nil {
			return err
		}
		checkpoint := unknown
		if manifest.Checkpoint != nil {
			if checkpoint, err = s.newestCheckpoint(ctx, step, newest.Step); err != nil {
				return err
			}
		}
		weights, optimizer := rule.Passing(manifest, newest.Step, checkpoint)
		if manifest.Checkpoint != nil && optimizer {
			if err := s.remove(ctx, manifest.Checkpoint.Optimizer.Key); err != nil {
				return err
			}
		}
		if manifest.Weights != nil && weights {
			if err := s.remove(ctx, manifest.Weights.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// newestCheckpoint is the last step of a range that records a checkpoint; unknown when none does.
func (s *session) newestCheckpoint(ctx context.Context, from, to int) (int, error) {
	for step := to; step >= from; step-- {
		manifest, err := s.run.folder.Manifest(ctx, step)
		if err != nil || manifest.Checkpoint != nil {
			return step, err
		}
	}
	return unknown, nil
}

// remove deletes an object unless it is gone already.
func (s *session) remove(ctx context.Context, key string) error {
	if err := s.run.folder.Remove(ctx, key); err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	return nil
}

// reinforce makes one step of reinforcement learning on a batch of groups.
func (s *session) reinforce(ctx context.Context, o order, config configs.Run) (result, error) {
	var out result
	started := time.Now()
	groups, err := s.readGroups(ctx, o)
	if err != nil {
		return out, err
	}
	if err := checkVersions(groups, rollout.Version(o.step-1), config.Training.Staleness); err != nil {
		return out, learning(ctx, o.step, err)
	}
	method, err := s.methodAt(ctx, o.step, config)
	if err != nil {
		return out, err
	}
	needs := needsOf(method)
	if err := s.setReference(ctx, needs.reference, config); err != nil {
		return out, err
	}
	if err := s.annotate(ctx, groups, needs, config); err != nil {
		return out, learning(ctx, o.step, err)
	}
	streams, err := method.Streams(groups, s.arithmetic)
	if err != nil {
		return out, lasting(err)
	}
	sequences, reasons := trained(groups, streams, method.Loss)
	out.rewards, out.ledger = describe(groups, streams, reasons)
	out.rewards.Divergence = charged(method, groups)
	out.advantageAbs = meanAbsolute(groups, streams)
	out.seconds.Credit = time.Since(started).Seconds()

	started = time.Now()
	s.at = unknown
	out.report, err = s.update(ctx, o.step, sequences, method.Loss, config)
	out.seconds.Update = time.Since(started).Seconds()
	return out, learning(ctx, o.step, err)
}

// annotate writes into the groups what credit reads of the networks.
func (s *session) annotate(ctx context.Context, groups []rollout.Group, needs needs, config configs.Run) error {
	return s.learner.Annotate(ctx, groups, trainer.Annotation{
		Values: needs.creditValues, Reference: needs.creditReference,
		Temperature: config.Sampling.Temperature, MicroBatchTokens: config.Training.MicroBatchTokens,
	})
}

// update trains a step's sequences.
func (s *session) update(ctx context.Context, step int, sequences []trainer.Sequence, loss kernels.Program, config configs.Run) (trainer.Report, error) {
	if step == config.WarmStart.Steps+1 {
		s.learner.Optimizer.Reset() // imitation's momentum means nothing to another objective
	}
	if len(sequences) == 0 {
		return trainer.Report{}, nil
	}
	training := config.Training
	return s.learner.Step(ctx, sequences, trainer.Update{
		Program: loss, Temperature: config.Sampling.Temperature, Minibatches: training.Minibatches,
		LearningRate:     config.Optimizer.LearningRate * linear(step-config.WarmStart.Steps, training.Steps, training.LearningRateEnd),
		MicroBatchTokens: training.MicroBatchTokens, Version: int32(step), MeasureProximal: training.Staleness > 0,
	})
}

// linear falls from 1 at the first of n steps to end at the last.
func linear(step, n int, end float64) float64 {
	return 1 - (1-end)*float64(step-1)/math.Max(1, float64(n-1))
}

// setReference loads the frozen policy that a method compares with: the one after the warm start.
func (s *session) setReference(ctx context.Context, needed bool, config configs.Run) error {
	if !needed || s.learner.Reference != nil {
		return nil
	}
	manifest, err := s.run.folder.Manifest(ctx, config.WarmStart.Steps)
	if err != nil {
		return err
	}
	s.learner.Reference, err = s.run.frozen(ctx, s.learner.Model.Device(), *manifest.Weights)
	return err
}
