package activity

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/record"
	"github.com/turnwise-rl/turnwise/rollout/render"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/workflows"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// scripted is an engine that writes turns by their seed, with the version it has. Plans disturb it.
type scripted struct {
	renderer render.Renderer
	// lag is how long a turn takes; using is asked before new weights are used; before is asked before a
	// turn of a sequence, from a context of so many tokens, is sampled. nil disturbs nothing.
	lag    time.Duration
	using  func(version int) error
	before func(ctx context.Context, sequence string, context int) error

	mu      sync.Mutex
	version int
	sampled map[string]int // turns by sequence and context
}

// scriptedTurns are the turns that a scripted engine draws from: calls that work, calls that do not, no calls.
var scriptedTurns = []string{"search entity: a; relation: b", "neighbors entity: a", "neighbors entity: b\nneighbors entity: c", "sing", "What?", "answer: a"}

func turnKey(sequence string, context int) string { return fmt.Sprint(sequence, "@", context) }

func (s *scripted) Generate(ctx context.Context, request sampler.Request) (sampler.Result, error) {
	s.mu.Lock()
	version := rollout.Version(s.version)
	s.mu.Unlock()
	if s.before != nil {
		if err := s.before(ctx, request.Sequence, len(request.Tokens)); err != nil {
			return sampler.Result{}, err
		}
	}
	if s.lag > 0 {
		select {
		case <-time.After(s.lag * time.Duration(1+request.Seed%5)):
		case <-ctx.Done():
			return sampler.Result{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sampled == nil {
		s.sampled = map[string]int{}
	}
	s.sampled[turnKey(request.Sequence, len(request.Tokens))]++
	tokens := append(s.renderer.Tokens(scriptedTurns[request.Seed%uint64(len(scriptedTurns))]), s.renderer.Stops()[0])
	result := sampler.Result{Finish: sampler.FinishStop}
	if len(tokens) > request.MaxTokens {
		tokens, result.Finish = tokens[:request.MaxTokens], sampler.FinishLength
	}
	for i, token := range tokens {
		result.Tokens = append(result.Tokens, token)
		result.LogProbs = append(result.LogProbs, -float32(request.Seed%97+1)/float32(i+2))
		result.Entropies = append(result.Entropies, float32(i+1)/4)
		result.Versions = append(result.Versions, version)
		if i == len(tokens)/2 { // tokens carry their own versions
			version = rollout.Version(s.version)
		}
	}
	return result, nil
}

func (s *scripted) Release(string) {}
func (s *scripted) Close() error   { return nil }

func (s *scripted) Use(_ context.Context, _ blob.Ref, version int) error {
	if s.using != nil {
		if err := s.using(version); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = version
	return nil
}

// signaler is a Signaler that hands messages over.
type signaler func(ctx context.Context, message any) error

func (s signaler) SignalWorkflow(ctx context.Context, workflow, _, name string, arg any) error {
	want := workflows.GroupsSignal
	if _, news := arg.(workflows.PoolNews); news {
		want = workflows.PoolSignal
	}
	if workflow != runID || name != want {
		return fmt.Errorf("signal %s to %s", name, workflow)
	}
	return s(ctx, arg)
}

// stand is a prepared run with a scripted engine, whose control object a test writes by hand.
type stand struct {
	t       *testing.T
	dir     string
	a       *Activities
	engine  *scripted
	control runstate.Control

	mu      sync.Mutex
	away    error // what signals answer; nil delivers them
	news    []workflows.PoolNews
	reports []workflows.GroupsReport
	arrived chan struct{} // of capacity 1
}

func newStand(t *testing.T, dir string) *stand {
	s := &stand{t: t, dir: dir, a: fresh(dir), engine: &scripted{}, arrived: make(chan struct{}, 1)}
	s.a.Worker = "here"
	s.a.Signals = signaler(s.signal)
	s.a.Engines = func(_ configs.Run, renderers map[string]render.Renderer) (Engine, error) {
		s.engine.renderer = renderers["lookup"]
		return s.engine, nil
	}
	control, err := s.folder().Control(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.control = control
	return s
}

func (s *stand) signal(_ context.Context, message any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return s.away
	}
	switch m := message.(type) {
	case workflows.PoolNews:
		s.news = append(s.news, m)
	case workflows.GroupsReport:
		s.reports = append(s.reports, m)
	}
	s.wakeUp()
	return nil
}

// wakeUp has a test that waits look again.
func (s *stand) wakeUp() {
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

func (s *stand) folder() *runfolder.Folder {
	folder, err := runfolder.Open(s.dir, runID)
	if err != nil {
		s.t.Fatal(err)
	}
	return folder
}

// publish changes the control object.
func (s *stand) publish(change func(*runstate.Control)) {
	s.t.Helper()
	s.control.Revision++
	change(&s.control)
	if err := s.folder().PublishControl(context.Background(), s.control); err != nil {
		s.t.Fatal(err)
	}
}

// assign gives a tenure of pool 0 groups to play.
func (s *stand) assign(tenure int, groups ...runstate.Assignment) {
	s.t.Helper()
	s.publish(func(c *runstate.Control) { c.Shares = []runstate.Share{{Pool: 0, Tenure: tenure, Groups: groups}} })
}

// group is an assignment in its first round.
func group(number int) runstate.Assignment { return runstate.Assignment{Group: number} }

// life is one rollout loop of a stand.
type life struct {
	stop, cancel func()
	ended        chan struct{}
	took         time.Duration
	result       workflows.LoopResult
	err          error
}

// live starts a loop of pool 0.
func (s *stand) live(handOver time.Duration) *life {
	ctx, cancel := context.WithCancel(context.Background())
	stop := make(chan struct{})
	l := &life{cancel: cancel, stop: sync.OnceFunc(func() { close(stop) }), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		began := time.Now()
		defer func() { l.took = time.Since(began) }()
		l.result, l.err = s.a.rolloutLoop(ctx, workflows.LoopInput{Run: runID, HandOverAfter: handOver}, new(loopProgress), stop)
	}()
	s.t.Cleanup(func() { // of a test that failed
		cancel()
		<-l.ended
	})
	return l
}

// end stops a loop and waits for it.
func (l *life) end() {
	l.stop()
	<-l.ended
	l.cancel()
}

// patience is how long a test waits for news in the time of its bubble, far longer than any news takes.
const patience = 2 * time.Hour

// until waits until what was signalled satisfies a condition. A loop that never says it fails the test.
func (s *stand) until(met func() bool) {
	s.t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		s.mu.Lock()
		done := met()
		s.mu.Unlock()
		if done {
			return
		}
		s.hear(end)
	}
}

// hear waits for the next news, and fails the test at the end.
func (s *stand) hear(end *time.Timer) {
	s.t.Helper()
	select {
	case <-s.arrived:
	case <-end.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.t.Fatalf("the loop does not say what is waited for: ready are %v, dropped %+v, reports %+v", s.ready(), s.dropped(), s.reports)
	}
}

// ready are the groups reported ready, sorted.
func (s *stand) ready() []int {
	var numbers []int
	for _, report := range s.reports {
		for _, ready := range report.Ready {
			numbers = append(numbers, ready.Number)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// short is the last report of a group that is short of members; nil when there is none.
func (s *stand) short(number int) *workflows.ShortGroup {
	for _, report := range slices.Backward(s.reports) {
		for _, short := range report.Short {
			if short.Number == number {
				return &short
			}
		}
	}
	return nil
}

func (s *stand) dropped() []workflows.DroppedGroup {
	var all []workflows.DroppedGroup
	for _, report := range s.reports {
		all = append(all, report.Dropped...)
	}
	return all
}

// serving is the last tenure that said it serves.
func (s *stand) serving() int {
	tenure := 0
	for _, news := range s.news {
		if news.State == workflows.PoolServing {
			tenure = news.Tenure
		}
	}
	return tenure
}

// stored reads a group from the store, without times.
func (s *stand) stored(number int) rollout.Group {
	s.t.Helper()
	data, err := s.folder().Read(context.Background(), runfolder.SegmentKey(number))
	if err != nil {
		s.t.Fatal(err)
	}
	group, err := record.DecodeSegment(data)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range group.Trajectories {
		group.Trajectories[i].ElapsedSeconds = 0
	}
	return group
}
