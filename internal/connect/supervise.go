package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

const (
	restartAttempts = 8
	restartBackoff  = 100 * time.Millisecond // doubled with each attempt: about 13 s for all
	// healthyAfter is how long a server must have lived for earlier restarts to be forgotten.
	healthyAfter = time.Minute
	lockPoll     = 250 * time.Millisecond
)

// EventKind says what Supervise reports.
type EventKind string

const (
	// ServerDied: the server ended while this process still needs it.
	ServerDied EventKind = "died"
	// ServerRestarted: a new child serves at the same address.
	ServerRestarted EventKind = "restarted"
	// ServerAttached: another process restarted it first, and this one uses that server.
	ServerAttached EventKind = "attached"
	// RestartFailed: an attempt failed; Err says why. After the last one Supervise returns an error.
	RestartFailed EventKind = "restart failed"
)

// Event is one thing that happened to a supervised server.
type Event struct {
	Kind EventKind
	// Attempt counts restarts since the server was last healthy, from 1; 0 with ServerDied.
	Attempt int
	// Endpoint is the server's as far as known.
	Endpoint Endpoint
	// Err is how the server ended or why the attempt failed; nil otherwise.
	Err error
}

// Supervise keeps the server alive until ctx ends or Stop is called, and then returns nil without stopping it. When the server
// dies it is started again on the same ports, so that clients reconnect and runs go on from the history on disk. A server that
// another process started is watched through its lock, and taken over when that process ends. After eight restarts, failed or
// not, without a healthy minute between them it returns the last failure.
func (c *Child) Supervise(ctx context.Context) error {
	attempt := 0
	for {
		born := time.Now()
		cause, gone := c.awaitDeath(ctx)
		if !gone {
			return nil
		}
		if time.Since(born) > healthyAfter {
			attempt = 0
		}
		c.report(Event{Kind: ServerDied, Endpoint: c.Endpoint(), Err: cause})
		if err := c.restart(ctx, &attempt, cause); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// awaitDeath returns how the server ended; gone is false when nobody needs it any more.
func (c *Child) awaitDeath(ctx context.Context) (cause error, gone bool) {
	c.mu.Lock()
	p := c.process
	c.mu.Unlock()
	if p != nil {
		select {
		case <-ctx.Done():
			return nil, false
		case <-p.done:
			return errors.New(endState(p.err)), !c.isStopping()
		}
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case <-tick.C:
		}
		if c.isStopping() {
			return nil, false
		}
		if alive, err := held(c.config.DataDir); err == nil && !alive {
			return fmt.Errorf("process %d released the data folder", c.Endpoint().PID), true
		}
	}
}

func (c *Child) restart(ctx context.Context, attempt *int, last error) error {
	for *attempt < restartAttempts {
		*attempt++
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.backoff << (*attempt - 1)):
		}
		if c.isStopping() {
			return nil
		}
		err := c.obtain(ctx, c.samePorts())
		if err == nil {
			c.reportRestart(*attempt)
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		last = err
		c.report(Event{Kind: RestartFailed, Attempt: *attempt, Endpoint: c.Endpoint(), Err: err})
	}
	return fmt.Errorf("the embedded server could not be kept alive after %d attempts (the run is safe; run the same command again): %w", *attempt, last)
}

func (c *Child) reportRestart(attempt int) {
	c.mu.Lock()
	e, p, stopping := c.endpoint, c.process, c.stopping
	c.mu.Unlock()
	if stopping && p != nil && p.pipe != nil {
		p.stop(stopTimeout) // Stop came while this life was starting
		return
	}
	kind := ServerRestarted
	if p == nil {
		kind = ServerAttached
	}
	c.report(Event{Kind: kind, Attempt: attempt, Endpoint: e})
}

// samePorts pins the ports the dead server had: clients know nothing else.
func (c *Child) samePorts() SpawnConfig {
	s, e := c.config, c.Endpoint()
	if port := portOf(e.Address); port != 0 {
		s.FrontendPort = port
	}
	return s
}

func portOf(address string) int {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return port
}

func (c *Child) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

func (c *Child) report(e Event) {
	if c.config.Report != nil {
		c.config.Report(e)
	}
}

// ErrParentGone is the cause of a context that WatchParent ended.
var ErrParentGone = errors.New("the process that started this server is gone")

// WatchParent is the child's side of Spawn: the returned context ends, with cause ErrParentGone, when standard input closes.
// The kernel closes it however the parent dies. Call it only when the parent passed --parent-pipe: without a pipe, standard
// input may end at once. The goroutine that reads lives as long as standard input.
func WatchParent(ctx context.Context) context.Context { return watch(ctx, os.Stdin) }

func watch(ctx context.Context, r io.Reader) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, r)
		cancel(ErrParentGone)
	}()
	return ctx
}
