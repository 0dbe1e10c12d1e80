package decode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// late is a fake network whose device computes as late as it may: when somebody waits for it. So a host that looks at what is not
// there yet, or changes what is still to be read, shows as a wrong token.
type late struct {
	*fakeNetwork
	most  int
	under []*policy.Pass
	// failLate is called before choices are told when not nil.
	failLate func() error
	log      func(what string, sequences int)
}

func newLate(n *fakeNetwork) *late { return &late{fakeNetwork: n, most: 100} }

func (n *late) Ahead() int { return n.most }

func (n *late) Queue(pages device.Pages, pass *policy.Pass) error {
	if n.freed || n.device.freed {
		panic("a pass after Free")
	}
	if len(n.under) == device.MostFetched {
		panic("a third pass is queued")
	}
	n.note("queue", len(pass.How))
	if n.fail != nil {
		n.device.work() // what is under way is computed before
		if err := n.fail(pass); err != nil {
			return err
		}
	}
	own := &policy.Pass{Tokens: slices.Clone(pass.Tokens), Drawn: slices.Clone(pass.Drawn), How: slices.Clone(pass.How), Chosen: make([]device.Sampled, len(pass.How))}
	own.At.Offsets, own.At.Cached = slices.Clone(pass.At.Offsets), slices.Clone(pass.At.Cached)
	for _, table := range pass.At.Tables {
		own.At.Tables = append(own.At.Tables, slices.Clone(table))
	}
	var before *policy.Pass
	if last := len(n.under) - 1; last >= 0 {
		before = n.under[last]
	}
	if len(own.Drawn) > 0 && len(own.Drawn) != len(own.Tokens) {
		panic(fmt.Sprintf("%d of %d tokens are said to be drawn or not", len(own.Drawn), len(own.Tokens)))
	}
	n.device.queued = append(n.device.queued, func() {
		for i, from := range own.Drawn {
			if from >= 0 {
				own.Tokens[i] = max(0, before.Chosen[from].Token)
			}
		}
		n.compute(pages, own)
	})
	n.under = append(n.under, own)
	return nil
}

func (n *late) Finish(pass *policy.Pass) error {
	n.note("finish", len(pass.Chosen))
	n.device.work()
	copy(pass.Chosen, n.under[0].Chosen)
	if len(pass.Chosen) != len(n.under[0].Chosen) {
		panic(fmt.Sprintf("%d places for %d choices", len(pass.Chosen), len(n.under[0].Chosen)))
	}
	n.under = n.under[1:]
	if n.failLate != nil {
		return n.failLate()
	}
	return nil
}

func (n *late) note(what string, sequences int) {
	if n.log != nil {
		n.log(what, sequences)
	}
}

// TestPassesAreQueuedAhead wants each pass queued before the one before it is waited for, but for one that nobody needs.
func TestPassesAreQueuedAhead(t *testing.T) {
	n := newLate(newFake(new(fakeDevice), 1, 64, 10))
	var got []string
	n.log = func(what string, sequences int) { got = append(got, fmt.Sprint(what, " ", sequences)) }
	play := func(most int) []string {
		got, n.most = nil, most
		pages, _ := n.device.NewPages(n.PageShape(16))
		b := &batch{schedule: newSchedule(16, 2, 512), pages: pages}
		b.use(n, 4)
		requests := []sampler.Request{{Tokens: []int32{1}, MaxTokens: 4, Temperature: 1}, {Tokens: []int32{2}, MaxTokens: 2, Temperature: 1}}
		var all []*generation
		for _, r := range requests {
			all = append(all, newGeneration(r, r.MaxTokens))
			b.add(all[len(all)-1])
		}
		for b.step() {
			got = append(got, "step")
		}
		for i, g := range all {
			if diff := cmp.Diff(alone(requests[i], by(n.fakeNetwork), nil), g.result); diff != "" || !g.ended {
				t.Errorf("request %d:\n%s", i, diff)
			}
		}
		return got
	}
	want := []string{"queue 2", "queue 2", "finish 2", "step", "queue 1", "finish 2", "step", "queue 1", "finish 1", "step", "finish 1", "step"}
	if diff := cmp.Diff(want, play(2)); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
	want = []string{"step", "step", "step", "step"}
	if diff := cmp.Diff(want, play(1)); diff != "" {
		t.Errorf("where not all slots can be queued, calls differ (-want +got):\n%s", diff)
	}
}

// TestStopsAtEveryPlace lets a request end at each of its tokens in turn, by its number, by a stop token and by a stop string, beside
// another that goes on, and go on with another turn.
func TestStopsAtEveryPlace(t *testing.T) {
	const most = 3*pageTokens + 2
	n := newFake(new(fakeDevice), 1, 300, 200) // tokens seldom come twice
	long := sampler.Request{Sequence: "a", Tokens: counting(30, 200), MaxTokens: most, Temperature: 1, Seed: 5}
	whole := alone(long, by(n), nil)
	for place := range most {
		for name, stop := range map[string]func(r *sampler.Request){
			"number": func(r *sampler.Request) { r.MaxTokens = place + 1 },
			"token":  func(r *sampler.Request) { r.Stop = whole.Tokens[place : place+1] },
			"string": func(r *sampler.Request) { r.StopStrings = []string{fmt.Sprint("<", whole.Tokens[place], ">")} },
		} {
			text := func(id int32) []byte { return []byte(fmt.Sprint("<", id, ">")) }
			m := newLate(newFake(new(fakeDevice), 1, 300, 200))
			e := newEngine(t, Config{Slots: 2, TokenBytes: text}, m)
			beside := sampler.Request{Sequence: "b", Tokens: counting(7, 200), MaxTokens: most, Temperature: 1, Seed: 6}
			other := begin(context.Background(), e, beside)
			r := long
			stop(&r)
			got := generate(t, e, r)
			want := alone(r, by(n), text)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s, place %d:\n%s", name, place, diff)
			}
			next := sampler.Request{Sequence: "a", Tokens: append(slices.Clone(r.Tokens), got.Tokens...), MaxTokens: 3, Temperature: 1}
			if diff := cmp.Diff(alone(next, by(n), text), generate(t, e, next)); diff != "" {
				t.Fatalf("%s, place %d, the next turn:\n%s", name, place, diff)
			}
			if <-other.done; other.err != nil {
				t.Fatal(other.err)
			}
			if diff := cmp.Diff(alone(beside, by(n), text), other.result); diff != "" {
				t.Fatalf("%s, place %d, beside it:\n%s", name, place, diff)
			}
		}
	}
}

// TestAheadOfManyCallers has goroutines generate, give up, abort and load while passes are queued ahead. Whatever comes back is what
// its request yields alone, by the versions that it names.
func TestAheadOfManyCallers(t *testing.T) {
	d := new(fakeDevice)
	const versions = 4
	network := func(v int) *fakeNetwork { return newFake(d, uint64(v), 200, 10) }
	e := newEngine(t, Config{Slots: 3, CacheBytes: 14 * pageBytes, PassTokens: 40}, newLate(network(4)))
	errGone := errors.New("gone")
	var all sync.WaitGroup
	for caller := range 8 {
		all.Go(func() {
			for round := range 12 {
				r := sampler.Request{Sequence: fmt.Sprint(caller % 5), Tokens: counting(5+17*(caller%3), 10), MaxTokens: 1 + 9*(round%5), Temperature: 1, Seed: uint64(caller), Stop: []int32{int32(round % 7)}}
				ctx, cancel := context.WithCancelCause(context.Background())
				switch {
				case caller == 6:
					go cancel(errGone)
				case caller == 7:
					e.Abort(fmt.Sprint(round % 5))
				}
				got, err := e.Generate(ctx, r)
				cancel(nil)
				if err != nil {
					if caller != 6 || !errors.Is(err, errGone) {
						t.Error(err)
					}
					continue
				}
				if got.Finish == sampler.FinishAbort {
					if r.MaxTokens = len(got.Tokens); r.MaxTokens == 0 {
						continue
					}
				}
				want := alone(r, func(i int) (*fakeNetwork, rollout.Version) {
					v := got.Versions[min(i, len(got.Versions)-1)]
					return network(int(v)), v
				}, nil)
				if got.Finish == sampler.FinishAbort {
					want.Finish = got.Finish
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("caller %d, round %d:\n%s", caller, round, diff)
				}
			}
		})
	}
	for v := range versions {
		if err := e.Load(newLate(network(5+v)), rollout.Version(5+v)); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if len(d.queued) > 0 {
		t.Errorf("%d pieces of work are queued at the end", len(d.queued))
	}
}

// TestFailuresAheadAreToldInOrder fails the third pass, when it is queued and when it is waited for: what was chosen before it
// stays, and its requests alone fail.
func TestFailuresAheadAreToldInOrder(t *testing.T) {
	broken := errors.New("out of memory")
	for _, when := range []string{"queue", "finish"} {
		n := newLate(newFake(new(fakeDevice), 1, 500, 10))
		calls := 0
		fail := func() error {
			if calls++; calls == 3 {
				return broken
			}
			return nil
		}
		if when == "queue" {
			n.fail = func(*policy.Pass) error { return fail() }
		} else {
			n.failLate = fail
		}
		pages, _ := n.device.NewPages(n.PageShape(16))
		b := &batch{schedule: newSchedule(16, 2, 512), pages: pages}
		b.use(n, 4)
		short, long := newGeneration(sampler.Request{Tokens: []int32{1}, MaxTokens: 2, Temperature: 1}, 2), newGeneration(sampler.Request{Tokens: []int32{2}, MaxTokens: 9, Temperature: 1}, 9)
		b.add(short)
		b.add(long)
		for range 2 {
			b.step()
		}
		third := newGeneration(sampler.Request{Tokens: []int32{3}, MaxTokens: 5, Temperature: 1}, 5)
		b.add(third)
		for b.step() {
			checkSchedule(t, b.schedule)
		}
		if short.err != nil || len(short.result.Tokens) != 2 || !errors.Is(long.err, broken) || len(long.result.Tokens) != 2 {
			t.Errorf("%s: %v with %d tokens, %v with %d", when, short.err, len(short.result.Tokens), long.err, len(long.result.Tokens))
		}
		r := sampler.Request{Tokens: []int32{3}, MaxTokens: 5, Temperature: 1}
		if diff := cmp.Diff(alone(r, by(n.fakeNetwork), nil), third.result); third.err != nil || diff != "" {
			t.Errorf("%s: the request that came later: %v\n%s", when, third.err, diff)
		}
	}
}
