package decode

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

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
