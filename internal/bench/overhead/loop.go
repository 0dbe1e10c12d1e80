package overhead

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/journal"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// controlInterval is how often the loop looks at the control object, as the real one does.
const controlInterval = 10 * time.Millisecond

// loop plays one pool. Its fields belong to the goroutine of play; what other goroutines find out comes
// through the channels.
type loop struct {
	*parts
	input    workflows.LoopInput
	journal  *journal.Writer
	control  runstate.Control
	held     map[int]*heldGroup
	waiting  []*heldGroup // with members that have no slot, ascending
	inFlight int
	filled   time.Time // when the slots were last filled as far as there were members
	played   chan episode
	reports  chan workflows.ReadyGroup
	failed   chan error
	working  sync.WaitGroup
}

// heldGroup is a group in the loop's hands until it leaves the share.
type heldGroup struct {
	number   int
	begun    int // members
	finished []episode
}

// episode is a finished member.
type episode struct {
	group   *heldGroup
	member  int
	version int // that sampled it
	latency time.Duration
	held    time.Duration // the slot, from its begin until its turn was durable
	turn    journal.Turn
}

func (p *parts) rolloutLoop(ctx context.Context, input workflows.LoopInput) (workflows.LoopResult, error) {
	writer, err := journal.Open(p.folder.TurnsPath())
	if err != nil {
		return workflows.LoopResult{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{parts: p, input: input, journal: writer, held: map[int]*heldGroup{},
		played: make(chan episode, p.bench.Slots), reports: make(chan workflows.ReadyGroup, p.bench.Slots), failed: make(chan error, 1)}
	l.working.Go(func() { l.report(ctx) })
	l.working.Go(func() { l.beat(ctx) })
	err = l.play(ctx)
	cancel()
	l.working.Wait()
	if closed := writer.Close(); err == nil {
		err = closed
	}
	return workflows.LoopResult{Tenure: writer.Tenure(), Stopped: err == nil, Reason: "the run has ended"}, err
}

// play runs until the control object says that the run has ended.
func (l *loop) play(ctx context.Context) error {
	news := workflows.PoolNews{Pool: l.input.Pool, State: workflows.PoolServing, Tenure: l.journal.Tenure(), Worker: "measured"}
	if err := l.bench.Client.SignalWorkflow(ctx, l.input.Run, "", workflows.PoolSignal, news); err != nil {
		return err
	}
	ticker := time.NewTicker(controlInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			control, err := l.folder.Control(ctx)
			if err != nil {
				return err
			}
			if control.Stopped {
				return nil
			}
			l.follow(control)
		case e := <-l.played:
			l.inFlight--
			l.take(ctx, e)
		case err := <-l.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		l.fill(ctx)
	}
}

// follow takes up new groups of the share and lets go of those that have left it.
func (l *loop) follow(control runstate.Control) {
	if control.Revision == l.control.Revision {
		return
	}
	if control.Version != l.control.Version {
		l.marks.versionSeen(control.Version, time.Now())
	}
	l.control = control
	held := map[int]*heldGroup{}
	for _, share := range control.Shares {
		if share.Tenure != l.journal.Tenure() {
			continue
		}
		for _, assignment := range share.Groups {
			g := l.held[assignment.Group]
			if g == nil {
				g = &heldGroup{number: assignment.Group}
				l.waiting = append(l.waiting, g)
			}
			held[g.number] = g
		}
	}
	l.held = held
}

// fill gives free slots to the members that wait.
func (l *loop) fill(ctx context.Context) {
	now := time.Now()
	if free := l.bench.Slots - l.inFlight; len(l.waiting) == 0 && !l.filled.IsZero() {
		l.marks.starved(time.Duration(free) * now.Sub(l.filled))
	}
	l.filled = now
	for l.inFlight < l.bench.Slots && len(l.waiting) > 0 {
		g := l.waiting[0]
		e := episode{group: g, member: g.begun, version: l.control.Version}
		g.begun++
		if g.begun == l.bench.GroupSize {
			l.waiting = l.waiting[1:]
		}
		l.inFlight++
		l.working.Go(func() {
			if err := l.sleep(ctx, &e); err != nil {
				l.fail(err)
				return
			}
			l.played <- e // never blocks: the channel has room for every slot
		})
	}
}

// fail ends the loop with the first error.
func (l *loop) fail(err error) {
	select {
	case l.failed <- err:
	default:
	}
}

// promptTokens and sampledTokens are those of every episode's one turn.
const promptTokens, sampledTokens = 32, 64

// sleep plays one episode of one turn.
func (l *loop) sleep(ctx context.Context, e *episode) error {
	began := time.Now()
	random := rand.New(rand.NewPCG(uint64(e.group.number), uint64(e.member)))
	begin := journal.Begin{Episode: journal.Episode{Group: e.group.number, Member: e.member}, Attempt: 1}
	if err := l.journal.Begin(ctx, begin); err != nil {
		return err
	}
	seconds := l.bench.Latency.Draw(random)
	e.latency = time.Duration(seconds * float64(time.Second))
	timer := time.NewTimer(e.latency)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	e.turn = turn(begin, e.version, seconds)
	err := l.journal.Finish(ctx, e.turn)
	e.held = time.Since(began)
	return err
}

// turn is one turn of an episode that a version samples.
func turn(begin journal.Begin, version int, seconds float64) journal.Turn {
	prompt := make([]int32, promptTokens)
	out := journal.Turn{Begin: begin, Context: journal.Context(journal.Begun, prompt), Prompt: prompt, Tokens: make([]int32, sampledTokens),
		LogProbs: make([]float32, sampledTokens), Entropies: make([]float32, sampledTokens), Versions: make([]rollout.Version, sampledTokens),
		Record: rollout.Turn{Start: promptTokens, End: promptTokens + sampledTokens}, Stop: rollout.StopAnswer, Seconds: seconds}
	for i := range out.Tokens {
		out.Tokens[i], out.LogProbs[i], out.Versions[i] = int32(i), -1, rollout.Version(version)
	}
	return out
}

// take keeps a finished member, and stores its group when it is the last.
func (l *loop) take(ctx context.Context, e episode) {
	l.marks.finished(e.latency, e.held)
	g := e.group
	g.finished = append(g.finished, e)
	if len(g.finished) < l.bench.GroupSize {
		return
	}
	l.working.Go(func() {
		ready, err := l.store(ctx, g)
		if err != nil {
			l.fail(err)
			return
		}
		l.marks.groupStored(g.number, time.Now())
		select {
		case l.reports <- ready:
		case <-ctx.Done():
		}
	})
}

// store writes the group's segment.
func (l *loop) store(ctx context.Context, g *heldGroup) (workflows.ReadyGroup, error) {
	group := rollout.Group{ID: fmt.Sprintf("g%d", g.number), Task: rollout.Task{ID: fmt.Sprintf("t%d", g.number), Env: "sleep"},
		Trajectories: make([]rollout.Trajectory, len(g.finished))}
	oldest, newest := g.finished[0].version, g.finished[0].version
	for _, e := range g.finished {
		group.Trajectories[e.member] = trajectory(e)
		oldest, newest = min(oldest, e.version), max(newest, e.version)
	}
	data, err := record.EncodeSegment(group)
	if err != nil {
		return workflows.ReadyGroup{}, err
	}
	ref, err := l.folder.PutOnce(ctx, runfolder.SegmentKey(g.number), data)
	return workflows.ReadyGroup{GroupRef: runstate.GroupRef{Number: g.number, Object: runstate.Ref(ref), Oldest: oldest, Newest: newest}}, err
}

func trajectory(e episode) rollout.Trajectory {
	n := promptTokens + sampledTokens
	t := rollout.Trajectory{ID: e.turn.Episode.String(), Tokens: append(e.turn.Prompt, e.turn.Tokens...), Sampled: make([]bool, n),
		BehaviorLogProbs: make([]float32, n), Versions: make([]rollout.Version, n), Turns: []rollout.Turn{e.turn.Record}, Stop: e.turn.Stop,
		ElapsedSeconds: e.latency.Seconds()}
	for i := range e.turn.Tokens {
		t.Sampled[promptTokens+i], t.BehaviorLogProbs[promptTokens+i], t.Versions[promptTokens+i] = true, e.turn.LogProbs[i], e.turn.Versions[i]
	}
	return t
}

// report tells the run of stored groups. One signal is under way at a time; what comes meanwhile goes
// with the next.
func (l *loop) report(ctx context.Context) {
	for {
		report := workflows.GroupsReport{Pool: l.input.Pool, Tenure: l.journal.Tenure()}
		select {
		case ready := <-l.reports:
			report.Ready = append(report.Ready, ready)
		case <-ctx.Done():
			return
		}
		for more := true; more; {
			select {
			case ready := <-l.reports:
				report.Ready = append(report.Ready, ready)
			default:
				more = false
			}
		}
		l.marks.signalled()
		if err := l.bench.Client.SignalWorkflow(ctx, l.input.Run, "", workflows.GroupsSignal, report); err != nil {
			if ctx.Err() == nil {
				l.fail(err)
			}
			return
		}
	}
}

// beat keeps the activity alive.
func (l *loop) beat(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		activity.RecordHeartbeat(ctx, workflows.LoopProgress{Tenure: l.journal.Tenure(), Worker: "measured", Episodes: l.bench.Slots})
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
