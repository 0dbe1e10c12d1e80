package footprint_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/decode"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// played is an engine whose requests come all at once: how many share a pass, and with it what the pass takes, is not left to
// how goroutines are scheduled.
type played struct {
	*decode.Engine
	run   configs.Run
	shape policy.Config
	// round is one that has not begun to compute.
	round atomic.Pointer[round]
}

// round is some requests. The engine's first pass is of one alone, and lasts until all others have been made.
type round struct{ begun, made chan struct{} }

// heldNetwork has the first pass of a round wait.
type heldNetwork struct {
	*policy.Network
	by *played
}

func (n heldNetwork) Extend(pages device.Pages, pass *policy.Pass) error {
	n.by.hold()
	return n.Network.Extend(pages, pass)
}

func (n heldNetwork) Queue(pages device.Pages, pass *policy.Pass) error {
	n.by.hold()
	return n.Network.Queue(pages, pass)
}

func (p *played) hold() {
	if r := p.round.Swap(nil); r != nil {
		close(r.begun)
		<-r.made
	}
}

// madeContext tells when a request has been made: an engine asks for Done when it has taken one.
type madeContext struct {
	context.Context
	made func()
}

func (c madeContext) Done() <-chan struct{} {
	c.made()
	return c.Context.Done()
}

// play fills an engine's slots, and exchanges its weights for others and fills them again.
func play(t *testing.T, dev device.Device, run configs.Run, shape policy.Config, file []byte, swaps bool) *decode.Engine {
	t.Helper()
	s := run.Sampling
	engine, err := decode.New(decode.Config{Slots: s.Slots, MaxTokens: s.MaxTokens, CacheBytes: s.CacheBytes})
	if err != nil {
		t.Fatal(err)
	}
	p := &played{Engine: engine, run: run, shape: shape}
	use := func() {
		network, err := policy.DecodeNetwork(dev, shape, policy.Options{LoRA: run.Policy.LoRA, Compute: computed(run), Stored: stored(run)}, file)
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.Load(heldNetwork{network, p}, 1); err != nil {
			t.Fatal(err)
		}
	}
	use()
	p.episodes(t, 1, 8)
	if swaps {
		use()
		p.episodes(t, 2, 1)
	}
	return engine
}

// episodes plays a round: one request of a token, and behind it one of each slot with a prompt that leaves room for eight.
func (p *played) episodes(t *testing.T, number, tokens int) {
	var all, made sync.WaitGroup
	generate := func(i, length, tokens int, told func()) {
		defer told()
		prompt := make([]int32, length)
		for j := range prompt {
			prompt[j] = int32((j*31 + i*17 + number) % p.shape.VocabSize)
		}
		name := fmt.Sprint(number, "/", i)
		defer p.Release(name)
		request := sampler.Request{Sequence: name, Tokens: prompt, MaxTokens: tokens, Temperature: 1, Seed: 1}
		if _, err := p.Generate(madeContext{context.Background(), told}, request); err != nil {
			t.Error(err)
		}
	}
	r := &round{begun: make(chan struct{}), made: make(chan struct{})}
	p.round.Store(r)
	slots := p.run.Sampling.Slots
	all.Go(func() { generate(slots, 1, 1, func() {}) })
	<-r.begun
	for i := range slots {
		made.Add(1)
		all.Go(func() { generate(i, p.run.Sampling.MaxTokens-8, tokens, sync.OnceFunc(made.Done)) })
	}
	made.Wait()
	close(r.made)
	all.Wait()
}
