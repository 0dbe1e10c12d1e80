package decode

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// letters gives every token of a small vocabulary a text, some of several bytes, so that stop strings
// begin and end inside of tokens.
func letters(id int32) []byte { return alphabet[int(id)%len(alphabet)] }

var alphabet = [][]byte{[]byte("a"), []byte("b"), []byte("ab"), []byte("ba"), []byte("c"), nil, []byte("abc"), []byte("\xc3"), []byte("\xa9x"), []byte("cab")}

// machine drives a batch by hand in random order and keeps books of what it asked for.
type machine struct {
	t         *rapid.T
	batch     *batch
	limits    limits
	device    *fakeDevice
	networks  []*fakeNetwork
	current   int
	requests  map[*generation]sampler.Request
	late      *late     // the current network where passes are queued ahead; nil elsewhere
	ahead     bool      // whether they are
	failed    bool      // whether a pass has failed
	histories [][]int32 // contexts that later requests extend or branch from
}

func newMachine(t *rapid.T) *machine {
	pages := rapid.IntRange(2, 14).Draw(t, "pages")
	m := &machine{t: t, device: new(fakeDevice), requests: map[*generation]sampler.Request{}}
	m.limits = limits{positions: rapid.IntRange(40, 180).Draw(t, "positions"), vocabulary: 10, pages: pages, text: true}
	s := newSchedule(pages, rapid.IntRange(1, 6).Draw(t, "slots"), rapid.IntRange(1, 80).Draw(t, "pass tokens"))
	if rapid.Bool().Draw(t, "colliding hashes") {
		s.pool.chain = func(parent uint64, tokens []int32) uint64 { return uint64(tokens[0] & 1) }
	}
	cache, _ := m.device.NewPages(m.network().PageShape(pages))
	m.batch = &batch{schedule: s, pages: cache, text: letters}
	m.ahead = rapid.Bool().Draw(t, "ahead")
	m.use()
	return m
}

// use brings the batch other weights.
func (m *machine) use() {
	n := m.network()
	m.networks = append(m.networks, n)
	var network Network = n
	if m.ahead {
		m.late = newLate(n)
		network = m.late
	}
	m.batch.use(network, rollout.Version(len(m.networks)-1))
}

func (m *machine) network() *fakeNetwork {
	return newFake(m.device, uint64(len(m.networks)+1), m.limits.positions, m.limits.vocabulary)
}

// context draws tokens that often begin like earlier ones.
func (m *machine) context() []int32 {
	var tokens []int32
	if len(m.histories) > 0 && rapid.IntRange(0, 4).Draw(m.t, "fresh") > 0 {
		history := rapid.SampledFrom(m.histories).Draw(m.t, "history")
		shared := len(history)
		if rapid.Bool().Draw(m.t, "branch") {
			shared = rapid.IntRange(0, len(history)).Draw(m.t, "shared")
		}
		tokens = append(tokens, history[:shared]...)
	}
	more := rapid.SampledFrom([]int{0, 0, 1, 2, 5, 31, 32, 33, 64, 70}).Draw(m.t, "more")
	token := rapid.Int32Range(0, int32(m.limits.vocabulary)-1)
	if rapid.Bool().Draw(m.t, "repetitive") { // so that different places hold the same page of tokens
		token = rapid.Just(token.Draw(m.t, "repeated"))
	}
	for range more {
		tokens = append(tokens, token.Draw(m.t, "token"))
	}
	if len(tokens) == 0 {
		tokens = append(tokens, 1)
	}
	return tokens[:min(len(tokens), m.limits.positions-1)]
}

func (m *machine) add(t *rapid.T) {
	m.t = t
	r := sampler.Request{
		Sequence:    rapid.SampledFrom([]string{"", "a", "b", "c", "d"}).Draw(t, "name"),
		Tokens:      m.context(),
		MaxTokens:   rapid.IntRange(1, 50).Draw(t, "max tokens"),
		Temperature: rapid.SampledFrom([]float64{1, 0, 0.5, 1.7}).Draw(t, "temperature"),
		TopK:        rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "top k"),
		TopP:        rapid.SampledFrom([]float64{0, 1, 0.8}).Draw(t, "top p"),
		MinP:        rapid.SampledFrom([]float64{0, 0.1}).Draw(t, "min p"),
		Seed:        rapid.Uint64Range(0, 9).Draw(t, "seed"),
		Stop:        rapid.SampledFrom([][]int32{nil, {3}, {1, 4}}).Draw(t, "stop"),
		StopStrings: rapid.SampledFrom([][]string{nil, nil, {"cabab"}, {"bb", "abba"}, {"\xc3\xa9", "cc"}}).Draw(t, "stop strings"),
	}
	if m.limits.check(r) != nil { // too large for the pool
		return
	}
	m.histories = append(m.histories, r.Tokens)
	g := newGeneration(r, m.limits.room(r))
	m.requests[g] = r
	m.batch.add(g)
}

func (m *machine) step(t *rapid.T) {
	under := len(m.batch.schedule.running) + len(m.batch.schedule.waiting)
	if worked := m.batch.step(); worked != (under > 0) {
		t.Fatalf("a pass over %d requests: %v", under, worked)
	}
}

func (m *machine) load(*rapid.T) { m.use() }

func (m *machine) release(t *rapid.T) {
	m.batch.schedule.release(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "name"))
}

func (m *machine) abort(t *rapid.T) {
	m.batch.abort(rapid.SampledFrom([]string{"a", "b", "e"}).Draw(t, "name"))
}

var (
	errGone   = errors.New("the caller has gone")
	errDevice = errors.New("the device fell off the bus")
)

func (m *machine) cancel(t *rapid.T) {
	if under := m.batch.under(func(*sequence) bool { return true }); len(under) > 0 {
		m.batch.cancel(rapid.SampledFrom(under).Draw(t, "cancelled").generation, errGone)
	}
}

// failPass lets the next pass fail half-way: what it was to compute is written, but wrong.
func (m *machine) failPass(t *rapid.T) {
	n := m.networks[len(m.networks)-1]
	spoil := func() error {
		n.fail = nil
		if m.late != nil {
			m.late.failLate = nil
		}
		cells := m.batch.pages.(*fakePages).cells
		for i := range cells {
			cells[i][0]++
		}
		return errDevice
	}
	if m.ahead && rapid.Bool().Draw(t, "told late") {
		m.late.failLate = spoil
	} else {
		n.fail = func(*policy.Pass) error { return spoil() }
	}
	m.failed = true
	m.step(t)
	n.fail = nil
	if m.late != nil {
		m.late.failLate = nil
	}
}

// settle checks everything that has ended, and that the books are right.
func (m *machine) settle(t *rapid.T) {
	checkSchedule(t, m.batch.schedule)
	for g, r := range m.requests {
		if !g.ended {
			continue
		}
		if errors.Is(g.err, errGone) || errors.Is(g.err, errDevice) && m.failed {
			delete(m.requests, g)
			continue
		}
		if g.err != nil {
			t.Fatalf("request %+v: %v", r, g.err)
		}
		m.histories = append(m.histories, g.sequence.tokens)
		m.compare(t, r, g.result)
		delete(m.requests, g)
	}
}

// compare demands that a result is what the request yields alone, with the versions it names.
func (m *machine) compare(t *rapid.T, r sampler.Request, got sampler.Result) {
	if got.Finish == sampler.FinishAbort {
		if len(got.Tokens) == 0 {
			return
		}
		r.MaxTokens = len(got.Tokens)
	}
	want := alone(r, func(i int) (*fakeNetwork, rollout.Version) {
		if i >= len(got.Versions) {
			t.Fatalf("request %+v ended after %d tokens with %q, alone it goes on", r, len(got.Tokens), got.Finish)
		}
		return m.networks[got.Versions[i]], got.Versions[i]
	}, letters)
	if got.Finish == sampler.FinishAbort {
		want.Finish = got.Finish
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("request %+v: alone and in the batch differ:\n%s", r, diff)
	}
}

// TestResultsAreThoseOfEachRequestAlone drives the batch through random requests, passes, loads, releases
// and aborts over a small pool, and compares every result with that of the request by itself.
func TestResultsAreThoseOfEachRequestAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		t.Repeat(map[string]func(*rapid.T){
			"add": m.add, "step": m.step,
			"add many": func(t *rapid.T) {
				for range 6 {
					m.add(t)
				}
			},
			"step again": m.step, "": m.settle,
			"many steps": func(t *rapid.T) {
				for range 20 {
					m.step(t)
				}
			},
			"load": func(t *rapid.T) {
				if rapid.IntRange(0, 5).Draw(t, "really") == 0 {
					m.load(t)
				}
			},
			"rarely": func(t *rapid.T) {
				switch rapid.IntRange(0, 12).Draw(t, "which") {
				case 0:
					m.failPass(t)
				case 1:
					m.cancel(t)
				}
			},
			"release": m.release, "abort": m.abort,
		})
		for passes := 0; m.batch.step(); passes++ {
			m.settle(t)
			if passes > 100000 {
				t.Fatalf("%d requests do not end", len(m.requests))
			}
		}
		m.settle(t)
		if len(m.requests) > 0 {
			t.Fatalf("%d requests did not end", len(m.requests))
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			m.batch.schedule.release(name)
		}
		checkSchedule(t, m.batch.schedule)
		if p := m.batch.schedule.pool; p.available() != len(p.pages) || len(m.batch.schedule.turn) != 0 {
			t.Fatalf("at the end %d of %d pages are available, %d names taken", p.available(), len(p.pages), len(m.batch.schedule.turn))
		}
		for i, n := range m.networks {
			if n.freed != (i < len(m.networks)-1) {
				t.Fatalf("network %d of %d: freed %v", i, len(m.networks), n.freed)
			}
		}
	})
}
