package activity

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/workflows"
)

const (
	// controlInterval is how often a loop looks at the control object: one system call, some microseconds.
	controlInterval = 3 * time.Millisecond
	// controlReread is how often it reads that file although it looks unchanged.
	controlReread = time.Second
	// runInterval is how often it asks whether its run is still open.
	runInterval = 10 * time.Second
	// lookInterval is how often it looks for reports that had no consequence.
	lookInterval = 250 * time.Millisecond
	// pruneInterval is how often it removes the records of turns that nothing asks for any more.
	pruneInterval = 30 * time.Second
	// handOverGrace is how long episodes may take to come to their next turn when the loop hands over,
	// stopGrace when its process stops. What is cut off in a turn samples that turn again.
	handOverGrace = 15 * time.Second
	stopGrace     = time.Second
	// sayGrace is how long a leaving loop tries to say what it has not said yet. The next tenure finds it
	// out by itself.
	sayGrace = 500 * time.Millisecond
)

// RolloutLoop plays the share of one pool: it claims a tenure, tells the run, and from then on does what
// the control object says: which groups to play, with which weights, when to hold still and when to leave.
// It records every finished turn before the next begins, stores each group and tells the run about it.
// What goes wrong with one group never ends it. After its death another loop goes on where it was.
func (a *Activities) RolloutLoop(ctx context.Context, input workflows.LoopInput) (workflows.LoopResult, error) {
	progress := loopProgress{worker: a.Worker}
	defer heartbeat(ctx, progress.details)()
	result, err := a.rolloutLoop(ctx, input, &progress, activity.GetWorkerStopChannel(ctx))
	if err != nil && ctx.Err() == nil {
		a.Log.Error("rollout loop failed", "run", input.Run, "pool", input.Pool, "error", err)
	}
	return result, classify(err)
}

// loopProgress is what a loop's heartbeats say.
type loopProgress struct {
	worker           string
	tenure, episodes atomic.Int64
}

func (p *loopProgress) details() any {
	return workflows.LoopProgress{Tenure: int(p.tenure.Load()), Worker: p.worker, Episodes: int(p.episodes.Load())}
}

func (a *Activities) rolloutLoop(ctx context.Context, input workflows.LoopInput, progress *loopProgress, stop <-chan struct{}) (workflows.LoopResult, error) {
	if err := ctx.Err(); err != nil {
		return workflows.LoopResult{}, err
	}
	var result workflows.LoopResult
	err := a.underLease(ctx, job{run: input.Run, under: input.Lease, spares: samplerSpares}, func(ctx context.Context, at *bay) (err error) {
		result, err = a.serveLoop(ctx, input, progress, stop, at)
		return err
	})
	return result, err
}

func (a *Activities) serveLoop(ctx context.Context, input workflows.LoopInput, progress *loopProgress, stop <-chan struct{}, at *bay) (workflows.LoopResult, error) {
	r, err := a.openRun(ctx, input.Run)
	if err != nil {
		return workflows.LoopResult{}, err
	}
	engine, err := a.newEngine(at, r)
	if err != nil {
		return workflows.LoopResult{}, err
	}
	defer engine.Close()
	writer, err := journal.Open(r.folder.TurnsPath())
	if err != nil {
		return workflows.LoopResult{}, err
	}
	progress.tenure.Store(int64(writer.Tenure()))
	l := a.newLoop(input, r, engine, writer, progress)
	result, err := l.serve(ctx, stop)
	if closing := writer.Close(); closing != nil {
		l.log.Warn("the records of turns could not be closed in order", "error", closing)
	}
	a.observer().LoopLeft(input.Run, result.Stopped)
	if result.Stopped && ctx.Err() == nil {
		if pruning := pruneTurns(ctx, r); pruning != nil {
			l.log.Warn("records of turns stay", "error", pruning)
		}
	}
	return result, err
}

// loop is one rollout loop at work. Its fields belong to the goroutine that serves; the others post to
// its mailbox.
type loop struct {
	activities *Activities
	input      workflows.LoopInput
	run        *run
	log        *slog.Logger
	writer     *journal.Writer
	engine     Engine
	roster     *roster
	gate       *gate
	mail       *mailbox
	reporter   *reporter
	progress   *loopProgress
	control    controlFile
	tables     map[int]*table
	// touched are the groups that were opened in this tenure: what it recorded of them is on disk.
	touched map[int]bool
	// version is that of the weights in the engine, for the goroutines that play.
	version atomic.Int64
	// ctx is that of everything under way, and cancel cuts it off; work counts its goroutines.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	announced   time.Time
	announceGap time.Duration
	loadFailed  int    // times in a row that the current weights could not be loaded
	corrupt     string // the key of the weights that the run was told are corrupt

	leaving bool
	result  workflows.LoopResult
	abandon error // why the loop leaves with an error; nil when it leaves in order
}

func (a *Activities) newLoop(input workflows.LoopInput, r *run, engine Engine, writer *journal.Writer, progress *loopProgress) *loop {
	tenure := writer.Tenure()
	l := &loop{
		activities: a, input: input, run: r, writer: writer, engine: engine, progress: progress,
		log:    a.Log.With("run", input.Run, "pool", input.Pool, "tenure", tenure),
		roster: newRoster(input.Pool, tenure, r.config.Sampling.Slots, r.config.Training.GroupSize, r.config.Sampling.NewWeights == configs.WeightsDrain),
		mail:   newMailbox(), tables: map[int]*table{}, touched: map[int]bool{}, control: controlFile{folder: r.folder},
		result: workflows.LoopResult{Tenure: tenure},
	}
	l.version.Store(unknown)
	l.gate = newGate(func() { l.mail.post(nil) })
	l.reporter = &reporter{signals: a.Signals, log: l.log, run: input.Run, pool: input.Pool, tenure: tenure, wake: make(chan struct{}, 1), empty: time.Now(),
		gone: func() { l.mail.post(func() { l.leave("the run takes no signals any more", true, 0) }) },
		said: func() { l.mail.post(nil) }}
	return l
}

// serve runs until the loop has left and nothing that it started is under way.
func (l *loop) serve(ctx context.Context, stop <-chan struct{}) (workflows.LoopResult, error) {
	l.ctx, l.cancel = context.WithCancel(ctx)
	telling, stopTelling := context.WithCancel(ctx)
	beside, stopBeside := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	helpers.Go(func() { l.reporter.deliver(telling) })
	helpers.Go(func() { l.watchRun(beside) })
	helpers.Go(func() { l.prune(beside) })
	defer helpers.Wait()
	defer stopTelling()
	defer stopBeside()
	defer l.work.Wait()
	defer l.cancel()

	l.announce()
	l.turn(ctx, stop)
	stopBeside()
	l.cancel() // the roster is idle: nothing is cut off, and whoever waits for the end of a grace need not
	l.work.Wait()
	if !l.result.Stopped && ctx.Err() == nil {
		l.finishSaying(ctx)
	}
	if err := ctx.Err(); err != nil {
		return l.result, err
	}
	l.log.Info("the rollout loop leaves", "reason", l.result.Reason)
	return l.result, l.abandon
}

// turn is the loop itself: see what is new, decide, carry out, wait.
func (l *loop) turn(ctx context.Context, stop <-chan struct{}) {
	ticker := time.NewTicker(controlInterval)
	defer ticker.Stop()
	handOver := time.NewTimer(l.input.HandOverAfter)
	defer handOver.Stop()
	done := ctx.Done()
	looked := time.Time{}
	for news := true; ; {
		news = l.follow() || news
		if now := time.Now(); news || now.Sub(looked) >= lookInterval {
			looked = now
			l.carryOut(l.roster.decide(now, l.gate.held(), l.reporter.heard()))
		}
		if l.leaving && l.roster.idle() {
			return
		}
		news = false
		select {
		case <-ticker.C:
		case <-l.mail.wake:
			l.mail.open()
			news = true
		case <-handOver.C:
			l.leave("it hands over to a fresh loop", false, handOverGrace)
			news = true
		case <-stop:
			stop = nil
			l.leave("its process stops", false, stopGrace)
			news = true
		case <-done:
			done = nil
			l.leave("it was withdrawn", false, 0)
			news = true
		}
	}
}

// follow takes a new control object, if there is one.
func (l *loop) follow() bool {
	control, changed, err := l.control.read(l.ctx)
	if err != nil && l.ctx.Err() == nil && l.control.firstTime(err) {
		l.log.Warn("the control object cannot be read, trying again", "error", err)
	}
	if !changed || err != nil {
		return false
	}
	if control.Version != l.roster.control.Version || control.Weights != l.roster.control.Weights {
		l.loadFailed = 0
	}
	l.roster.follow(control)
	l.behind()
	l.gate.pause(control.Paused)
	if tenure := l.roster.replaced(); tenure > 0 {
		l.leave(fmt.Sprintf("tenure %d has the pool", tenure), false, 0)
	}
	if control.Stopped {
		l.leave("the run has ended", true, 0)
	}
	return true
}

// leave begins to leave: nothing new starts, episodes end at their next turn, and after grace they are
// cut off where they are. Called again it may shorten the grace.
func (l *loop) leave(reason string, stopped bool, grace time.Duration) {
	if !l.leaving {
		l.leaving, l.roster.leaving = true, true
		l.result.Reason = reason
	}
	l.result.Stopped = l.result.Stopped || stopped
	l.gate.leave()
	if grace == 0 {
		l.cancel()
		return
	}
	l.work.Go(func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			l.cancel()
		case <-l.ctx.Done():
		}
	})
}

// finishSaying gives the reporter a moment.
func (l *loop) finishSaying(ctx context.Context) {
	l.mail.open()
	l.carryOut(l.roster.decide(time.Now(), 0, time.Time{}))
	deadline := time.NewTimer(sayGrace)
	defer deadline.Stop()
	for !l.reporter.silent() {
		select {
		case <-l.mail.wake:
		case <-deadline.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// carryOut does what the roster decided.
func (l *loop) carryOut(o orders) {
	for _, number := range o.stop {
		l.tables[number].cancel()
	}
	for _, number := range o.forget {
		l.tables[number].cancel()
		delete(l.tables, number)
	}
	for _, report := range o.reports {
		l.reporter.say(outgoing{report: report})
	}
	if o.load {
		l.load()
	}
	l.open(o.open)
	for _, at := range o.start {
		l.start(at)
	}
	for _, number := range o.store {
		l.store(number)
	}
	if o.quiet > 0 {
		l.reporter.say(outgoing{news: l.news(workflows.PoolQuiet, o.quiet)})
	}
	if o.announce && l.reporter.silent() && time.Since(l.announced) >= l.announceGap {
		l.announce()
	}
	l.progress.episodes.Store(int64(l.roster.inFlight))
}

// announce tells the run that this loop serves its pool, again at growing intervals while the run does
// not act on it: it may have been started anew.
func (l *loop) announce() {
	l.announced = time.Now()
	l.announceGap = min(max(2*l.announceGap, time.Second), repeatAtMost)
	l.reporter.say(outgoing{news: l.news(workflows.PoolServing, 0)})
}

func (l *loop) news(state workflows.PoolState, revision int) *workflows.PoolNews {
	return &workflows.PoolNews{Pool: l.input.Pool, State: state, Tenure: l.result.Tenure, Revision: revision, Worker: l.activities.Worker}
}

// pause waits, or less when the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
