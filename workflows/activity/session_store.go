package activity

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/trainer/digests"
)

// digests identify the weights and the optimizer's state by a formula that a manifest names; see [runfolder.Manifest].
func (s *session) digests(formula string) (weights, state string, err error) {
	ofWeights, ofState := s.learner.Model.Digest, s.learner.Optimizer.Digest
	switch formula {
	case digests.Formula:
	case "":
		ofWeights, ofState = s.learner.Model.SerialDigest, s.learner.Optimizer.SerialDigest
	default:
		return "", "", lasting(fmt.Errorf("digests are made by the formula %q, which this program does not know, only %q: take the one that made them, or a newer one", formula, digests.Formula))
	}
	if weights, err = ofWeights(); err == nil {
		state, err = ofState()
	}
	return weights, state, err
}

// headerRoom is room for what files say of their tensors. With it, what is written has its place from the start
// and is held once, as package footprint counts on.
const headerRoom = 1 << 20

// store writes what the manifest promises and fills in its digests: the weights when samplers need
// them, a checkpoint when one is due.
func (s *session) store(ctx context.Context, manifest *runfolder.Manifest, weights, checkpoint bool) error {
	manifest.Digests = digests.Formula
	// The optimizer's state is read while the weights are written.
	var hashing sync.WaitGroup
	var unread error
	hashing.Go(func() { manifest.OptimizerDigest, unread = s.learner.Optimizer.Digest() })
	err := s.storeWeights(ctx, manifest, weights || checkpoint)
	hashing.Wait()
	if err = errors.Join(err, unread); err != nil {
		return err
	}
	if checkpoint {
		var data bytes.Buffer
		data.Grow(int(s.learner.Optimizer.Bytes()) + headerRoom)
		if err := s.learner.Optimizer.Encode(&data); err != nil {
			return err
		}
		ref, err := s.put(ctx, runfolder.OptimizerKey(manifest.Step, manifest.OptimizerDigest), data.Bytes())
		if err != nil {
			return err
		}
		manifest.Checkpoint = &runfolder.Checkpoint{Weights: *manifest.Weights, Optimizer: ref}
	}
	return nil
}

// storeWeights digests the weights and, when asked, stores them.
func (s *session) storeWeights(ctx context.Context, manifest *runfolder.Manifest, store bool) (err error) {
	if manifest.WeightsDigest, err = s.learner.Model.Digest(); err != nil || !store {
		return err
	}
	var data bytes.Buffer
	data.Grow(s.learner.Model.EncodedBytes() + headerRoom)
	if err := s.learner.Model.EncodeWeights(&data); err != nil {
		return err
	}
	ref, err := s.put(ctx, runfolder.WeightsKey(manifest.Step, manifest.WeightsDigest), data.Bytes())
	if err != nil {
		return err
	}
	manifest.Weights = &ref
	return nil
}
