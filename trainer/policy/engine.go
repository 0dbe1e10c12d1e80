package policy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
)

// ErrClosed is returned by a generation that a closed engine did not finish.
var ErrClosed = errors.New("the decoding engine is closed")

// EngineConfig sizes an engine.
type EngineConfig struct {
	// Slots is the most sequences decoded at once, and the number of caches kept between turns. When
	// all are taken, requests wait; an idle sequence's cache gives way to a new one, oldest use first.
	Slots int `yaml:"slots"`
}

// Engine samples from a network. It batches continuously: each Generate joins the running batch, its
// new tokens go through the network in one pass and from then on every pass yields one token per
// sequence. Results do not depend on what shares the batch.
//
// The keys and values of a named sequence stay cached between turns. When a request's tokens extend
// (or share a beginning with) what is cached, only the rest is computed.
type Engine struct {
	config Config
	wake   chan struct{} // capacity 1: tells the goroutine that something below changed
	done   chan struct{} // closed when the goroutine has returned

	mu       sync.Mutex
	waiting  []*generation   // guarded by mu
	released []string        // guarded by mu
	loaded   *network        // guarded by mu; the newest weights, never changed once here
	version  rollout.Version // guarded by mu; of loaded
	loadErr  error           // guarded by mu; why the last Load was refused
	closed   bool            // guarded by mu

	decoder *decoder // the goroutine's own
}

var _ sampler.Sampler = (*Engine)(nil)

// generation is one Generate call. The goroutine writes result and err before it closes done.
type generation struct {
	ctx     context.Context // of the call, which outlives the generation
	request sampler.Request
	result  sampler.Result
	err     error
	done    chan struct{}
}

func (g *generation) finish(err error) {
	g.err = err
	close(g.done)
}

// NewEngine starts an engine for networks of shape c. It has no weights until Load.
func NewEngine(c Config, ec EngineConfig) (*Engine, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if ec.Slots < 1 {
		return nil, fmt.Errorf("decoding engine: slots is %d, must be at least 1", ec.Slots)
	}
	e := &Engine{config: c, wake: make(chan struct{}, 1), done: make(chan struct{}), decoder: newDecoder(c, ec.Slots)}
	go e.run()
	return e, nil
}

// Load copies the model's weights and samples from them from the next token on, in running
// generations too: each result says which version sampled which token. Caches of older weights are
// not used again; the keys and values of running sequences are computed anew. A model of another
// shape makes every Generate fail until a fitting one is loaded.
func (e *Engine) Load(m *Model, version rollout.Version) {
	var fresh *network
	var err error
	if m.config != e.config {
		err = fmt.Errorf("decoding engine: version %d has shape %+v, the engine was made for %+v", version, m.config, e.config)
	} else {
		fresh = m.net.clone()
		fresh.prepareForward()
	}
	e.mu.Lock()
	e.loaded, e.version, e.loadErr = fresh, version, err
	e.mu.Unlock()
	e.signal()
}

// Generate samples the next turn of a sequence. Two requests of one sequence run one after the other.
// A context as long as the network's MaxPositions has no room: the result is then empty and its
// finish reason is length.
func (e *Engine) Generate(ctx context.Context, request sampler.Request) (sampler.Result, error) {
	if err := e.check(request); err != nil {
		return sampler.Result{}, fmt.Errorf("generate: sequence %q: %w", request.Sequence, err)
	}
	if err := ctx.Err(); err != nil {
		return sampler.Result{}, fmt.Errorf("generate: sequence %q: %w", request.Sequence, err)
	}
	request.Tokens, request.Stop = slices.Clone(request.Tokens), slices.Clone(request.Stop)
	g := &generation{ctx: ctx, request: request, done: make(chan struct{})}
	if err := e.enqueue(g); err != nil {
		return sampler.Result{}, fmt.Errorf("generate: sequence %q: %w", request.Sequence, err)
	}
	select {
	case <-g.done:
	case <-ctx.Done(): // the goroutine notices before its next pass and drops the generation
		return sampler.Result{}, fmt.Errorf("generate: sequence %q: %w", request.Sequence, context.Cause(ctx))
	}
	if g.err != nil {
		return sampler.Result{}, fmt.Errorf("generate: sequence %q: %w", request.Sequence, g.err)
	}
	return g.result, nil
}

func (e *Engine) enqueue(g *generation) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return ErrClosed
	case e.loadErr != nil:
		return e.loadErr
	case e.loaded == nil:
		return errors.New("the decoding engine has no weights: call Load first")
	}
	e.waiting = append(e.waiting, g)
	e.signal()
	return nil
}

func (e *Engine) check(r sampler.Request) error {
	switch {
	case len(r.Tokens) == 0:
		return errors.New("no tokens to continue")
	case len(r.Tokens) > e.config.MaxPositions:
		return fmt.Errorf("%d tokens, the network reads at most %d", len(r.Tokens), e.config.MaxPositions)
	case r.MaxTokens < 1:
		return fmt.Errorf("max tokens is %d, must be positive", r.MaxTokens)
	case !(r.Temperature >= 0) || math.IsInf(r.Temperature, 0):
		return fmt.Errorf("temperature is %v, must be 0 (greedy) or positive and finite", r.Temperature)
	case r.Temperature > 0 && (float32(r.Temperature) == 0 || math.IsInf(float64(1/float32(r.Temperature)), 0)):
		return fmt.Errorf("temperature is %v, too small to divide by; use 0 for greedy", r.Temperature)
	}
	return checkTokens(r.Tokens, e.config.VocabSize)
}

// Release forgets what is cached for a sequence; a running generation of it ends normally first.
func (e *Engine) Release(sequence string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.released = append(e.released, sequence)
		e.signal()
	}
}

// Close ends running generations with [ErrClosed], waits for the engine's goroutine and frees the
// caches. Closing twice is harmless.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.signal()
	<-e.done
	return nil
}

func (e *Engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default: // a wake-up is already pending
	}
}

// run is the engine's goroutine: take what callers asked for, compute one pass, repeat.
func (e *Engine) run() {
	defer close(e.done)
	d := e.decoder
	for {
		e.mu.Lock()
		closed := e.closed
		waiting, released := e.waiting, e.released
		e.waiting, e.released = nil, nil
		net, version, loadErr := e.loaded, e.version, e.loadErr
		e.mu.Unlock()
		d.queue = append(d.queue, waiting...)
		if closed {
			d.failAll(ErrClosed)
			d.slots = nil
			return
		}
		for _, sequence := range released {
			d.release(sequence)
		}
		if loadErr != nil {
			d.failAll(loadErr)
		}
		if net != nil {
			d.use(net, version)
		}
		d.dropCancelled()
		d.admit()
		if d.active == 0 {
			<-e.wake
			continue
		}
		d.step()
	}
}
