package policy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

func newEngine(t testing.TB, m *Model, slots int) *Engine {
	t.Helper()
	e, err := NewEngine(m.Config(), EngineConfig{Slots: slots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	e.Load(m, 4)
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

// requests are turns of different lengths, temperatures and seeds.
func requests(c Config, n int) []sampler.Request {
	all := make([]sampler.Request, n)
	for i := range all {
		p := randomPacked(c, uint64(i)+100, 1+(i*7)%(c.MaxPositions/2))
		all[i] = sampler.Request{
			Sequence: fmt.Sprint("s", i), Tokens: p.Tokens, MaxTokens: 1 + (i*5)%13, Stop: []int32{3},
			Temperature: []float64{1, 0.6, 0, 1.4}[i%4], Seed: uint64(i),
		}
	}
	return all
}

// checkAgainstScore demands that the result's log-probabilities are those of a full pass, bit for bit.
func checkAgainstScore(t *testing.T, m *Model, r sampler.Request, result sampler.Result) {
	t.Helper()
	temperature := float32(r.Temperature)
	if temperature == 0 {
		temperature = 1
	}
	whole := append(slices.Clone(r.Tokens), result.Tokens...)
	l, h := score(t, m, Packed{whole, []int32{0, int32(len(whole))}}, temperature)
	equalBits(t, r.Sequence+": log-probabilities", result.LogProbs, l[len(r.Tokens):])
	equalBits(t, r.Sequence+": entropies", result.Entropies, h[len(r.Tokens):])
}

func TestGenerateDoesNotDependOnBatch(t *testing.T) {
	for name, c := range shapes() {
		t.Run(name, func(t *testing.T) {
			m := newModel(t, c, 21)
			all := requests(c, 24)
			alone := make([]sampler.Result, len(all))
			before := runtime.GOMAXPROCS(1)
			single := newEngine(t, m, 1)
			for i, r := range all {
				alone[i] = generate(t, single, r)
				checkAgainstScore(t, m, r, alone[i])
			}
			runtime.GOMAXPROCS(before)
			many := newEngine(t, m, 7)
			var wait sync.WaitGroup
			for i, r := range all {
				wait.Go(func() {
					got, err := many.Generate(context.Background(), r)
					if err != nil {
						t.Error(err)
						return
					}
					if !slices.Equal(got.Tokens, alone[i].Tokens) || got.Finish != alone[i].Finish {
						t.Errorf("%s: in a batch %v %s, alone %v %s", r.Sequence, got.Tokens, got.Finish, alone[i].Tokens, alone[i].Finish)
						return
					}
					if !slices.Equal(got.LogProbs, alone[i].LogProbs) || !slices.Equal(got.Entropies, alone[i].Entropies) {
						t.Errorf("%s: bits in a batch differ from those alone", r.Sequence)
					}
					for _, v := range got.Versions {
						if v != 4 {
							t.Errorf("%s: version %d, want 4", r.Sequence, v)
						}
					}
				})
			}
			wait.Wait()
		})
	}
}

func TestGenerateFinishes(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 2)
	e := newEngine(t, m, 2)
	everything := make([]int32, c.VocabSize)
	for i := range everything {
		everything[i] = int32(i)
	}
	tokens := randomPacked(c, 1, 5).Tokens
	r := generate(t, e, sampler.Request{Tokens: tokens, MaxTokens: 9, Stop: everything, Temperature: 1})
	if len(r.Tokens) != 1 || r.Finish != sampler.FinishStop {
		t.Errorf("every token stops: %d tokens, %s", len(r.Tokens), r.Finish)
	}
	r = generate(t, e, sampler.Request{Tokens: tokens, MaxTokens: 9, Temperature: 1})
	if len(r.Tokens) != 9 || r.Finish != sampler.FinishLength {
		t.Errorf("limit 9: %d tokens, %s", len(r.Tokens), r.Finish)
	}
	r = generate(t, e, sampler.Request{Tokens: tokens, MaxTokens: 1000, Temperature: 1})
	if len(r.Tokens) != c.MaxPositions-5 || r.Finish != sampler.FinishLength {
		t.Errorf("context of %d: %d tokens after 5, %s", c.MaxPositions, len(r.Tokens), r.Finish)
	}
	r = generate(t, e, sampler.Request{Tokens: randomPacked(c, 1, c.MaxPositions).Tokens, MaxTokens: 3, Temperature: 1})
	if len(r.Tokens) != 0 || r.Finish != sampler.FinishLength {
		t.Errorf("full context: %d tokens, %s", len(r.Tokens), r.Finish)
	}
}

func TestTurnsReuseTheCache(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 9)
	e := newEngine(t, m, 3)
	context := randomPacked(c, 77, 6).Tokens
	for turn := range 4 {
		r := sampler.Request{Sequence: "a", Tokens: context, MaxTokens: 3, Temperature: 1, Seed: uint64(turn)}
		result := generate(t, e, r)
		checkAgainstScore(t, m, r, result)
		context = append(append(slices.Clone(context), result.Tokens...), 5, 6)
	}
	// A context that departs from the cached one is computed from the departure on.
	departed := slices.Clone(context[:12])
	departed[7] = (departed[7] + 1) % int32(c.VocabSize)
	r := sampler.Request{Sequence: "a", Tokens: departed, MaxTokens: 4, Temperature: 1, Seed: 9}
	checkAgainstScore(t, m, r, generate(t, e, r))
	e.Release("a")
	e.Release("never seen")
	checkAgainstScore(t, m, r, generate(t, e, r))
	// More sequences than slots: caches are given up and made again.
	for i := range 12 {
		r.Sequence = fmt.Sprint(i % 5)
		checkAgainstScore(t, m, r, generate(t, e, r))
	}
}

func TestLoadSwapsWeights(t *testing.T) {
	c := tinyConfig()
	first, second := newModel(t, c, 1), newModel(t, c, 2)
	e := newEngine(t, first, 2)
	r := sampler.Request{Sequence: "a", Tokens: randomPacked(c, 3, 8).Tokens, MaxTokens: 5, Temperature: 1, Seed: 3}
	checkAgainstScore(t, first, r, generate(t, e, r))
	digest := second.Digest()
	e.Load(second, 5)
	weight := &second.Parameters()[0].Data[0]
	kept := *weight
	*weight = 100 // the engine has its own copy
	result := generate(t, e, r)
	*weight = kept
	if second.Digest() != digest {
		t.Fatal("the test changed the weights")
	}
	checkAgainstScore(t, second, r, result)
	if result.Versions[0] != 5 {
		t.Errorf("version %d, want 5", result.Versions[0])
	}
	c.FFN += 2
	e.Load(newModel(t, c, 1), 6)
	if _, err := e.Generate(context.Background(), r); err == nil || !contains(err, "version 6 has shape") {
		t.Errorf("another shape: error %v", err)
	}
	e.Load(first, 7)
	checkAgainstScore(t, first, r, generate(t, e, r))
}

// TestDecoderSwapsBetweenTokens drives the goroutine's state by hand so that the swap lands in the
// middle of a generation.
func TestDecoderSwapsBetweenTokens(t *testing.T) {
	c := tinyConfig()
	models := []*Model{newModel(t, c, 1), newModel(t, c, 2)}
	for _, m := range models {
		m.net.prepareForward()
	}
	d := newDecoder(c, 2)
	request := sampler.Request{Sequence: "a", Tokens: randomPacked(c, 3, 8).Tokens, MaxTokens: 6, Temperature: 1, Seed: 5}
	g := &generation{ctx: context.Background(), request: request, done: make(chan struct{})}
	d.queue = append(d.queue, g)
	for step := range 6 {
		d.use(models[step/3].net, rollout.Version(step/3))
		d.admit()
		d.step()
	}
	<-g.done
	whole := append(slices.Clone(request.Tokens), g.result.Tokens...)
	p := Packed{whole, []int32{0, int32(len(whole))}}
	for version, m := range models {
		l, _ := score(t, m, p, 1)
		from := 3 * version
		equalBits(t, fmt.Sprint("log-probabilities of version ", version), g.result.LogProbs[from:from+3], l[8+from:8+from+3])
		if g.result.Versions[from] != rollout.Version(version) || g.result.Versions[from+2] != rollout.Version(version) {
			t.Errorf("versions %v, want three of each", g.result.Versions)
		}
	}
}

func TestGenerateEnds(t *testing.T) {
	c := tinyConfig()
	c.MaxPositions = 4096
	m := newModel(t, c, 1)
	endless := sampler.Request{Sequence: "a", Tokens: []int32{1}, MaxTokens: 1 << 30, Temperature: 1}
	e := newEngine(t, m, 1)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 2)
	go func() { _, err := e.Generate(ctx, endless); failed <- err }()
	// The only slot is taken until the cancellation frees it.
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
	generate(t, e, sampler.Request{Sequence: "b", Tokens: []int32{1}, MaxTokens: 2, Temperature: 1})
	if _, err := e.Generate(ctx, endless); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: error %v", err)
	}
	closing := newEngine(t, m, 1)
	for range 2 {
		go func() { _, err := closing.Generate(context.Background(), endless); failed <- err }()
	}
	if err := closing.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("closed: error %v", err)
		}
	}
	if _, err := closing.Generate(context.Background(), endless); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: error %v", err)
	}
}

func TestGenerateRefusesBadRequests(t *testing.T) {
	c := tinyConfig()
	m := newModel(t, c, 1)
	e := newEngine(t, m, 1)
	good := sampler.Request{Sequence: "a", Tokens: []int32{1}, MaxTokens: 1, Temperature: 1}
	for want, change := range map[string]func(*sampler.Request){
		"no tokens":           func(r *sampler.Request) { r.Tokens = nil },
		"max tokens is 0":     func(r *sampler.Request) { r.MaxTokens = 0 },
		"token 0 is 99":       func(r *sampler.Request) { r.Tokens = []int32{99} },
		"temperature is -1":   func(r *sampler.Request) { r.Temperature = -1 },
		"temperature is 1e-4": func(r *sampler.Request) { r.Temperature = 1e-46 },
		"41 tokens":           func(r *sampler.Request) { r.Tokens = make([]int32, 41) },
	} {
		r := good
		change(&r)
		if _, err := e.Generate(context.Background(), r); err == nil || !contains(err, want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	empty, err := NewEngine(c, EngineConfig{Slots: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	if _, err := empty.Generate(context.Background(), good); err == nil || !contains(err, "call Load first") {
		t.Errorf("without weights: error %v", err)
	}
	if _, err := NewEngine(c, EngineConfig{}); err == nil {
		t.Error("an engine without slots was made")
	}
}

func TestSamplingFollowsTheDistribution(t *testing.T) {
	c := tinyConfig()
	c.VocabSize = 5
	m := newModel(t, c, 4)
	e := newEngine(t, m, 64)
	const n = 4000
	counts := make([]float64, c.VocabSize)
	var mu sync.Mutex
	var wait sync.WaitGroup
	for worker := range 8 {
		wait.Go(func() {
			for i := range n / 8 {
				r, err := e.Generate(context.Background(), sampler.Request{Tokens: []int32{1, 2, 3}, MaxTokens: 1, Temperature: 1, Seed: uint64(worker*n + i)})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				counts[r.Tokens[0]]++
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	var chi float64
	for token := range counts {
		l, _ := score(t, m, Packed{[]int32{1, 2, 3, int32(token)}, []int32{0, 4}}, 1)
		expected := n * math.Exp(float64(l[3]))
		chi += (counts[token] - expected) * (counts[token] - expected) / expected
	}
	// Four degrees of freedom: 23.5 has probability 1e-4; the seeds are fixed, so the value is too.
	if chi > 23.5 {
		t.Errorf("χ² = %.1f over %v", chi, counts)
	}
}

// TestLoadWhileGenerating swaps weights under running generations; every token must have the bits of
// the version it is labelled with.
func TestLoadWhileGenerating(t *testing.T) {
	c := shapes()["wide"]
	models := []*Model{newModel(t, c, 1), newModel(t, c, 2), newModel(t, c, 3)}
	e := newEngine(t, models[0], 6)
	e.Load(models[0], 0)
	all := requests(c, 12)
	results := make([]sampler.Result, len(all))
	var wait sync.WaitGroup
	for i := range all {
		all[i].MaxTokens, all[i].Stop = 60, nil
		wait.Go(func() {
			var err error
			if results[i], err = e.Generate(context.Background(), all[i]); err != nil {
				t.Error(err)
			}
		})
	}
	for version := range 60 {
		e.Load(models[version%3], rollout.Version(version))
		runtime.Gosched()
	}
	wait.Wait()
	for i, r := range results {
		temperature := float32(all[i].Temperature)
		if temperature == 0 {
			temperature = 1
		}
		whole := append(slices.Clone(all[i].Tokens), r.Tokens...)
		var scores [3][]float32
		for j, m := range models {
			scores[j], _ = score(t, m, Packed{whole, []int32{0, int32(len(whole))}}, temperature)
		}
		for j, v := range r.Versions {
			if want := scores[v%3][len(all[i].Tokens)+j]; r.LogProbs[j] != want {
				t.Fatalf("%s: token %d of version %d has log-probability %v, want %v", all[i].Sequence, j, v, r.LogProbs[j], want)
			}
			if j > 0 && v < r.Versions[j-1] {
				t.Errorf("%s: versions go back: %v", all[i].Sequence, r.Versions)
			}
		}
	}
}
