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
	parts := partsOf(n, minPerPart)
	if j := takeJob(parts); j != nil {
		j.ranges = ranges{n, body}
		if j.run(&j.ranges) {
			return
		}
	}
	for part := range parts {
		body(part*n/parts, (part+1)*n/parts)
	}
}

// partsOf is the number of parts that Parallel makes.
func partsOf(n, minPerPart int) int { return min(max(n/max(minPerPart, 1), 1), maxParts) }

// ranges are the parts of 0..n.
type ranges struct {
	n    int
	body func(lo, hi int)
}

func (r *ranges) part(part, parts int) { r.body(part*r.n/parts, (part+1)*r.n/parts) }

// task is what a job computes, part by part.
type task interface{ part(part, parts int) }

// job is one set of parts being computed. Parts are claimed one by one, so a helper that starts late or
// loses its core delays the caller by one part at most. The kinds of task are fields, so that sharing work
// allocates nothing.
type job struct {
	holders  atomic.Int64 // the caller, and helpers that found the job in shared or are about to look again
	parts    int64
	task     task
	ranges   ranges
	blocks   blocks
	panels   panels
	next     atomic.Int64 // next part to claim
	done     atomic.Int64 // parts finished
	finished sync.Mutex   // held until the last part is done
	panicked atomic.Pointer[string]
}

// jobs are all there are, used again and again. One is free where it has no holder: a caller takes it by
// becoming its first. A helper that read shared holds the job before it looks there again; only if the job
// is there still does it touch anything else of it. It is then among the holders while the job is published,
// so nobody takes the job until that helper has let it go. A helper that comes late to a job that is
// free or another's sees that shared has changed, and leaves; or finds the job published anew, and takes part.
var jobs [64]job

// shared is the job that helpers work on; nil when there is none. There is one place for all callers:
// one that finds it taken computes alone, since the other cores are busy anyway.
var shared atomic.Pointer[job]

// helpers counts the goroutines that look for a shared job or work on one.
var helpers atomic.Int64

// takeJob is a job of so many parts, to be filled and run; nil where the caller should compute alone, as it
// should when all jobs are held: so many goroutines are busy.
func takeJob(parts int) *job {
	if parts < 2 || Threads() < 2 || shared.Load() != nil {
		return nil
	}
	for i := range jobs {
		j := &jobs[i]
		if j.holders.Load() == 0 && j.holders.CompareAndSwap(0, 1) {
			j.parts = int64(parts)
			j.next.Store(0)
			j.done.Store(0)
			j.panicked.Store(nil)
			return j
		}
	}
	return nil
}

// run computes all parts of the task, with helpers, and reports whether it did: false where another caller was
// first. The job must not be used afterwards.
func (j *job) run(t task) bool {
	j.task = t
	j.finished.Lock()
	if !shared.CompareAndSwap(nil, j) {
		j.finished.Unlock()
		j.release()
		return false
	}
	startHelpers(min(Threads(), int(j.parts)) - 1)
	j.work()
	shared.CompareAndSwap(j, nil)
	j.wait()
	panicked := j.panicked.Load()
	j.release()
	if panicked != nil {
		panic(*panicked)
	}
	return true
}

// release ends the caller's use of the job, which keeps no matrix alive.
func (j *job) release() {
	j.task, j.ranges, j.blocks, j.panels = nil, ranges{}, blocks{}, panels{}
	j.holders.Add(-1)
}

// work claims parts until none is left, and reports whether it got any.
func (j *job) work() (any bool) {
	for {
		part := j.next.Add(1) - 1
		if part >= j.parts {
			return any
		}
		any = true
		j.compute(int(part))
		if j.done.Add(1) == j.parts {
			j.finished.Unlock()
		}
	}
}

func (j *job) compute(part int) {
	defer func() {
		if p := recover(); p != nil {
			text := fmt.Sprintf("%v\n\n%s", p, debug.Stack())
			j.panicked.CompareAndSwap(nil, &text)
		}
	}()
	j.task.part(part, int(j.parts))
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
	j.finished.Unlock()
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
	for spin := 0; spin < idleSpins; spin++ {
		if visit() {
			spin = 0
			continue
		}
		relax(spin)
	}
}

// visit works on the shared job and reports whether there was anything to do.
func visit() bool {
	j := shared.Load()
	if j == nil {
		return false
	}
	j.holders.Add(1)
	defer j.holders.Add(-1)
	return shared.Load() == j && j.work()
}

// relax passes a moment of waiting, and from time to time lets other goroutines run.
func relax(spin int) {
	if spin%16 == 15 {
		runtime.Gosched()
		return
	}
	pause()
}
