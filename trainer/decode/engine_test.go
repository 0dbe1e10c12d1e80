package decode

import (
	"context"
	"fmt"
	"runtime"
	"slices"
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
