package decode

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pageBytes is the size of a page of the fake network.
const pageBytes = 2 * 4 * 2 * pageTokens

// newEngine starts an engine that is closed at the end of the test, on a fake device.
func newEngine(t testing.TB, c Config, n Network) *Engine {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Load(n, 4); err != nil {
		t.Fatal(err)
	}
	return e
}

func generate(t testing.TB, e *Engine, r sampler.Request) sampler.Result {
	t.Helper()
	result, err := e.Generate(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// by is a network that samples every token of a result.
func by(n *fakeNetwork) func(int) (*fakeNetwork, rollout.Version) {
	return func(int) (*fakeNetwork, rollout.Version) { return n, 4 }
}

func counting(n, vocabulary int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(i * i % vocabulary)
	}
	return out
}

// TestManyCallers lets goroutines generate, load and release at once over a small cache.
func TestManyCallers(t *testing.T) {
	d := new(fakeDevice)
	networks := make([]*fakeNetwork, 8)
	for i := range networks {
		networks[i] = newFake(d, uint64(i), 200, 10)
	}
	e := newEngine(t, Config{Slots: 5, CacheBytes: 16 * pageBytes, PassTokens: 64, TokenBytes: letters}, networks[4])
	var wait sync.WaitGroup
	for caller := range 8 {
		wait.Go(func() {
			name := fmt.Sprint(caller % 5)
			tokens := counting(20+7*(caller%3), 10)
			for turn := range 6 {
				r := sampler.Request{Sequence: name, Tokens: slices.Clone(tokens), MaxTokens: 3 + 5*turn, Temperature: 1,
					Seed: uint64(10*caller + turn), StopStrings: []string{"cabab"}}
				got, err := e.Generate(context.Background(), r)
				if err != nil {
					t.Error(err)
					return
				}
				want := alone(r, func(i int) (*fakeNetwork, rollout.Version) {
					version := got.Versions[min(i, len(got.Versions)-1)]
					return newFake(nil, uint64(version), 200, 10), version
				}, letters)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("caller %d, turn %d: alone and in company differ:\n%s", caller, turn, diff)
				}
				tokens = append(append(tokens, got.Tokens...), 7, 7)
			}
			e.Release(name)
		})
	}
	for version := 5; version < len(networks); version++ {
		runtime.Gosched()
		if err := e.Load(networks[version], rollout.Version(version)); err != nil {
			t.Error(err)
		}
	}
	wait.Wait()
	e.Close()
	for i, n := range networks[4:] {
		if !n.freed {
			t.Errorf("network %d is not freed", i+4)
		}
	}
	if s := e.Stats(); !d.freed || s.PagesUsed != 0 || s.Running+s.Waiting+s.Idle != 0 {
		t.Errorf("after Close: cache freed %v, %+v", d.freed, s)
	}
}

func TestGroupComputesItsPromptOnce(t *testing.T) {
	const prompt, members, sampled = 100, 8, 20
	n := newFake(new(fakeDevice), 1, 200, 10)
	e := newEngine(t, Config{Slots: members}, n)
	var wait sync.WaitGroup
	for i := range members {
		wait.Go(func() {
			r := sampler.Request{Sequence: fmt.Sprint(i), Tokens: counting(prompt, 10), MaxTokens: sampled, Temperature: 1, Seed: uint64(i)}
			got, err := e.Generate(context.Background(), r)
			if diff := cmp.Diff(alone(r, by(n), nil), got); err != nil || diff != "" {
				t.Errorf("member %d: error %v, alone and in the group differ:\n%s", i, err, diff)
			}
		})
	}
	wait.Wait()
	s := e.Stats()
	// Each member computes the prompt's last token for itself, and every sampled one but its last.
	if want := int64(prompt + members - 1 + members*(sampled-1)); s.ComputedTokens != want || s.PrefixTokens != (members-1)*(prompt-1) {
		t.Errorf("%d tokens computed, %d found; want %d and %d", s.ComputedTokens, s.PrefixTokens, want, (members-1)*(prompt-1))
	}
	// Three full pages of the prompt are shared; each member has its own part of what follows.
	if want := 3 + members; s.PagesUsed != want || s.Idle != members || s.SampledTokens != members*sampled {
		t.Errorf("%d pages used, %d sequences kept, %d tokens sampled; want %d, %d, %d", s.PagesUsed, s.Idle, s.SampledTokens, want, members, members*sampled)
	}
	for i := range members {
		e.Release(fmt.Sprint(i))
	}
	if s := e.Stats(); s.PagesUsed != 0 || s.Idle != 0 {
		t.Errorf("after Release %d pages are used, %d sequences kept", s.PagesUsed, s.Idle)
	}
}

func TestGenerateFinishes(t *testing.T) {
	n := newFake(new(fakeDevice), 1, 50, 10)
	e := newEngine(t, Config{Slots: 2, TokenBytes: letters}, n)
	r := sampler.Request{Tokens: counting(5, 10), Temperature: 1, MaxTokens: 9, Stop: []int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}
	if got := generate(t, e, r); len(got.Tokens) != 1 || got.Finish != sampler.FinishStop || got.StopString != "" {
		t.Errorf("every token stops: %+v", got)
	}
	r.Stop = nil
	if got := generate(t, e, r); len(got.Tokens) != 9 || got.Finish != sampler.FinishLength {
		t.Errorf("limit 9: %+v", got)
	}
	r.MaxTokens = 1 << 40
	if got := generate(t, e, r); len(got.Tokens) != 45 || got.Finish != sampler.FinishLength {
		t.Errorf("50 positions: %d tokens after 5, %s", len(got.Tokens), got.Finish)
	}
	r.Tokens = counting(50, 10)
	if got := generate(t, e, r); len(got.Tokens) != 0 || got.Finish != sampler.FinishLength {
		t.Errorf("full context: %+v", got)
	}
}

// scripted is a network that samples the same tokens whatever the context.
type scripted struct {
	*fakeNetwork
	tokens []int32
	prompt int
}

func (n *scripted) Extend(_ device.Pages, pass *policy.Pass) error {
	for i := range pass.Chosen {
		behind := int(pass.At.Cached[i]+pass.At.Offsets[i+1]-pass.At.Offsets[i]) - n.prompt
		pass.Chosen[i] = device.Sampled{Token: n.tokens[behind]}
	}
	return nil
}

func TestStopStrings(t *testing.T) {
	//                                     a b c ab abc ba cab
	n := &scripted{newFake(new(fakeDevice), 1, 50, 10), []int32{0, 1, 4, 2, 6, 3, 9}, 1}
	e := newEngine(t, Config{Slots: 1, TokenBytes: letters}, n)
	for _, c := range []struct {
		strings []string
		tokens  int
		stop    string
		beyond  int
	}{
		{[]string{"abca"}, 4, "abca", 1},              // within a token
		{[]string{"bcab"}, 4, "bcab", 0},              // at its end
		{[]string{"x", "cabab"}, 5, "cabab", 1},       // over three tokens
		{[]string{"abab", "bca", "a b"}, 4, "bca", 1}, // the first of several
		{[]string{"cab", "bcab"}, 4, "bcab", 0},       // the longest of those that end together
		{[]string{"abcab", "ca"}, 4, "ca", 1},         // the one that ends first
		{[]string{"cc"}, 7, "", 0},
	} {
		got := generate(t, e, sampler.Request{Tokens: []int32{1}, MaxTokens: 7, StopStrings: c.strings})
		finish := sampler.FinishStop
		if c.stop == "" {
			finish = sampler.FinishLength
		}
		if len(got.Tokens) != c.tokens || got.StopString != c.stop || got.StopBeyond != c.beyond || got.Finish != finish {
			t.Errorf("stop strings %q: %+v, want %d tokens, %q and %d bytes beyond", c.strings, got, c.tokens, c.stop, c.beyond)
		}
		if !slices.Equal(got.Tokens, n.tokens[:c.tokens]) {
			t.Errorf("stop strings %q: tokens %v, sampled were %v", c.strings, got.Tokens, n.tokens[:c.tokens])
		}
	}
	got := generate(t, e, sampler.Request{Tokens: []int32{1}, MaxTokens: 7, StopStrings: []string{"cab"}, Stop: []int32{2}})
	if got.StopString != "" || got.Finish != sampler.FinishStop || len(got.Tokens) != 4 {
		t.Errorf("a stop token that also completes a stop string: %+v", got)
	}
}

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

func TestGenerateRefusesBadRequests(t *testing.T) {
	n := newFake(new(fakeDevice), 1, 500, 10)
	e := newEngine(t, Config{Slots: 1, CacheBytes: 3*pageBytes + 1, TokenBytes: letters}, n)
	good := sampler.Request{Sequence: "a", Tokens: []int32{1}, MaxTokens: 96, Temperature: 1}
	generate(t, e, good) // 96 positions: the last sampled token has none
	for want, change := range map[string]func(*sampler.Request){
		"no tokens": func(r *sampler.Request) { r.Tokens = nil },
		"501 tokens, the engine reads at most 500": func(r *sampler.Request) { r.Tokens = make([]int32, 501) },
		"max tokens is 0":                          func(r *sampler.Request) { r.MaxTokens = 0 },
		"token 2 is 10, the vocabulary has 10":     func(r *sampler.Request) { r.Tokens = []int32{0, 1, 10} },
		"token 0 is -1":                            func(r *sampler.Request) { r.Tokens = []int32{-1} },
		"stop token 1 is 99":                       func(r *sampler.Request) { r.Stop = []int32{9, 99} },
		"stop string 1 is empty":                   func(r *sampler.Request) { r.StopStrings = []string{"a", ""} },
		"temperature is -1":                        func(r *sampler.Request) { r.Temperature = -1 },
		"temperature is NaN":                       func(r *sampler.Request) { r.Temperature = math.NaN() },
		"temperature is 1e-46, too small":          func(r *sampler.Request) { r.Temperature = 1e-46 },
		"temperature is 1e+39, too large":          func(r *sampler.Request) { r.Temperature = 1e39 },
		"top k is -1":                              func(r *sampler.Request) { r.TopK = -1 },
		"top p is 1.5, must be in (0, 1]":          func(r *sampler.Request) { r.TopP = 1.5 },
		"top p is NaN":                             func(r *sampler.Request) { r.TopP = math.NaN() },
		"top p is 1e-60":                           func(r *sampler.Request) { r.TopP = 1e-60 },
		"min p is 2, must be in [0, 1]":            func(r *sampler.Request) { r.MinP = 2 },
		"need 4 pages of 32 positions, the cache has 3: raise cache_bytes": func(r *sampler.Request) { r.MaxTokens = 97 },
	} {
		r := good
		change(&r)
		if _, err := e.Generate(context.Background(), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	plain := newEngine(t, Config{Slots: 1}, n)
	good.StopStrings = []string{"a"}
	if _, err := plain.Generate(context.Background(), good); err == nil || !strings.Contains(err.Error(), "TokenBytes") {
		t.Errorf("stop strings without the bytes of tokens: error %v", err)
	}
}

func TestEngineRefusesWhatDoesNotFit(t *testing.T) {
	for want, c := range map[string]Config{
		"slots is 0":        {},
		"max tokens is -1":  {Slots: 1, MaxTokens: -1},
		"cache_bytes is -1": {Slots: 1, CacheBytes: -1},
		"pass tokens is -5": {Slots: 1, PassTokens: -5},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one with %q", c, err, want)
		}
	}
	d := new(fakeDevice)
	first := newFake(d, 1, 500, 10)
	e, err := New(Config{Slots: 1, CacheBytes: pageBytes - 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Generate(context.Background(), sampler.Request{Tokens: []int32{1}, MaxTokens: 1}); err == nil || !strings.Contains(err.Error(), "call Load first") {
		t.Errorf("without weights: error %v", err)
	}
	if err := e.Load(first, 1); err == nil || !strings.Contains(err.Error(), "one page of 32 positions takes 512") || !first.freed {
		t.Errorf("a cache of less than a page: error %v, freed %v", err, first.freed)
	}
	if s := e.Stats(); s != (Stats{}) || e.Close() != nil {
		t.Errorf("an engine without weights: %+v", s)
	}
	if e, err = New(Config{Slots: 1, MaxTokens: 98, CacheBytes: 3 * pageBytes}); err != nil {
		t.Fatal(err)
	}
	if err := e.Load(newFake(d, 1, 500, 10), 1); err == nil || !strings.Contains(err.Error(), "cache_bytes is 1536, one sequence of 98 tokens takes 2048") {
		t.Errorf("a cache of less than the promised tokens: error %v", err)
	}
	if e, err = New(Config{Slots: 1, MaxTokens: 97, CacheBytes: 3 * pageBytes}); err != nil {
		t.Fatal(err)
	}
	if err := e.Load(newFake(d, 1, 500, 10), 1); err != nil {
		t.Errorf("a cache of just the promised tokens: %v", err)
	}
	if got := generate(t, e, sampler.Request{Tokens: counting(90, 10), MaxTokens: 100}); len(got.Tokens) != 7 {
		t.Errorf("%d tokens behind 90 of at most 97", len(got.Tokens))
	}
	e.Close()
	d = new(fakeDevice)
	refusing := &fakeDevice{refuse: errors.New("no memory: 5 bytes are held")}
	e, err = New(Config{Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Load(newFake(refusing, 1, 500, 10), 1); !errors.Is(err, refusing.refuse) || !strings.Contains(err.Error(), "set cache_bytes to less") {
		t.Errorf("no memory for the cache: error %v", err)
	}
	e.Close()
	e = newEngine(t, Config{Slots: 1}, newFake(d, 1, 500, 10))
	for want, n := range map[string]*fakeNetwork{
		"has 400 positions": newFake(d, 1, 400, 10),
		"500 positions, 11": newFake(d, 1, 500, 11),
		"on device fake":    newFake(new(fakeDevice), 1, 500, 10),
	} {
		if err := e.Load(n, 5); err == nil || !strings.Contains(err.Error(), want) || !n.freed {
			t.Errorf("error %v, want one with %q; freed %v", err, want, n.freed)
		}
	}
	if got := generate(t, e, sampler.Request{Tokens: []int32{1}, MaxTokens: 1}); got.Versions[0] != 4 {
		t.Errorf("after refused loads version %d samples, want 4", got.Versions[0])
	}
}
