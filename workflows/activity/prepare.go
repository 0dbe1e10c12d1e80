package activity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/env"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// corpusTasks is how many tasks of each environment the tokenizer is trained on: enough for every
// word of the quickstart environments to occur several times.
const corpusTasks = 2000

// Prepare makes a run's folder ready: config, tokenizer, demonstrations and the policy before training as
// step 0, or the steps of another run that this one is a fork of. What a run from a checkpoint needs of it is copied, so
// that the checkpoint may go away. On a folder that is ready it says what is committed, and learners of before can
// commit no more.
func (a *Activities) Prepare(ctx context.Context, input workflows.PrepareInput) (workflows.PrepareResult, error) {
	defer heartbeat(ctx)()
	result, err := a.prepare(ctx, input)
	return result, classify(err)
}

func (a *Activities) prepare(ctx context.Context, input workflows.PrepareInput) (workflows.PrepareResult, error) {
	folder, err := a.folder(input.Run)
	if err != nil {
		return workflows.PrepareResult{}, err
	}
	if err := putConfig(ctx, folder, input.Config); err != nil {
		return workflows.PrepareResult{}, err
	}
	committed, err := folder.Committed(ctx)
	if err != nil {
		return workflows.PrepareResult{}, err
	}
	fork, err := forkOf(ctx, folder, input, committed)
	switch {
	case err != nil:
	case fork != nil && committed < fork.Step:
		err = a.fork(ctx, folder, input, *fork)
	case committed < 0:
		err = a.initialise(ctx, folder, input)
	}
	if err != nil {
		return workflows.PrepareResult{}, fmt.Errorf("prepare run %s: %w", input.Run, err)
	}
	if committed >= 0 {
		if err := fenceOff(ctx, folder); err != nil {
			return workflows.PrepareResult{}, err
		}
	}
	return a.found(ctx, folder)
}

// unseen is how many fences the run of before may have given to learners that have not shown theirs yet.
const unseen = 16

// fenceOff makes every learner of before stale: one of a run that was terminated may still be at work, and would
// commit a step that the run of now knows nothing of. What is committed is read after this.
func fenceOff(ctx context.Context, folder *runfolder.Folder) error {
	shown, err := folder.Fence(ctx)
	if err != nil {
		return err
	}
	return folder.Acquire(ctx, (shown>>attemptBits+unseen)<<attemptBits)
}

// putConfig writes the run's config once. A folder with other settings belongs to another run; where
// the settings came from does not matter.
func putConfig(ctx context.Context, folder *runfolder.Folder, text string) error {
	_, err := folder.Put(ctx, runfolder.ConfigKey, []byte(text))
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	existing, err := folder.Read(ctx, runfolder.ConfigKey)
	if err != nil {
		return err
	}
	same, err := sameSettings(existing, []byte(text))
	if err != nil {
		return lasting(err)
	}
	if !same {
		return lasting(fmt.Errorf("%s holds a run with another config: choose another run id", folder.Path))
	}
	return nil
}

// sameSettings reports whether two configs resolve to the same values.
func sameSettings(a, b []byte) (bool, error) {
	if bytes.Equal(a, b) {
		return true, nil
	}
	var digests [2]string
	for i, text := range [][]byte{a, b} {
		resolved, err := configs.Reload(runfolder.ConfigKey, text)
		if err != nil {
			return false, err
		}
		digests[i] = resolved.Digest()
	}
	return digests[0] == digests[1], nil
}

// found reads what a prepared folder holds.
func (a *Activities) found(ctx context.Context, folder *runfolder.Folder) (workflows.PrepareResult, error) {
	var result workflows.PrepareResult
	var err error
	if result.Committed, err = folder.Committed(ctx); err != nil {
		return result, err
	}
	manifest, err := folder.Manifest(ctx, result.Committed)
	if err != nil {
		return result, err
	}
	if manifest.Weights != nil {
		result.Weights = runstate.Ref(*manifest.Weights)
	}
	if result.Evaluated, err = folder.Evaluations(ctx); err != nil {
		return result, err
	}
	control, err := folder.Control(ctx)
	if err != nil {
		return result, err
	}
	result.Revision = control.Revision
	fence, err := folder.Fence(ctx)
	if err != nil {
		return result, err
	}
	result.Fence = fence >> attemptBits
	if result.Config, result.Spec, err = newestSpec(ctx, folder); err != nil {
		return result, err
	}
	begun, err := a.begun(folder)
	if err != nil {
		return result, err
	}
	settlement, err := folder.Settled(ctx, begun...)
	result.NextGroup, result.Open = settlement.Next, settlement.Open
	return result, err
}

// begun are the groups that the records of turns tell of. A record that is damaged tells of the others.
func (a *Activities) begun(folder *runfolder.Folder) ([]int, error) {
	history, err := journal.ReadGroups(folder.TurnsPath(), func(int) bool { return false })
	if history == nil {
		return nil, err
	}
	if err != nil {
		a.Log.Warn("records of turns are damaged", "run", folder.Path, "error", err)
	}
	return history.Groups(), nil
}

// newestSpec is the newest revision of the config and its plan; nil for the config that the run was submitted with.
func newestSpec(ctx context.Context, folder *runfolder.Folder) (int, *runstate.Spec, error) {
	revisions, err := folder.Revisions(ctx)
	if err != nil || len(revisions) == 0 {
		return 0, nil, err
	}
	newest := revisions[len(revisions)-1]
	text, err := folder.Config(ctx, newest)
	if err != nil {
		return 0, nil, err
	}
	resolved, err := configs.Reload(runfolder.RevisionKey(newest), text)
	if err != nil {
		return 0, nil, lasting(err)
	}
	spec := Spec(resolved.Run)
	return newest, &spec, nil
}

// initialise makes tokenizer, demonstrations and the policy before training, and commits step 0.
func (a *Activities) initialise(ctx context.Context, folder *runfolder.Folder, input workflows.PrepareInput) error {
	r, err := newRun(folder, []byte(input.Config))
	if err != nil {
		return err
	}
	if r.config.Policy.From != "" {
		err = r.copyStart(ctx)
	} else {
		err = r.putTokenizer(ctx)
	}
	if err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	if err := r.read(ctx); err != nil { // an earlier attempt's, if there was one
		return err
	}
	if err := r.putDemonstrations(ctx); err != nil {
		return fmt.Errorf("demonstrations: %w", err)
	}
	if err := r.rehearse(ctx, a.Arithmetic); err != nil {
		return err
	}
	model, err := startModel(a.Processor, r)
	if err != nil {
		return lasting(err)
	}
	learner, err := a.newSession(r, model)
	if err != nil {
		return err
	}
	defer learner.free()
	manifest := runfolder.Manifest{Kind: runfolder.InitKind, Committed: time.Now().UTC(), ISA: computedWith(a.Processor)}
	if manifest.Inputs, err = inputs(ctx, folder); err != nil {
		return err
	}
	if err := learner.store(ctx, &manifest, true, true); err != nil {
		return err
	}
	if err := folder.Commit(ctx, manifest); err != nil && !errors.Is(err, blob.ErrExists) {
		return err
	}
	return nil
}

// inputs are what was prepared beside the policy.
func inputs(ctx context.Context, folder *runfolder.Folder) ([]blob.Ref, error) {
	var refs []blob.Ref
	for _, key := range []string{runfolder.DemonstrationsKey, runfolder.TokenizerKey} {
		ref, err := folder.Stat(ctx, key)
		switch {
		case err == nil:
			refs = append(refs, ref)
		case !errors.Is(err, blob.ErrNotFound): // a run from a checkpoint has no tokenizer of its own
			return nil, err
		}
	}
	return refs, nil
}

// putTokenizer trains the tokenizer on texts of training tasks.
func (r *run) putTokenizer(ctx context.Context) error {
	var corpus []string
	for i, environment := range r.environments {
		corpus = append(corpus, env.Corpus(environment, corpusTasks, rollout.Seed(r.config.Seed, corpusStream, uint64(i)))...)
	}
	tokenizer, err := render.Train(corpus, r.config.Tokenizer.VocabSize)
	if err != nil {
		return lasting(err)
	}
	data, err := tokenizer.Encode()
	if err != nil {
		return err
	}
	_, err = r.folder.PutOnce(ctx, runfolder.TokenizerKey, data)
	return err
}

// putDemonstrations plays the scripted episodes of the warm start, if there is one.
func (r *run) putDemonstrations(ctx context.Context) error {
	var out bytes.Buffer
	player := r.player()
	seed := rollout.Seed(r.config.Seed, demonstrationStream)
	count := r.config.WarmStart.Demonstrations
	if r.config.WarmStart.Steps == 0 {
		count = 0
	}
	for i := range count {
		chosen, index := r.schedule.at(i)
		environment := r.environments[chosen]
		task := environment.Task(rollout.Train, seed, index)
		turns, err := demonstrate(environment, task, rollout.Seed(seed, uint64(i)))
		if err != nil {
			return lasting(err)
		}
		id := fmt.Sprintf("demo%d", i)
		trajectory, err := player.PlayScript(ctx, task, id+"/0", turns)
		if err != nil {
			return err
		}
		group := rollout.Group{ID: id, Task: task, Trajectories: []rollout.Trajectory{trajectory}}
		if err := record.WriteGroup(&out, group); err != nil {
			return err
		}
	}
	_, err := r.folder.PutOnce(ctx, runfolder.DemonstrationsKey, out.Bytes())
	return err
}

// demonstrate scripts an episode of a task.
func demonstrate(environment env.Environment, task rollout.Task, seed uint64) ([]string, error) {
	demonstrator, ok := environment.(env.Demonstrator)
	if !ok {
		return nil, fmt.Errorf("environment %s has no demonstrations: set warm_start.steps=0", environment.Name())
	}
	turns, err := demonstrator.Demonstrate(task, seed)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", task.ID, err)
	}
	return turns, nil
}
