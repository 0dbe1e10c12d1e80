package runfolder

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/turnwise-rl/turnwise/internal/blob"
)

// Fork says that a run's steps up to and including Step are those of another run. The configs that made them are
// kept under [ForkedKey].
type Fork struct {
	Schema string `json:"schema"` // forkSchema
	// Run is the run that made the steps.
	Run  string `json:"run"`
	Step int    `json:"step"`
}

const (
	forkSchema = "turnwise.fork/v1"
	forkKey    = "fork.json"
	forkedDir  = "forked/"
)

// ForkedKey is where a fork keeps a key of the run that it comes from: the records that say how its first steps
// were made. A fork of a fork keeps those of both.
func ForkedKey(key string) string { return forkedDir + key }

// PutFork records once where the run comes from. Another record than the one that is there is an error.
func (f *Folder) PutFork(ctx context.Context, fork Fork) error {
	fork.Schema = forkSchema
	data, err := seal(fork)
	if err != nil {
		return err
	}
	ref, err := f.PutOnce(ctx, forkKey, data)
	if err == nil && ref.Digest != blob.Digest(data) {
		return &FormatError{Path: filepath.Join(f.Path, forkKey), Err: fmt.Errorf("the run is a fork of another step than step %d of %s: choose another run id", fork.Step, fork.Run)}
	}
	return err
}

// Fork reads where the run comes from; [blob.ErrNotFound] when it is no fork.
func (f *Folder) Fork(ctx context.Context) (Fork, error) { return f.fork(ctx, forkKey) }

func (f *Folder) fork(ctx context.Context, key string) (Fork, error) {
	var fork Fork
	data, err := f.Read(ctx, key)
	if err != nil {
		return fork, err
	}
	return fork, f.unseal(key, data, forkSchema, &fork)
}

// ConfigOf reads the config that made a step, of which the manifest names the revision. For the first steps of a
// fork that is a config of the run it comes from.
func (f *Folder) ConfigOf(ctx context.Context, step, revision int) ([]byte, error) {
	key, err := f.configOf(ctx, step, revision)
	if err != nil {
		return nil, err
	}
	return f.Read(ctx, key)
}

// configOf follows forks of forks to the run that made the step.
func (f *Folder) configOf(ctx context.Context, step, revision int) (string, error) {
	for prefix := ""; ; prefix += forkedDir {
		fork, err := f.fork(ctx, prefix+forkKey)
		if errors.Is(err, blob.ErrNotFound) || err == nil && step > fork.Step {
			return prefix + RevisionKey(revision), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// Source opens the folder of the run that a fork at step is to come from and looks whether it got that far. The
// error names what is missing.
func Source(ctx context.Context, dataDir string, fork Fork) (*Folder, error) {
	ids, err := List(dataDir)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if id != fork.Run {
			continue
		}
		from, err := Open(dataDir, id)
		if err != nil {
			return nil, err
		}
		committed, err := from.Committed(ctx)
		if err == nil && (fork.Step < 0 || fork.Step > committed) {
			err = fmt.Errorf("%w: run %s has committed steps 0 to %d, and the fork is asked for at step %d", ErrNoStep, id, committed, fork.Step)
		}
		return from, err
	}
	return nil, fmt.Errorf("%w: %q in %s; `turnwise get runs` lists them", ErrNoRun, fork.Run, Runs(dataDir))
}

// ErrNoStep says that a run has not committed a step.
var ErrNoStep = errors.New("no such step")

// Adopt puts an object of another run under the same key; one that is there stays. [blob.ErrNotFound] says that the
// other run has it no more.
func (f *Folder) Adopt(ctx context.Context, from *Folder, key string) error {
	if err := f.fault("adopt", key); err != nil {
		return err
	}
	err := f.Dir.Adopt(ctx, from.Dir, key)
	if errors.Is(err, blob.ErrExists) {
		return nil
	}
	return err
}

// AdoptAs copies a small object of another run to another key; one that is there stays.
func (f *Folder) AdoptAs(ctx context.Context, from *Folder, key, as string) error {
	data, err := from.Read(ctx, key)
	if err != nil {
		return err
	}
	_, err = f.PutOnce(ctx, as, data)
	return err
}

// AdoptHistory copies the records that say how a run's steps were made: its configs and, when it is a fork itself,
// those of the run that it comes from.
func (f *Folder) AdoptHistory(ctx context.Context, from *Folder) error {
	keys := []string{ConfigKey, forkKey}
	for _, prefix := range []string{"configs/", forkedDir} {
		found, err := from.store.List(ctx, prefix)
		if err != nil {
			return err
		}
		keys = append(keys, found...)
	}
	for _, key := range keys {
		if err := f.AdoptAs(ctx, from, key, ForkedKey(key)); err != nil && (key != forkKey || !errors.Is(err, blob.ErrNotFound)) {
			return err
		}
	}
	return nil
}

// AdoptInputs adopts what was prepared for another run beside its config.
func (f *Folder) AdoptInputs(ctx context.Context, from *Folder) error {
	keys, err := from.store.List(ctx, StartKey(""))
	if err != nil {
		return err
	}
	for _, key := range append(keys, DemonstrationsKey, TokenizerKey) {
		if err := f.Adopt(ctx, from, key); err != nil && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	return nil
}

// AdoptObjects adopts what the manifest of another run's step names, and the evaluation of its version, as far as the
// other run still has them.
func (f *Folder) AdoptObjects(ctx context.Context, from *Folder, manifest Manifest) error {
	keys := []string{evaluationKey(manifest.Step)}
	for _, group := range manifest.Batch {
		keys = append(keys, group.Object.Key)
	}
	for _, drop := range manifest.Dropped {
		if drop.Object != nil {
			keys = append(keys, drop.Object.Key)
		}
	}
	if manifest.Weights != nil {
		keys = append(keys, manifest.Weights.Key)
	}
	if manifest.Checkpoint != nil {
		keys = append(keys, manifest.Checkpoint.Weights.Key, manifest.Checkpoint.Optimizer.Key)
	}
	for _, key := range keys {
		if err := f.Adopt(ctx, from, key); err != nil && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	return nil
}

// AdoptManifest makes a step of another run committed here. It shows no fence: no learner of this run has made the
// step, and none may make one before all adopted steps are there.
func (f *Folder) AdoptManifest(ctx context.Context, manifest Manifest) error {
	manifest.Schema = manifestSchema
	data, err := seal(manifest)
	if err != nil {
		return err
	}
	_, err = f.PutOnce(ctx, manifestKey(manifest.Step), data)
	return err
}
