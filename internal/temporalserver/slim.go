//go:build slim

package temporalserver

import (
	"context"
	"errors"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

// Available reports whether this binary contains the server.
const Available = false

// ErrSlim says that this binary has no server in it.
var ErrSlim = errors.New("this binary was built with -tags slim and contains no Temporal server: set TEMPORAL_ADDRESS (host:port) to use a running one, or use the full binary")

// Server is never made in a slim binary.
type Server struct{}

// Start returns ErrSlim.
func Start(context.Context, Config) (*Server, error) { return nil, ErrSlim }

// Info returns nothing.
func (*Server) Info() connect.Endpoint { return connect.Endpoint{} }

// Wait returns ErrSlim.
func (*Server) Wait() error { return ErrSlim }

// Stop does nothing.
func (*Server) Stop() {}
