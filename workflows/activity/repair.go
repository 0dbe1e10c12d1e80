package activity

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
)

// Repair makes an object with weights or an optimizer's state again, bit for bit, by redo from an older checkpoint.
// One that is what its manifest says stays as it is.
func (a *Activities) Repair(ctx context.Context, input workflows.RepairInput) error {
	defer heartbeat(ctx)()
	err := a.repair(ctx, input)
	if err != nil {
		a.Log.Error("repair failed", "run", input.Run, "key", input.Key, "error", err)
	}
	return classify(err)
}

func (a *Activities) repair(ctx context.Context, input workflows.RepairInput) error {
	folder, err := a.folder(input.Run)
	if err != nil {
		return err
	}
	manifest, ref, err := promised(ctx, folder, input.Key)
	if err != nil {
		return err
	}
	if found, err := folder.Stat(ctx, ref.Key); err == nil && found.Digest == ref.Digest {
		return nil
	} else if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	return a.withLearner(ctx, input.Run, input.Lease, func(ctx context.Context, s *session) error { return s.remake(ctx, manifest, ref) })
}

// remake makes one object of a committed step whole again.
func (s *session) remake(ctx context.Context, manifest runfolder.Manifest, ref blob.Ref) error {
	if err := s.goTo(ctx, manifest.Step); err != nil {
		return err
	}
	only := manifest // what of the step has expired stays away
	if manifest.Weights == nil || manifest.Weights.Key != ref.Key {
		only.Weights = nil
	} else {
		only.Checkpoint = nil
	}
	return s.mend(ctx, only, true)
}

// promised finds the manifest that vouches for an object.
func promised(ctx context.Context, folder *runfolder.Folder, key string) (runfolder.Manifest, blob.Ref, error) {
	kind, name, _ := strings.Cut(key, "/")
	number, _, _ := strings.Cut(name, ".")
	step, err := strconv.Atoi(number)
	if kind != "weights" && kind != "optimizer" || err != nil || step < 0 {
		return runfolder.Manifest{}, blob.Ref{}, lasting(fmt.Errorf("%s: only weights and optimizer states can be made again: restore it from a copy", filepath.Join(folder.Path, key)))
	}
	manifest, err := folder.Manifest(ctx, step)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return manifest, blob.Ref{}, err
	}
	if manifest.Weights != nil && manifest.Weights.Key == key {
		return manifest, *manifest.Weights, nil
	}
	if manifest.Checkpoint != nil && manifest.Checkpoint.Optimizer.Key == key {
		return manifest, manifest.Checkpoint.Optimizer, nil
	}
	return manifest, blob.Ref{}, lasting(fmt.Errorf("%s: no committed step vouches for it", filepath.Join(folder.Path, key)))
}
