package activity

import (
	"errors"
	"sync"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// handovers are what learners of this process offer the samplers of their runs: the newest committed weights, on the learner's device.
// A sampler there takes them in place of reading, decoding and bringing the same weights from the store. As long as none does, nothing
// is kept beside what the learner trains. Whoever comes first when the learner has gone on, asks for other weights or samples elsewhere
// reads the store.
type handovers struct {
	mu   sync.Mutex
	left map[string]*handover // guarded by mu; by the path of the run's folder
}

// handover is committed weights.
type handover struct {
	from    *session
	weights blob.Ref
	offer   *policy.Offer
}

// leave offers weights that have been committed, in place of what a learner of the run left before.
func (h *handovers) leave(from *session, weights blob.Ref, offer *policy.Offer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	run := from.run.folder.Path
	if there := h.left[run]; there != nil {
		there.offer.Free()
	}
	if h.left == nil {
		h.left = map[string]*handover{}
	}
	h.left[run] = &handover{from, weights, offer}
}

// drop gives back what a session has left, and reports whether that held memory.
func (h *handovers) drop(from *session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	run := from.run.folder.Path
	there := h.left[run]
	if there == nil || there.from != from {
		return false
	}
	taken := there.offer.Taken()
	there.offer.Free()
	delete(h.left, run)
	return taken
}

// take is a network of a run's weights for a user of a device; nil when exactly these are not to be had there.
func (h *handovers) take(r *run, weights blob.Ref, on device.Device) *policy.Network {
	h.mu.Lock()
	defer h.mu.Unlock()
	there := h.left[r.folder.Path]
	if there == nil || there.weights != weights {
		return nil
	}
	network, err := there.offer.Take(on)
	if err != nil {
		return nil // they are on another device, the learner has gone on, or there is no memory
	}
	return network
}

// handOver offers the weights of a step that has just been committed to the samplers of this process.
func (s *session) handOver(manifest runfolder.Manifest) {
	if manifest.Weights == nil || manifest.Step < s.run.config.WarmStart.Steps {
		return // nobody samples from them
	}
	s.handovers.leave(s, *manifest.Weights, s.learner.Model.Offer())
}

// takeBack gives back what was left, for work that has no memory for weights beside it. Samplers that have not taken it
// read the store.
func (s *session) takeBack() {
	if s.handovers.drop(s) {
		s.log.Info("weights are handed over no longer: there is no memory for the next ones beside them", "run", s.run.folder.Path)
	}
}

// replaceWeights brings the model other weights. What is left for samplers is taken back where there is no memory beside it.
func (s *session) replaceWeights(data []byte) error {
	err := s.learner.Model.ReplaceWeights(data)
	var full *device.OutOfMemory
	if errors.As(err, &full) {
		s.takeBack()
		err = s.learner.Model.ReplaceWeights(data)
	}
	return err
}
