package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// DefaultAddress lets the system choose a port that only this machine reaches.
	DefaultAddress = "127.0.0.1:0"
	// Off is the address that serves nothing.
	Off = "off"
	// Path is where metrics are scraped.
	Path = "/metrics"

	// headerPatience bounds how long a client may take to ask, answerPatience how long it may take to read, and
	// stopPatience how long a scrape under way may hold up the end.
	headerPatience = 10 * time.Second
	answerPatience = time.Minute
	stopPatience   = 2 * time.Second
)

// AddressError says what is wrong with an address to serve on, and what to do.
type AddressError struct{ Address, Problem string }

func (e *AddressError) Error() string { return fmt.Sprintf("metrics on %q: %s", e.Address, e.Problem) }

// Server answers scrapes on one address.
type Server struct {
	listener net.Listener
	log      *slog.Logger
}

// Listen takes an address, "host:port"; port 0 is any free one. An address without a host would be reachable from
// everywhere, which has to be asked for in so many words: "0.0.0.0:9464". Errors are of the type [*AddressError].
func Listen(address string, log *slog.Logger) (*Server, error) {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil:
		return nil, &AddressError{address, `must be host:port, as in 127.0.0.1:9464, or "off"`}
	case host == "":
		return nil, &AddressError{address, fmt.Sprintf("say which machines may read them: 127.0.0.1:%s for this one, 0.0.0.0:%s for all", port, port)}
	}
	listener, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &AddressError{address, "another process has this port: choose another one, or port 0 for any that is free"}
	case errors.Is(err, syscall.EACCES):
		return nil, &AddressError{address, "this user may not have this port: choose one above 1023"}
	case err != nil:
		return nil, &AddressError{address, err.Error()}
	}
	return &Server{listener: listener, log: log}, nil
}

// Address is where the server is, with the port that it has.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Serve answers scrapes until ctx ends, and then those under way. It gives the address back.
func (s *Server) Serve(ctx context.Context, m *Metrics) error {
	errorLog := slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, promhttp.HandlerFor(m, promhttp.HandlerOpts{
		ErrorLog: errorLog, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerPatience, WriteTimeout: answerPatience, IdleTimeout: 5 * answerPatience, ErrorLog: errorLog}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics on %s: %w", s.Address(), err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
	defer cancel()
	err := server.Shutdown(stopping)
	if err != nil {
		err = server.Close()
	}
	<-served
	return err
}

// Close gives the address of a server back that never served.
func (s *Server) Close() error { return s.listener.Close() }
