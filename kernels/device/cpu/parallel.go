package cpu

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// threads is the limit set by SetThreads; 0 means GOMAXPROCS.
var threads atomic.Int64

// SetThreads limits the goroutines that compute at the same time for one call. Less than one restores
// the default, GOMAXPROCS. Results do not depend on it.
func SetThreads(n int) { threads.Store(int64(max(n, 0))) }

// Threads is the number of goroutines that may compute at the same time for one call.
func Threads() int {
	if n := threads.Load(); n > 0 {
		return int(n)
	}
	return runtime.GOMAXPROCS(0)
}

// maxParts bounds the parts of one Parallel call. It is a constant, so that the partition does not
// depend on the number of threads.
const maxParts = 64

// Parallel splits 0..n into parts of at least minPerPart (at most 64 parts, whose borders depend on n
// and minPerPart alone), calls body for each, and returns when all are done. Parts run concurrently in
// no particular order, some of them on the calling goroutine; a body must write only what belongs to
// its own part. A panic in a part is raised again in the caller, once the other parts are done.
func Parallel(n, minPerPart int, body func(lo, hi int)) {
	if n <= 0 {
		return
	}
	parts := min(max(n/max(minPerPart, 1), 1), maxParts)
	runParts(parts, func(part int) { body(part*n/parts, (part+1)*n/parts) })
}

// job is one set of parts being computed. Parts are claimed one by one, so a helper that starts late or
// loses its core delays the caller by one part at most.
type job struct {
	parts    int64
	body     func(part int)
	next     atomic.Int64 // next part to claim
	done     atomic.Int64 // parts finished
	finished sync.Mutex   // held until the last part is done
	panicked atomic.Pointer[string]
}

// shared is the job that helpers work on; nil when there is none. There is one place for all callers:
// one that finds it taken computes alone, since the other cores are busy anyway.
var shared atomic.Pointer[job]

// helpers counts the goroutines that look for a shared job or work on one.
var helpers atomic.Int64

// runParts calls body(0) … body(parts-1), on several goroutines where Threads allows.
func runParts(parts int, body func(part int)) {
	wanted := min(Threads(), parts) - 1
	if wanted < 1 || shared.Load() != nil {
		for part := range parts {
			body(part)
		}
		return
	}
	j := &job{parts: int64(parts), body: body}
	j.finished.Lock()
	if !shared.CompareAndSwap(nil, j) {
		for part := range parts {
			body(part)
		}
		return
	}
	startHelpers(wanted)
	j.work()
	shared.CompareAndSwap(j, nil)
	j.wait()
	if p := j.panicked.Load(); p != nil {
		panic(*p)
	}
}

// work claims parts until none is left.
func (j *job) work() {
	for {
		part := j.next.Add(1) - 1
		if part >= j.parts {
			return
		}
		j.run(int(part))
		if j.done.Add(1) == j.parts {
			j.finished.Unlock()
		}
	}
}

func (j *job) run(part int) {
	defer func() {
		if p := recover(); p != nil {
			text := fmt.Sprintf("%v\n\n%s", p, debug.Stack())
			j.panicked.CompareAndSwap(nil, &text)
		}
	}()
	j.body(part)
}

// spinsBeforeSleep is how often a caller looks for the last part's end before it sleeps.
const spinsBeforeSleep = 1000

// wait returns when all parts are done.
func (j *job) wait() {
	for spin := range spinsBeforeSleep {
		if j.done.Load() == j.parts {
			return
		}
		relax(spin)
	}
	j.finished.Lock()
}

// idleSpins is how often a helper looks for a new job before it ends: about a tenth of a millisecond,
// which bridges the serial stretches between the matrix products of a layer.
const idleSpins = 2000

// startHelpers sees to it that there are as many helpers as wanted.
func startHelpers(wanted int) {
	for {
		running := helpers.Load()
		if running >= int64(wanted) {
			return
		}
		if helpers.CompareAndSwap(running, running+1) {
			go help()
			// The newest goroutine is reserved for the processor that made it, for some 50 µs; an
			// empty one takes that place, so that an idle processor can take the helper at once.
			go func() {}()
		}
	}
}

// help works on shared jobs until none has come for a while. Helpers end rather than sleep, so that no
// goroutine outlives the arithmetic by more than that while.
func help() {
	defer helpers.Add(-1)
	var last *job
	for spin := 0; spin < idleSpins; spin++ {
		j := shared.Load()
		if j != nil && j != last {
			j.work()
			last, spin = j, 0
			continue
		}
		relax(spin)
	}
}

// relax passes a moment of waiting, and from time to time lets other goroutines run.
func relax(spin int) {
	if spin%16 == 15 {
		runtime.Gosched()
		return
	}
	pause()
}
