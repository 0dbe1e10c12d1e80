package decode

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/rollout"
	"github.com/turnwise-rl/turnwise/rollout/sampler"
	"github.com/turnwise-rl/turnwise/trainer/policy"
)

// ErrClosed is returned by a request that a closed engine did not finish.
var ErrClosed = errors.New("the decoding engine is closed")

// Network is what the engine needs of a policy network.
type Network interface {
	// Config tells the most positions of a sequence and the number of token ids.
	Config() policy.Config
	// Device is where the network computes.
	Device() device.Device
	// PageShape is the shape of a cache of so many pages for this network.
	PageShape(pages int) device.PageShape
	// Extend computes a pass, writes the keys and values of its tokens to the pages, and samples a token
	// behind each sequence. Rows do not depend on each other.
	Extend(pages device.Pages, pass *policy.Pass) error
	// Free gives back the network's memory.
	Free()
}

// Config sizes an engine.
type Config struct {
	// Slots is the most sequences decoded at once. When all are taken, requests wait.
	Slots int
	// MaxTokens is the most tokens that a context and what is sampled behind it may have together, which is
	// at most, and by default, the network's most positions.
	MaxTokens int
	// CacheBytes is the memory of the keys and values of all sequences: those under way, those kept
	// between turns, and what is kept because something else may begin with it. 0 means enough for Slots
	// sequences of the most tokens. Requests wait, and the youngest start over, when it is short; results
	// stay the same.
	CacheBytes int64
	// PassTokens bounds the tokens of one pass through the network, so that a long prompt is computed in
	// parts between which the others go on. 0 means as many as the device computes best, between
	// [FewestPassTokens] and [MostPassTokens].
	PassTokens int
	// TokenBytes gives the text that a token stands for, for stop strings; nil refuses requests with
	// any. It is called by the engine's goroutine, and its result is not kept.
	TokenBytes func(id int32) []byte
	// Unrecorded is told why the device refuses to record passes, the first time that it does; nil is told nothing. They are computed
	// all the same, and [Stats] counts them. It is called by the engine's goroutine.
	Unrecorded func(why error)
}

// What PassTokens is at least and at most where nobody says. Fewer would spend a pass of a processor on
// reading the weights; more would delay the next token of others by much.
const (
	FewestPassTokens = 512
	MostPassTokens   = 4096
)

// Validate reports fields out of range.
func (c Config) Validate() error {
	switch {
	case c.Slots < 1:
		return fmt.Errorf("slots is %d, must be at least 1", c.Slots)
	case c.MaxTokens < 0:
		return fmt.Errorf("max tokens is %d, must be positive, or 0 for the network's most positions", c.MaxTokens)
	case c.CacheBytes < 0:
		return fmt.Errorf("cache_bytes is %d, must be positive, or 0 for enough for %d slots", c.CacheBytes, c.Slots)
	case c.PassTokens < 0:
		return fmt.Errorf("pass tokens is %d, must be positive, or 0 for what the device likes", c.PassTokens)
	}
	return nil
}

// Engine samples from a network. Methods may be called by many goroutines at once.
type Engine struct {
	config Config
	wake   chan struct{} // capacity 1: tells the goroutine that mail is there
	done   chan struct{} // closed when the goroutine has returned
	last   Stats         // written before done is closed

	mu     sync.Mutex
	mail   []func(*batch)   // guarded by mu; what callers ask for, in order
	device device.Device    // guarded by mu; nil before the first Load
	shape  device.PageShape // guarded by mu
	limits limits           // guarded by mu
	closed bool             // guarded by mu
}

var _ sampler.Sampler = (*Engine)(nil)

// New returns an engine without weights.
func New(c Config) (*Engine, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("decoding engine: %w", err)
	}
	return &Engine{config: c, wake: make(chan struct{}, 1), done: make(chan struct{})}, nil
}

// Load samples from a network from the next token on, in requests under way too: each result says
// which version sampled which token. What older weights computed is not used again; the keys and
// values of sequences under way are computed anew. The engine owns the network from the call on, also
// when Load returns an error, and frees it after its last pass. The first network decides the shape
// and the device; a later one of another is refused, and the engine goes on with the one it has. Where the device records, a network that is
// made while the engine samples has to be of another user of the device than the one before: see [device.Shared].
func (e *Engine) Load(n Network, version rollout.Version) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.load(n, version)
	if err != nil {
		n.Free()
		return fmt.Errorf("decoding engine: load version %d: %w", version, err)
	}
	return nil
}

func (e *Engine) load(n Network, version rollout.Version) error {
	c := n.Config()
	positions := c.MaxPositions
	if e.config.MaxTokens > 0 {
		positions = min(positions, e.config.MaxTokens)
	}
	fresh := limits{positions: positions, vocabulary: c.VocabSize, pages: e.limits.pages, text: e.config.TokenBytes != nil}
	switch {
	case e.closed:
		return ErrClosed
	case e.device == nil:
		return e.start(n, version, fresh)
	case !device.Same(n.Device(), e.device):
		return fmt.Errorf("the network is on device %s, the engine on %s", n.Device().Name(), e.device.Name())
	case n.PageShape(fresh.pages) != e.shape || fresh != e.limits:
		return fmt.Errorf("the network has %d positions, %d tokens and pages of shape %+v; the engine has %d, %d and %+v",
			fresh.positions, fresh.vocabulary, n.PageShape(fresh.pages), e.limits.positions, e.limits.vocabulary, e.shape)
	}
	e.post(func(b *batch) { b.use(n, version) })
	return nil
}

// start makes the cache for the first network and starts the goroutine.
func (e *Engine) start(n Network, version rollout.Version, l limits) error {
	l.pages = e.config.Slots * pagesFor(l.positions)
	if e.config.CacheBytes > 0 {
		bytes := n.PageShape(1).Bytes()
		l.pages = int(e.config.CacheBytes / bytes)
		if l.pages < 1 {
			return fmt.Errorf("cache_bytes is %d, one page of %d positions takes %d", e.config.CacheBytes, pageTokens, bytes)
		}
		if need := pagesFor(l.positions - 1); e.config.MaxTokens > 0 && need > l.pages {
			return fmt.Errorf("cache_bytes is %d, one sequence of %d tokens takes %d", e.config.CacheBytes, l.positions, int64(need)*bytes)
		}
	}
	shape := n.PageShape(l.pages)
	pages, err := n.Device().NewPages(shape)
	if err != nil {
		return fmt.Errorf("cache of %d pages, %d bytes: set cache_bytes to less: %w", l.pages, int64(l.pages)*shape.Bytes(), err)
	}
	passTokens := e.config.PassTokens
	if passTokens == 0 {
		passTokens = min(max(n.Device().PassRows(), FewestPassTokens), MostPassTokens)
	}
	e.device, e.shape, e.limits = n.Device(), shape, l
	b := &batch{schedule: newSchedule(l.pages, e.config.Slots, passTokens), pages: pages, text: e.config.TokenBytes, unrecorded: e.config.Unrecorded}
	b.use(n, version)
	go e.run(b)
	return nil
}

// post leaves something to do for the goroutine before its next pass. The caller holds mu.
func (e *Engine) post(do func(*batch)) {
	e.mail = append(e.mail, do)
	e.signal()
}

func (e *Engine) signal() {
	select {
	case e.wake <- struct{}{}:
	default: // a wake-up is already pending
	}
}

// run is the engine's goroutine: do what callers asked for, compute one pass, repeat.
func (e *Engine) run(b *batch) {
	defer close(e.done)
	var mail []func(*batch)
	for {
		e.mu.Lock()
		mail, e.mail = e.mail, mail[:0]
		closed := e.closed
		e.mu.Unlock()
		for _, do := range mail {
			do(b)
		}
		clear(mail)
		if closed {
			e.end(b)
			return
		}
		if !b.step() {
			<-e.wake
			// Requests tend to come together. Those that are about to be made share the first pass.
			runtime.Gosched()
		}
	}
}

// end gives back what the engine holds.
func (e *Engine) end(b *batch) {
	b.fail(ErrClosed)
	b.schedule.invalidate()
	b.free()
	e.last = b.stats()
}

// Generate samples the next turn of a sequence. Two requests of one sequence run one after the other,
// in the order of their calls. A context as long as the network's most positions has no room: the
// result is then empty and its finish reason is length. When ctx ends first, Generate returns its cause.
func (e *Engine) Generate(ctx context.Context, request sampler.Request) (sampler.Result, error) {
	result, err := e.generate(ctx, request)
	if err != nil {
		return sampler.Result{}, fmt.Errorf("generate: sequence %q: %w", request.Sequence, err)
	}
	return result, nil
}

func (e *Engine) generate(ctx context.Context, request sampler.Request) (sampler.Result, error) {
	if ctx.Err() != nil {
		return sampler.Result{}, context.Cause(ctx)
	}
	limits, err := e.ready()
	if err != nil {
		return sampler.Result{}, err
	}
	if err := limits.check(request); err != nil {
		return sampler.Result{}, err
	}
	if limits.room(request) == 0 {
		return sampler.Result{Finish: sampler.FinishLength}, nil
	}
	g := newGeneration(request, limits.room(request))
	if !e.ask(func(b *batch) { b.add(g) }) {
		return sampler.Result{}, ErrClosed
	}
	select {
	case <-g.done:
		return g.result, g.err
	case <-ctx.Done():
		e.ask(func(b *batch) { b.cancel(g, context.Cause(ctx)) })
		return sampler.Result{}, context.Cause(ctx)
	}
}

// ready returns what requests are checked against.
func (e *Engine) ready() (limits, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return limits{}, ErrClosed
	case e.device == nil:
		return limits{}, errors.New("the decoding engine has no weights: call Load first")
	}
	return e.limits, nil
}

// ask posts unless the engine is closed.
func (e *Engine) ask(do func(*batch)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.post(do)
	return true
}

// Abort ends the requests of a sequence, running or waiting. Each returns what was sampled for it so
// far, with the finish reason abort. An unknown sequence is ignored.
func (e *Engine) Abort(sequence string) { e.ask(func(b *batch) { b.abort(sequence) }) }

// Release forgets what is cached for a sequence; a request of it that is under way ends normally first.
// Its pages are found by what begins alike until they are needed for something else.
func (e *Engine) Release(sequence string) { e.ask(func(b *batch) { b.schedule.release(sequence) }) }

// Close ends the requests under way with [ErrClosed], waits for the engine's goroutine, and frees the
// cache and the network. Closing twice is harmless.
func (e *Engine) Close() error {
	e.mu.Lock()
	started := e.device != nil
	e.closed = true
	e.mu.Unlock()
	e.signal()
	if started {
		<-e.done
	}
	return nil
}
