package policy

import (
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device/cpu"
)

// scratch is what one worker writes besides activations.
type scratch struct {
	acts      activations // of one layer, for passes that keep nothing
	positions []int32
	targets   []int32
	scores    []float32 // of an attention tile
	dScores   []float32
	h         []float32 // output of a norm, hidden wide
	roots     []float32 // the norm's reciprocal roots
	act       []float32 // gated activation, ffn wide
	logits    []float32
	exps      []float32 // of one row of logits
	// Derivatives of one layer, named like the activations they belong to.
	dx, dh, dqkv, dq, dk, dAtt, dgu, dAct []float32
	// The head's backward pass gathers the rows with a gradient.
	headRows []int32
	headIn   []float32
	dHead    []float32
}

// workspace is the memory a model reuses between calls.
type workspace struct {
	scratches scratches
	// layers keeps the activations of a whole batch for the backward pass, and the final residual stream.
	layers []activations
	xOut   []float32
	// lanes are partial gradients; chunk i adds to lane i mod gradientLanes.
	lanes []tensors
}

// gradientLanes is how many partial gradients there are. It is fixed, so that sums run in the same
// order whatever the number of threads, and bounds how many threads a backward pass uses.
const gradientLanes = 8

// scratches hands each part of a parallel pass a scratch of its own.
type scratches struct {
	mu   sync.Mutex
	free []*scratch // guarded by mu
}

func (s *scratches) take() *scratch {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		return new(scratch)
	}
	last := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return last
}

func (s *scratches) give(used *scratch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, used)
}

// parallel runs tasks 0 … tasks−1, several at once where cores are free, and returns when all are done.
// Products inside a task then run on the task's own goroutine.
func (w *workspace) parallel(tasks int, run func(s *scratch, task int)) {
	cpu.Parallel(tasks, 1, func(low, high int) {
		s := w.scratches.take()
		defer w.scratches.give(s)
		for task := low; task < high; task++ {
			run(s, task)
		}
	})
}
