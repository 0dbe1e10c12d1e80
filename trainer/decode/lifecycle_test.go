package decode

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// pausing is a network that waits before its pass of a number, until it is let go.
type pausing struct {
	*fakeNetwork
	at, passes int
	reached    chan struct{}
	resume     chan struct{}
}

func newPausing(n *fakeNetwork, at int) *pausing {
	return &pausing{fakeNetwork: n, at: at, reached: make(chan struct{}), resume: make(chan struct{})}
}

func (n *pausing) Extend(pages device.Pages, pass *policy.Pass) error {
	if n.passes++; n.passes == n.at {
		close(n.reached)
		<-n.resume
	}
	return n.fakeNetwork.Extend(pages, pass)
}

// begun is a Generate call on its way.
type begun struct {
	result sampler.Result
	err    error
	done   chan struct{}
}

func begin(ctx context.Context, e *Engine, r sampler.Request) *begun {
	b := &begun{done: make(chan struct{})}
	go func() {
		defer close(b.done)
		b.result, b.err = e.Generate(ctx, r)
	}()
	return b
}

func TestAbortReturnsWhatWasSampled(t *testing.T) {
	n := newPausing(newFake(new(fakeDevice), 1, 500, 10), 5)
	e := newEngine(t, Config{Slots: 1}, n)
	r := sampler.Request{Sequence: "a", Tokens: counting(9, 10), MaxTokens: 400, Temperature: 1}
	running := begin(context.Background(), e, r)
	<-n.reached
	waiting := begin(context.Background(), e, sampler.Request{Sequence: "b", Tokens: r.Tokens, MaxTokens: 1})
	e.Abort("a")
	e.Abort("never seen")
	close(n.resume)
	<-running.done
	r.MaxTokens = 5
	want := alone(r, by(n.fakeNetwork), nil)
	want.Finish = sampler.FinishAbort
	if diff := cmp.Diff(want, running.result); running.err != nil || diff != "" {
		t.Errorf("error %v, difference:\n%s", running.err, diff)
	}
	if <-waiting.done; waiting.err != nil || waiting.result.Finish != sampler.FinishLength {
		t.Errorf("the other sequence: %+v, %v", waiting.result, waiting.err)
	}
	// What was computed is still there for the next turn.
	before := e.Stats()
	generate(t, e, sampler.Request{Sequence: "a", Tokens: append(slices.Clone(r.Tokens), running.result.Tokens...), MaxTokens: 1})
	if s := e.Stats(); s.ComputedTokens != before.ComputedTokens+1 {
		t.Errorf("%d tokens computed for the next turn, want 1", s.ComputedTokens-before.ComputedTokens)
	}
}

func TestLoadBetweenTokens(t *testing.T) {
	d := new(fakeDevice)
	first, second := newPausing(newFake(d, 1, 500, 10), 3), newFake(d, 2, 500, 10)
	e := newEngine(t, Config{Slots: 2, PassTokens: 16}, first)
	r := sampler.Request{Sequence: "a", Tokens: counting(9, 10), MaxTokens: 40, Temperature: 0.7, Seed: 3}
	running := begin(context.Background(), e, r)
	<-first.reached
	if err := e.Load(second, 5); err != nil {
		t.Fatal(err)
	}
	close(first.resume)
	<-running.done
	want := alone(r, func(i int) (*fakeNetwork, rollout.Version) {
		if i < 3 {
			return first.fakeNetwork, 4
		}
		return second, 5
	}, nil)
	if diff := cmp.Diff(want, running.result); running.err != nil || diff != "" {
		t.Errorf("error %v, difference:\n%s", running.err, diff)
	}
	if s := e.Stats(); s.Swaps != 1 || s.PrefixTokens != 0 {
		t.Errorf("%+v: want one swap and nothing found of the old weights", s)
	}
}

func TestGenerateEndsWithItsContext(t *testing.T) {
	n := newPausing(newFake(new(fakeDevice), 1, 5000, 10), 4)
	e := newEngine(t, Config{Slots: 1}, n)
	gone := errors.New("the episode was cancelled")
	ctx, cancel := context.WithCancelCause(context.Background())
	endless := sampler.Request{Sequence: "a", Tokens: []int32{1}, MaxTokens: 1 << 30, Temperature: 1}
	running := begin(ctx, e, endless)
	<-n.reached
	cancel(gone)
	<-running.done
	close(n.resume)
	if !errors.Is(running.err, gone) {
		t.Errorf("error %v, want the context's cause", running.err)
	}
	// The only slot is free again.
	generate(t, e, sampler.Request{Sequence: "b", Tokens: []int32{1}, MaxTokens: 2, Temperature: 1})
	if _, err := e.Generate(ctx, endless); !errors.Is(err, gone) {
		t.Errorf("cancelled before: error %v", err)
	}
}

func TestCloseEndsRequests(t *testing.T) {
	n := newPausing(newFake(new(fakeDevice), 1, 5000, 10), 4)
	e := newEngine(t, Config{Slots: 1}, n)
	endless := sampler.Request{Tokens: []int32{1}, MaxTokens: 1 << 30, Temperature: 1}
	all := []*begun{begin(context.Background(), e, endless), begin(context.Background(), e, endless)}
	<-n.reached
	closed := make(chan error)
	go func() { closed <- e.Close() }()
	close(n.resume)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for _, b := range all {
		if <-b.done; !errors.Is(b.err, ErrClosed) {
			t.Errorf("error %v, want %v", b.err, ErrClosed)
		}
	}
	if _, err := e.Generate(context.Background(), endless); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: error %v", err)
	}
	e.Abort("a")
	e.Release("a")
	late := newFake(n.device, 2, 5000, 10)
	if err := e.Load(late, 5); !errors.Is(err, ErrClosed) || !late.freed {
		t.Errorf("load after Close: error %v, freed %v", err, late.freed)
	}
}

func TestFailedPassFailsItsRequestsAlone(t *testing.T) {
	broken := errors.New("out of memory")
	n := newFake(new(fakeDevice), 1, 500, 10)
	e := newEngine(t, Config{Slots: 4, PassTokens: 8}, n)
	passes := 0
	n.fail = func(*policy.Pass) error {
		if passes++; passes == 3 {
			return broken
		}
		return nil
	}
	r := sampler.Request{Sequence: "a", Tokens: counting(100, 10), MaxTokens: 4, Temperature: 1}
	if _, err := e.Generate(context.Background(), r); !errors.Is(err, broken) || !strings.Contains(err.Error(), `sequence "a"`) {
		t.Errorf("error %v, want the device's, with the sequence", err)
	}
	if diff := cmp.Diff(alone(r, by(n), nil), generate(t, e, r)); diff != "" {
		t.Errorf("after a failed pass:\n%s", diff)
	}
	if s := e.Stats(); s.PrefixTokens != 0 {
		t.Errorf("%d tokens were found computed after the failed pass", s.PrefixTokens)
	}
}

// diverged is a network whose weights are not numbers.
type diverged struct {
	*fakeNetwork
	sampled device.Sampled
}

func (n diverged) Extend(_ device.Pages, pass *policy.Pass) error {
	for i := range pass.Chosen {
		pass.Chosen[i] = n.sampled
	}
	return nil
}

func TestDivergedWeightsAreAnError(t *testing.T) {
	for _, sampled := range []device.Sampled{{Token: -1}, {LogProb: float32(math.NaN())}} {
		e := newEngine(t, Config{Slots: 1}, diverged{newFake(new(fakeDevice), 1, 50, 10), sampled})
		_, err := e.Generate(context.Background(), sampler.Request{Sequence: "a", Tokens: []int32{1}, MaxTokens: 3, Temperature: 1})
		if !errors.Is(err, policy.ErrNotANumber) || !strings.Contains(err.Error(), "sampled token 0") {
			t.Errorf("%+v: error %v", sampled, err)
		}
	}
}

// TestWhatIsNotANumberSpoilsItsRequestAlone has a request of two parts fail by a token of the first one, while others that begin alike
// are under way, come at once, and come later.
func TestWhatIsNotANumberSpoilsItsRequestAlone(t *testing.T) {
	const spoils = 10 // beyond the vocabulary, so that nobody samples it
	for _, ahead := range []bool{false, true} {
		n := newFake(new(fakeDevice), 1, 300, 10)
		n.spoils = spoils
		var network Network = n
		if ahead {
			network = newLate(n)
		}
		pages, _ := n.device.NewPages(n.PageShape(32))
		b := &batch{schedule: newSchedule(32, 4, 40), pages: pages}
		b.use(network, 4)
		request := func(tokens []int32) sampler.Request {
			return sampler.Request{Tokens: tokens, MaxTokens: 9, Temperature: 1}
		}
		add := func(r sampler.Request) *generation {
			g := newGeneration(r, r.MaxTokens)
			b.add(g)
			return g
		}
		prompt := counting(70, 10)
		bad := request(slices.Clone(prompt))
		bad.Sequence, bad.Tokens[35] = "bad", spoils // it would be kept for its next turn
		healthy := []sampler.Request{request(counting(20, 9)), request(prompt), request(prompt[:33])}
		var all []*generation
		for i, r := range healthy {
			all = append(all, add(r))
			if i == 0 {
				b.step()
				all = append(all, add(bad))
			}
			b.step()
			checkSchedule(t, b.schedule)
		}
		for b.step() {
			checkSchedule(t, b.schedule)
		}
		if g := all[1]; !errors.Is(g.err, policy.ErrNotANumber) {
			t.Errorf("ahead %t: error %v", ahead, g.err)
		}
		for i, g := range slices.Delete(all, 1, 2) {
			if diff := cmp.Diff(alone(healthy[i], by(n), nil), g.result); g.err != nil || diff != "" {
				t.Errorf("ahead %t, request %d: %v\n%s", ahead, i, g.err, diff)
			}
		}
	}
}
