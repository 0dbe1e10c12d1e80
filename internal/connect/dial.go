package connect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
)

const (
	// dialTimeout bounds how long a command waits before it says that Temporal cannot be reached.
	dialTimeout = 5 * time.Second
	// The server refuses pings closer together than 10 s; a dead peer is noticed after the sum of both.
	keepAliveTime    = 15 * time.Second
	keepAliveTimeout = 5 * time.Second
)

// ErrNoServer means that nothing serves the data folder and no cluster is configured.
var ErrNoServer = errors.New("no Temporal server is running")

// UnreachableError means that a server is known but does not answer, or answers with a refusal.
type UnreachableError struct {
	Endpoint Endpoint
	// Fix is what to do about it.
	Fix   string
	Cause error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cannot use Temporal at %s: %v: %s", e.Endpoint.Address, e.Cause, e.Fix)
}

func (e *UnreachableError) Unwrap() error { return e.Cause }

// IsUnreachable reports whether err means that there is no usable Temporal server, which the command line answers with exit
// code 4.
func IsUnreachable(err error) bool {
	var u *UnreachableError
	return errors.Is(err, ErrNoServer) || errors.As(err, &u)
}

// Options says how to reach Temporal.
type Options struct {
	// DataDir is the data folder whose embedded server is used when the environment names no cluster.
	DataDir string
	// Logger receives what the Temporal SDK reports; nil means slog.Default().
	Logger *slog.Logger
	// Identity names this process in Temporal's histories; empty means the SDK's pid@host.
	Identity string
	// Metrics takes what the Temporal SDK measures; nil measures nothing.
	Metrics client.MetricsHandler
	// Via, when set, is a loopback address to reach the embedded server at instead of its own: that of
	// something in between that passes connections on. A cluster is not concerned.
	Via string
}

// Dial returns a client of the cluster named by the environment, or else of the embedded server recorded in the data
// folder. It starts nothing: with no server running the error is ErrNoServer. It answers within about five seconds.
//
// The client reconnects by itself when a server goes away and comes back at the same address.
func Dial(ctx context.Context, o Options) (client.Client, Endpoint, error) {
	profile, external, err := FromEnvironment()
	if err != nil {
		return nil, Endpoint{}, err
	}
	if external {
		return dialCluster(ctx, profile, o)
	}
	return DialEmbedded(ctx, o)
}

func dialCluster(ctx context.Context, profile envconfig.ClientConfigProfile, o Options) (client.Client, Endpoint, error) {
	opts, err := profile.ToClientOptions(envconfig.ToClientOptionsRequest{})
	if err != nil {
		return nil, Endpoint{}, fmt.Errorf("temporal profile: %w", err)
	}
	if opts.Namespace == "" {
		opts.Namespace = client.DefaultNamespace
	}
	e := Endpoint{Address: opts.HostPort, Namespace: opts.Namespace}
	c, err := dial(ctx, opts, e, o)
	return c, e, err
}

// DialEmbedded returns a client of the embedded server that serves the data folder, whatever the environment says. While that
// server is still starting it waits for it, within the same five seconds.
func DialEmbedded(ctx context.Context, o Options) (client.Client, Endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	e, err := liveEndpoint(ctx, o.DataDir)
	if err != nil {
		return nil, Endpoint{}, err
	}
	if o.Via != "" {
		if err := checkLoopback(o.Via); err != nil {
			return nil, Endpoint{}, err
		}
		e.Address = o.Via
	}
	c, err := dialRecorded(ctx, e, o)
	return c, e, err
}

// DialAt returns a client of an embedded server whose endpoint is known, such as Server.Info or Child.Endpoint gives it.
func DialAt(ctx context.Context, e Endpoint, logger *slog.Logger) (client.Client, error) {
	return dialRecorded(ctx, e, Options{Logger: logger})
}

func dialRecorded(ctx context.Context, e Endpoint, o Options) (client.Client, error) {
	token, err := readToken(e.TokenFile)
	if err != nil {
		return nil, err
	}
	opts := client.Options{HostPort: e.Address, Namespace: e.Namespace, Credentials: client.NewAPIKeyStaticCredentials(token)}
	// An API key turns TLS on by default; this connection never leaves the machine.
	opts.ConnectionOptions.TLSDisabled = true
	// Nor is it worth a processor's time to send less over it.
	opts.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := dial(ctx, opts, e, o)
	if err != nil {
		return nil, err
	}
	// Connecting asks for nothing that needs the token; this does.
	if _, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: e.Namespace}); err != nil {
		c.Close()
		return nil, explain(e, err)
	}
	return c, nil
}

// liveEndpoint waits until the server that holds the data folder has written where it is.
func liveEndpoint(ctx context.Context, dataDir string) (Endpoint, error) {
	for {
		alive, err := held(dataDir)
		if err != nil {
			return Endpoint{}, err
		}
		if !alive {
			return Endpoint{}, fmt.Errorf("%w for data folder %s: start one with `turnwise server --data %s`, or set TEMPORAL_ADDRESS to use a cluster", ErrNoServer, dataDir, dataDir)
		}
		e, err := readEndpoint(dataDir)
		if err == nil {
			return e, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Endpoint{}, err
		}
		select {
		case <-ctx.Done():
			return Endpoint{}, fmt.Errorf("%w for data folder %s yet: %v", ErrNoServer, dataDir, heldBy(dataDir))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func dial(ctx context.Context, opts client.Options, e Endpoint, o Options) (client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	logger := o.Logger
	if logger == nil {
		logger = slog.Default()
	}
	opts.Logger = log.NewStructuredLogger(logger)
	opts.Identity, opts.MetricsHandler = o.Identity, o.Metrics
	opts.ConnectionOptions.KeepAliveTime = keepAliveTime
	opts.ConnectionOptions.KeepAliveTimeout = keepAliveTimeout
	opts.ConnectionOptions.GetSystemInfoTimeout = dialTimeout
	c, err := client.DialContext(ctx, opts)
	if err != nil {
		return nil, explain(e, err)
	}
	return c, nil
}

// explain turns a refused first call into an error that says what to do.
func explain(e Endpoint, err error) error {
	var denied *serviceerror.PermissionDenied
	switch {
	case errors.As(err, &denied) && e.Embedded:
		return &UnreachableError{e, fmt.Sprintf("the token in %s is not the running server's; stop process %d and start it again", e.TokenFile, e.PID), err}
	case errors.As(err, &denied):
		return &UnreachableError{e, "check TEMPORAL_API_KEY or the client certificate, and that they may use this namespace", err}
	case e.Embedded:
		return &UnreachableError{e, fmt.Sprintf("its process %d holds the data folder but does not answer; stop it and run the command again", e.PID), err}
	default:
		return &UnreachableError{e, "check TEMPORAL_ADDRESS (host:port), TEMPORAL_TLS and that the cluster runs; unset TEMPORAL_ADDRESS to use the embedded server", err}
	}
}
