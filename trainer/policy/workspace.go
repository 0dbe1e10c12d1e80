package policy

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// scratch is what one worker writes besides activations.
type scratch struct {
	acts      activations // of one layer, for passes that keep nothing
	positions []int32
	targets   []int32
	scores    []float32
	hidden    []float32 // final norm of the rows that predict
	roots     []float32 // its reciprocal roots
	logits    []float32
	// Derivatives of one layer, named like the activations they belong to.
	dx, dh, dqkv, dq, dk, dAtt, dgu, dAct []float32
	// The head's backward pass gathers the rows with a gradient.
	headRows []int32
	headIn   []float32
	dHead    []float32
}

// workspace is the memory a model reuses between calls.
type workspace struct {
	workers []*scratch
	// layers keeps the activations of a whole batch for the backward pass, and the final residual stream.
	layers []activations
	xOut   []float32
	// lanes are partial gradients; chunk i adds to lane i mod gradientLanes.
	lanes []tensors
}

// gradientLanes is how many partial gradients there are. It is fixed, so that sums run in the same
// order whatever the number of threads, and bounds how many threads a backward pass uses.
const gradientLanes = 8

// worker returns the scratch of worker i.
func (w *workspace) worker(i int) *scratch { return w.workers[i] }

// prepare makes sure there is one scratch per thread.
func (w *workspace) prepare(threads int) {
	for len(w.workers) < threads {
		w.workers = append(w.workers, new(scratch))
	}
}

// threads is how many workers a pass uses.
func threads() int { return runtime.GOMAXPROCS(0) }

// parallel runs task 0 … tasks−1 on at most workers goroutines, the caller's included, and returns when
// all are done. run is told which worker it is on; each task runs once.
func parallel(workers, tasks int, run func(worker, task int)) {
	var next atomic.Int64
	work := func(worker int) {
		for {
			task := int(next.Add(1)) - 1
			if task >= tasks {
				return
			}
			run(worker, task)
		}
	}
	var wait sync.WaitGroup
	for worker := 1; worker < min(workers, tasks); worker++ {
		wait.Go(func() { work(worker) })
	}
	work(0)
	wait.Wait()
}
