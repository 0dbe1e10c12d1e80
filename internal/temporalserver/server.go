//go:build !slim

package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

// Available reports whether this binary contains the server.
const Available = true

// maxLogBytes is the size at which a new start begins a new server.log; the one before is kept as server.log.1.
const maxLogBytes = 8 << 20

// failedStopTimeout is how long a server that cannot go on may take to stop.
const failedStopTimeout = 5 * time.Second

// Server is a running embedded server.
type Server struct {
	endpoint connect.Endpoint
	// closers undo Start in reverse order.
	closers []func() error

	stop sync.Once
	// failed carries the reason why the server can no longer serve; done is closed when everything is stopped.
	failed chan error
	done   chan struct{}
	err    error
}

// Start runs a server on the data folder and returns once it serves, or says why it cannot. It returns a *connect.HeldError when
// another server has the folder. ctx bounds the start only.
func Start(ctx context.Context, c Config) (*Server, error) {
	c, err := c.resolve()
	if err != nil {
		return nil, err
	}
	s := &Server{failed: make(chan error, 1), done: make(chan struct{})}
	if err := s.start(ctx, c); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, c Config) error {
	lock, err := connect.Acquire(c.DataDir)
	if err != nil {
		return err
	}
	s.onClose(lock.Release)
	// What an earlier server left behind must not be taken for ours while we start.
	if err := connect.RemoveEndpoint(c.DataDir); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	token, err := connect.EnsureToken(c.DataDir)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	ports, err := choosePorts(c)
	if err != nil {
		return err
	}
	log, err := openLog(c.DataDir)
	if err != nil {
		return err
	}
	s.onClose(log.Close)
	if err := s.startTemporal(c, ports, token, newLogger(log, c.LogLevel)); err != nil {
		return err
	}
	s.endpoint = connect.Endpoint{
		Address: loopback(ports.Frontend), Namespace: c.Namespace, Embedded: true,
		TokenFile: connect.TokenFile(c.DataDir), PID: os.Getpid(),
	}
	errorsOnly := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))
	if err := settle(ctx, c, s.endpoint, errorsOnly); err != nil {
		return err
	}
	if err := s.startHealth(ctx, errorsOnly); err != nil {
		return err
	}
	if c.UI {
		if err := s.startUI(c, ports, token); err != nil {
			return err
		}
	}
	if err := ports.remember(c.DataDir); err != nil {
		return err
	}
	s.onClose(func() error { return connect.RemoveEndpoint(c.DataDir) })
	return connect.WriteEndpoint(c.DataDir, s.endpoint)
}

// startTemporal prepares the database and runs Temporal's services on it.
func (s *Server) startTemporal(c Config, p ports, token string, logger *serverLogger) error {
	store, err := openStore(c)
	if err != nil {
		return err
	}
	internal, err := newInternalTLS()
	if err != nil {
		return fmt.Errorf("embedded server: %w", err)
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(serverConfig(store.sql, p)),
		temporal.ForServices(temporal.Services),
		temporal.WithStaticHosts(p.hosts()),
		temporal.WithDynamicConfigClient(dynamicConfig()),
		temporal.WithLogger(logger),
		temporal.WithTLSConfigFactory(internal),
		temporal.WithAuthorizer(authorization.NewDefaultAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return newTokenClaims(token) }),
	)
	if err != nil {
		return fmt.Errorf("embedded server: %w", err)
	}
	if err := server.Start(); err != nil {
		return errors.Join(fmt.Errorf("embedded server: %w", err), server.Stop())
	}
	s.onClose(server.Stop)
	return nil
}

func (s *Server) startUI(c Config, p ports, token string) error {
	ui, err := newUI(c.Namespace, loopback(p.Frontend), loopback(p.UI), token)
	if err != nil {
		return err
	}
	s.onClose(ui.close)
	go func() {
		if err := ui.serve(); err != nil {
			s.fail(fmt.Errorf("web interface: %w", err))
		}
	}()
	s.endpoint.UIAddress = "http://" + loopback(p.UI)
	return nil
}

func (s *Server) onClose(f func() error) { s.closers = append(s.closers, f) }

// close undoes what Start has done so far, last first.
func (s *Server) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Info says where the server is.
func (s *Server) Info() connect.Endpoint { return s.endpoint }

// Wait returns when the server has stopped: nil after Stop, else why it could not go on.
func (s *Server) Wait() error {
	select {
	case err := <-s.failed:
		// A server that does not answer may not stop either.
		go s.Stop()
		select {
		case <-s.done:
			return errors.Join(err, s.err)
		case <-time.After(failedStopTimeout):
			return err
		}
	case <-s.done:
		return s.err
	}
}

// Stop ends the server and returns when it is down. Stop workers and clients first: they would report the loss.
func (s *Server) Stop() {
	s.stop.Do(func() {
		s.err = s.close()
		close(s.done)
	})
	<-s.done
}

// openLog opens server.log for appending.
func openLog(dataDir string) (*os.File, error) {
	path := filepath.Join(connect.Folder(dataDir), "server.log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLogBytes {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("data folder: %w", err)
		}
	}
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	return log, nil
}

// hosts tells Temporal where its services are, so that it opens no membership ports.
func (p ports) hosts() staticHosts {
	return staticHosts{
		primitives.FrontendService:         singleHost(p.Frontend),
		primitives.InternalFrontendService: singleHost(p.internalFrontend),
		primitives.HistoryService:          singleHost(p.history),
		primitives.MatchingService:         singleHost(p.matching),
		primitives.WorkerService:           singleHost(p.worker),
	}
}
