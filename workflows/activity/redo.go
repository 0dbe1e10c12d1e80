package activity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
)

// goTo brings the learner to a committed step: from memory, or from the newest checkpoint by redo.
// The batches are durable, so nothing is sampled again; redo must give the recorded weights. A checkpoint that is
// corrupt is passed over for an older one, and made whole on the way.
func (s *session) goTo(ctx context.Context, step int) error {
	if s.at == step {
		return nil
	}
	damaged, err := s.comeBack(ctx, step)
	if err != nil {
		return err
	}
	for s.at < step {
		manifest, err := s.run.folder.Manifest(ctx, s.at+1)
		if err != nil {
			return err
		}
		if err := s.redo(ctx, manifest); err != nil {
			return err
		}
		if damaged[manifest.Step] {
			if err := s.mend(ctx, manifest, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// comeBack brings the learner to the newest step up to one that can be had without redo, and says which checkpoints
// it met on the way that do not hold what they held. When none is left, it begins at step 0 once more.
func (s *session) comeBack(ctx context.Context, step int) (damaged map[int]bool, err error) {
	damaged = map[int]bool{}
	for number := step; number >= 0; number-- {
		manifest, err := s.run.folder.Manifest(ctx, number)
		if err != nil {
			return nil, err
		}
		if manifest.Checkpoint == nil {
			continue
		}
		if s.at != unknown && number <= s.at && s.at <= step {
			return damaged, nil
		}
		err = s.restore(ctx, manifest)
		var corrupt *blob.CorruptError
		switch {
		case err == nil:
			if len(damaged) > 0 {
				s.log.Warn("the learner goes on from an older checkpoint", "run", s.run.folder.Path, "step", number)
			}
			return damaged, nil
		case errors.As(err, &corrupt):
			damaged[number] = true
			s.log.Warn("a checkpoint is corrupt", "run", s.run.folder.Path, "step", number, "error", err)
		case !errors.Is(err, blob.ErrNotFound): // it has expired
			return nil, err
		}
	}
	manifest, err := s.run.folder.Manifest(ctx, 0)
	if err == nil {
		err = s.begin(ctx, manifest)
	}
	if err == nil && damaged[0] {
		err = s.mend(ctx, manifest, false)
	}
	return damaged, err
}

// restore loads a checkpoint into the model and the optimizer.
func (s *session) restore(ctx context.Context, manifest runfolder.Manifest) error {
	weights, err := s.run.folder.Get(ctx, manifest.Checkpoint.Weights)
	if err != nil {
		return err
	}
	state, err := s.run.folder.Get(ctx, manifest.Checkpoint.Optimizer)
	if err != nil {
		return err
	}
	s.at = unknown
	if err := s.replaceWeights(weights); err != nil {
		return lasting(fmt.Errorf("%s: %w", manifest.Checkpoint.Weights.Key, err))
	}
	if err := s.learner.Optimizer.Decode(state); err != nil {
		return lasting(fmt.Errorf("%s: %w", manifest.Checkpoint.Optimizer.Key, err))
	}
	s.at = manifest.Step
	return nil
}

// begin makes the policy before training again: from the run's seed, or from the checkpoint it started from.
func (s *session) begin(ctx context.Context, manifest runfolder.Manifest) error {
	s.at = unknown
	lost := func(err error) error {
		return lasting(fmt.Errorf("%s: no checkpoint can be read and the policy before training cannot be made again, so the learner's state is lost: %w; "+
			"start another run, or restore the folder's weights and optimizer from a copy", s.run.folder.Path, err))
	}
	model, err := s.beginning(ctx)
	if err != nil {
		return lost(err)
	}
	defer model.Free()
	var data bytes.Buffer
	if err := model.EncodeWeights(&data); err != nil {
		return err
	}
	if err := s.replaceWeights(data.Bytes()); err != nil {
		return lost(err)
	}
	s.learner.Optimizer.Reset()
	if err := s.compare(manifest, "making the policy before training again"); err != nil {
		return lost(err)
	}
	s.log.Warn("the learner begins at step 0 once more", "run", s.run.folder.Path)
	s.at = manifest.Step
	return nil
}

// redo makes a committed step again and compares what comes out with what was recorded. Groups that the store has lost
// are rebuilt from the records of their turns.
func (s *session) redo(ctx context.Context, manifest runfolder.Manifest) error {
	o := order{step: manifest.Step, kind: manifest.Kind, batch: manifest.Batch, revision: manifest.Config}
	_, err := s.compute(ctx, o)
	var broken *brokenGroups
	if errors.As(err, &broken) {
		var rebuilding error
		if o.rebuilt, rebuilding = s.rebuild(ctx, manifest, broken); rebuilding == nil {
			_, err = s.compute(ctx, o)
		} else if ctx.Err() != nil {
			err = rebuilding
		} else {
			err = lasting(fmt.Errorf("%w; %w; %s", err, rebuilding, broken.remedy(manifest.Step)))
		}
	}
	if err != nil {
		return fmt.Errorf("redo step %d: %w", manifest.Step, err)
	}
	if err := s.compare(manifest, fmt.Sprintf("redo of step %d", manifest.Step)); err != nil {
		s.at = unknown
		if o.rebuilt != nil {
			err = lasting(fmt.Errorf("%w; or the records of the turns of %s, from which it is rebuilt, are not what the step trained: %s", err, broken.keys(), broken.remedy(manifest.Step)))
		}
		return err
	}
	return nil
}

// compare holds the learner's state to what a manifest records.
func (s *session) compare(manifest runfolder.Manifest, what string) error {
	weights, state, err := s.digests(manifest.Digests)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for _, part := range []struct{ name, got, want string }{
		{"weights", weights, manifest.WeightsDigest},
		{"an optimizer state", state, manifest.OptimizerDigest},
	} {
		if part.got != part.want {
			return lasting(fmt.Errorf("%s gave %s with digest %s, the manifest records %s (computed with %s, here %s): %s",
				what, part.name, part.got, part.want, manifest.ISA, s.computedWith(), elsewhere(manifest.ISA)))
		}
	}
	return nil
}

// stored is an object that the learner writes of its state.
type stored struct {
	ref    blob.Ref
	encode func(io.Writer) error
}

// objects are what a manifest promises to be in the store.
func (s *session) objects(manifest runfolder.Manifest) []stored {
	var out []stored
	if manifest.Weights != nil {
		out = append(out, stored{*manifest.Weights, s.learner.Model.EncodeWeights})
	}
	if manifest.Checkpoint != nil {
		out = append(out, stored{manifest.Checkpoint.Optimizer, s.learner.Optimizer.Encode})
	}
	return out
}

// mend makes the objects of the step that the learner is at whole again, bit for bit. Those that are gone stay gone,
// because they may have expired, unless missing asks for them too.
func (s *session) mend(ctx context.Context, manifest runfolder.Manifest, missing bool) error {
	for _, object := range s.objects(manifest) {
		found, err := s.run.folder.Stat(ctx, object.ref.Key)
		gone := errors.Is(err, blob.ErrNotFound)
		switch {
		case err != nil && !gone:
			return err
		case gone && !missing, !gone && found.Digest == object.ref.Digest:
			continue
		}
		var data bytes.Buffer
		if err := object.encode(&data); err != nil {
			return err
		}
		if got := blob.Digest(data.Bytes()); got != object.ref.Digest {
			return lasting(fmt.Errorf("%s is made again with digest %s, the manifest of step %d records %s: restore it from a copy", object.ref.Key, got, manifest.Step, object.ref.Digest))
		}
		if _, err := s.put(ctx, object.ref.Key, data.Bytes()); err != nil {
			return err
		}
		s.log.Info("an object is whole again", "run", s.run.folder.Path, "key", object.ref.Key)
	}
	return nil
}

// put writes an object whose key says what it holds. Other bytes under the key, of an attempt that did not come to
// commit or of a disk that changed them, are set aside: the manifest is going to vouch for these.
func (s *session) put(ctx context.Context, key string, data []byte) (blob.Ref, error) {
	ref, err := s.run.folder.Put(ctx, key, data)
	if !errors.Is(err, blob.ErrExists) {
		return ref, err
	}
	ref, err = s.run.folder.Stat(ctx, key)
	if err != nil || ref.Digest == blob.Digest(data) {
		return ref, err
	}
	right := blob.Ref{Key: key, Digest: blob.Digest(data), Size: int64(len(data))}
	place, err := s.run.folder.SetAside(ctx, right)
	if err != nil {
		return ref, err
	}
	s.log.Warn("a corrupt object is set aside", "run", s.run.folder.Path, "key", key, "place", place)
	ref, err = s.run.folder.PutOnce(ctx, key, data)
	if err == nil && ref.Digest != right.Digest {
		return ref, &blob.CorruptError{Key: key, Want: right.Digest, Got: ref.Digest}
	}
	return ref, err
}
