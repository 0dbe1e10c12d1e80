package activity

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
)

// forkOf says which step of which run the run begins with; nil when it begins with its own step 0. A folder that was
// prepared keeps what it was prepared as.
func forkOf(ctx context.Context, folder *runfolder.Folder, input workflows.PrepareInput, committed int) (*runfolder.Fork, error) {
	recorded, err := folder.Fork(ctx)
	switch {
	case input.Fork != nil && input.Fork.Step < 0:
		return nil, lasting(fmt.Errorf("a fork begins with a committed step, and step %d is none", input.Fork.Step))
	case err == nil && input.Fork != nil && (input.Fork.Run != recorded.Run || input.Fork.Step != recorded.Step):
		return nil, lasting(fmt.Errorf("the folder holds a fork of step %d of run %s: choose another run id", recorded.Step, recorded.Run))
	case err == nil:
		return &recorded, nil
	case !errors.Is(err, blob.ErrNotFound):
		return nil, err
	case input.Fork == nil:
		return nil, nil
	case committed >= 0:
		return nil, lasting(errors.New("the folder holds a run that is no fork: choose another run id"))
	}
	return &runfolder.Fork{Run: input.Fork.Run, Step: input.Fork.Step}, nil
}

// fork makes a run's folder ready to go on from a committed step of another run: it adopts the steps up to that one
// and makes sure that the last has a checkpoint. Everything is done once, however often it is tried.
func (a *Activities) fork(ctx context.Context, folder *runfolder.Folder, input workflows.PrepareInput, fork runfolder.Fork) error {
	if fork.Run == input.Run {
		return lasting(errors.New("a run cannot be a fork of itself"))
	}
	source, err := runfolder.Source(ctx, a.DataDir, fork)
	if errors.Is(err, runfolder.ErrNoRun) || errors.Is(err, runfolder.ErrNoStep) {
		return lasting(err)
	}
	if err != nil {
		return err
	}
	r, err := newRun(folder, []byte(input.Config))
	if err != nil {
		return err
	}
	last, err := source.Manifest(ctx, fork.Step)
	if err != nil {
		return err
	}
	if err := checkFork(ctx, r.config, source, last); err != nil {
		return err
	}
	if err := folder.PutFork(ctx, fork); err != nil {
		return err
	}
	if err := folder.AdoptHistory(ctx, source); err != nil {
		return err
	}
	if err := folder.AdoptInputs(ctx, source); err != nil {
		return err
	}
	if err := adoptSteps(ctx, folder, source, fork.Step); err != nil {
		return err
	}
	if err := r.read(ctx); err != nil {
		return err
	}
	if err := r.rehearse(ctx, a.Arithmetic); err != nil {
		return err
	}
	return a.materialise(ctx, r, last)
}

// adoptSteps adopts the steps before the last one, and the objects of that too.
func adoptSteps(ctx context.Context, folder, source *runfolder.Folder, last int) error {
	committed, err := folder.Committed(ctx)
	if err != nil {
		return err
	}
	for step := committed + 1; step <= last; step++ {
		manifest, err := source.Manifest(ctx, step)
		if err != nil {
			return err
		}
		if err := folder.AdoptObjects(ctx, source, manifest); err != nil {
			return err
		}
		if step == last {
			return nil
		}
		if err := folder.AdoptManifest(ctx, manifest); err != nil {
			return err
		}
	}
	return nil
}

// materialise commits the last adopted step with a checkpoint, which the run goes on from. When the run that made
// the step keeps none, the step is made again.
func (a *Activities) materialise(ctx context.Context, r *run, last runfolder.Manifest) error {
	whole, err := hasObjects(ctx, r.folder, last)
	if err != nil {
		return err
	}
	if whole {
		return r.folder.AdoptManifest(ctx, last)
	}
	if here := computedWith(a.Processor); last.Step > 0 && last.ISA != here && strings.HasPrefix(last.ISA, "cuda") {
		return lasting(fmt.Errorf("step %d was computed with %s and has no checkpoint any more, and a fork begins on the processor, which makes no step again that was computed elsewhere: "+
			"fork from a step with a checkpoint, of which checkpoint.keep stay", last.Step, last.ISA))
	}
	model, err := newModel(a.Processor, r, 0)
	if err != nil {
		return lasting(err)
	}
	s, err := a.newSession(r, model)
	if err != nil {
		return err
	}
	defer s.free()
	s.at = unknown
	if last.Step == 0 {
		err = s.begin(ctx, last)
	} else if err = s.goTo(ctx, last.Step-1); err == nil {
		err = s.redo(ctx, last)
	}
	if err != nil {
		return err
	}
	if err := s.store(ctx, &last, true, true); err != nil {
		return err
	}
	return r.folder.AdoptManifest(ctx, last)
}

// hasObjects is true when a step has a checkpoint, of which every byte is there.
func hasObjects(ctx context.Context, folder *runfolder.Folder, manifest runfolder.Manifest) (bool, error) {
	if manifest.Checkpoint == nil || manifest.Weights == nil {
		return false, nil
	}
	for _, ref := range []blob.Ref{manifest.Checkpoint.Weights, manifest.Checkpoint.Optimizer} {
		found, err := folder.Stat(ctx, ref.Key)
		switch {
		case errors.Is(err, blob.ErrNotFound), err == nil && found.Digest != ref.Digest:
			return false, nil
		case err != nil:
			return false, err
		}
	}
	return true, nil
}

// checkFork reports what of a fork's config cannot be other than in the run that it comes from, because the steps it
// begins with fixed it.
func checkFork(ctx context.Context, config configs.Run, source *runfolder.Folder, last runfolder.Manifest) error {
	text, err := source.ConfigOf(ctx, last.Step, last.Config)
	if err != nil {
		return err
	}
	resolved, err := configs.Reload(runfolder.RevisionKey(last.Config), text)
	if err != nil {
		return lasting(err)
	}
	before := resolved.Run
	now := config.Policy
	now.ToolFormat, now.Recompute = before.Policy.ToolFormat, before.Policy.Recompute
	for _, part := range []struct {
		path string
		same bool
	}{
		{"tokenizer", config.Tokenizer == before.Tokenizer},
		{"policy", reflect.DeepEqual(now, before.Policy)},
		{"warm_start", config.WarmStart == before.WarmStart},
		{"method", needsOf(config.Method).critic == needsOf(before.Method).critic},
	} {
		if !part.same {
			return lasting(&configs.PathError{Path: part.path, Err: fmt.Errorf("it is another one than in the run that the fork comes from, and its step %d depends on it", last.Step)})
		}
	}
	if steps := config.WarmStart.Steps + config.Training.Steps; last.Step > steps {
		return lasting(&configs.PathError{Path: "training.steps", Err: fmt.Errorf("the plan ends with step %d, before step %d that the fork begins with", steps, last.Step)})
	}
	return nil
}
