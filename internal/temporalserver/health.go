//go:build !slim

package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

const (
	// probeInterval and probeTimeout are how often the server is asked and how long it may take to answer.
	probeInterval = time.Second
	probeTimeout  = 4 * time.Second
	// probePatience is how long nothing may be answered. A machine under load delays answers by seconds; a
	// server whose database refused a write, because the disk was full for a moment, never answers again.
	probePatience = 12 * time.Second
	// probeAttempts is how many probes in a row must fail as well: a process that was stopped for a while
	// finds its patience gone when it goes on.
	probeAttempts = 3
)

// watchHealth probes until the context ends, and then returns nil, or until no probe has succeeded for the
// patience and at least probeAttempts failed, and then returns the last failure.
func watchHealth(ctx context.Context, probe func(context.Context) error, interval, timeout, patience time.Duration) error {
	healthy, failed := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
		attempt, cancel := context.WithTimeout(ctx, timeout)
		err := probe(attempt)
		cancel()
		failed++
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			healthy, failed = time.Now(), 0
		case failed >= probeAttempts && time.Since(healthy) >= patience:
			return fmt.Errorf("the embedded server has not answered for %.0f s: see whether the disk is full, then start it again: %w", time.Since(healthy).Seconds(), err)
		}
	}
}

// startHealth lets the server end itself when it does not answer any more, so that whoever keeps it alive
// starts it again.
func (s *Server) startHealth(ctx context.Context, log *slog.Logger) error {
	c, err := connect.DialAt(ctx, s.endpoint, log)
	if err != nil {
		return err
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := watchHealth(watching, asksHistory(c), probeInterval, probeTimeout, probePatience); err != nil {
			s.fail(err)
		}
	}()
	s.onClose(func() error {
		cancel()
		<-ended
		c.Close()
		return nil
	})
	return nil
}

// asksHistory asks for a workflow that nobody has: only the service that holds the database can tell that
// it is not there.
func asksHistory(c client.Client) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.DescribeWorkflowExecution(ctx, "turnwise-health", "")
		var missing *serviceerror.NotFound
		if errors.As(err, &missing) {
			return nil
		}
		return err
	}
}

// fail says why the server can no longer serve; the first reason stays.
func (s *Server) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}
