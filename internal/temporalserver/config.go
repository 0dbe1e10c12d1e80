// Package temporalserver runs the embedded Temporal server. It is the only package that links it: the server is most of the
// binary's size and of its build time, so the build tag "slim" leaves it out and Start then says so.
//
// One server owns the folder "temporal" inside a data folder (see package connect for what is in it). It serves four things, all
// on 127.0.0.1:
//
//   - the frontend, for SDK clients, which asks every caller for the per-install token;
//   - its HTTP form, under the same rule;
//   - the web interface, behind a sign-in page of ours;
//   - Temporal's internal services, which ask each other for a certificate that is made at start and never leaves memory, because
//     they know no tokens and other users of the machine can reach their ports.
package temporalserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

// Config says how to run the server.
type Config struct {
	// DataDir is the data folder; everything of the server's is in its folder "temporal".
	DataDir string
	// FrontendPort and UIPort are ports on 127.0.0.1. 0 means the port of the last run if it is still free, else any free one.
	FrontendPort, UIPort int
	// UI serves the web interface.
	UI bool
	// InMemory keeps histories in memory: for tests. The data folder still holds lock, token and endpoint.
	InMemory bool
	// LogLevel is the least level that reaches server.log. The zero value means slog.LevelError, because Temporal is chatty;
	// slog.LevelDebug shows everything.
	LogLevel slog.Level
	// Namespace is where Turnwise's workflows live; empty means connect.DefaultNamespace.
	Namespace string
	// Retention is how long finished workflows stay visible; 0 means 30 days, less than an hour is refused.
	Retention time.Duration
	// Notice hears, in one sentence each, what a person should know: a database set aside, a port that changed. nil writes
	// them to slog.Default() as warnings.
	Notice func(string)
}

const (
	defaultRetention = 30 * 24 * time.Hour
	minimumRetention = time.Hour
)

// resolve checks the settings and fills in the defaults.
func (c Config) resolve() (Config, error) {
	if c.DataDir == "" {
		return c, errors.New("embedded server: no data folder is given: set --data")
	}
	for _, p := range []struct {
		name string
		port int
	}{{"--port", c.FrontendPort}, {"--ui-port", c.UIPort}} {
		if p.port < 0 || p.port > 65535 {
			return c, fmt.Errorf("embedded server: %s is %d, expected 1 to 65535, or 0 to choose one", p.name, p.port)
		}
	}
	if c.UI && c.UIPort != 0 && c.UIPort == c.FrontendPort {
		return c, fmt.Errorf("embedded server: --port and --ui-port are both %d: they must differ", c.UIPort)
	}
	if c.Namespace == "" {
		c.Namespace = connect.DefaultNamespace
	}
	if c.Retention == 0 {
		c.Retention = defaultRetention
	}
	if c.Retention < minimumRetention {
		return c, fmt.Errorf("embedded server: retention is %v, expected at least %v", c.Retention, minimumRetention)
	}
	if c.LogLevel == 0 {
		c.LogLevel = slog.LevelError
	}
	if c.Notice == nil {
		c.Notice = func(s string) { slog.Warn(s) }
	}
	return c, nil
}

// Run starts the server, calls ready once it serves, and returns when ctx ends or the server fails, after a clean stop. It is
// the body of `turnwise server`; with connect.WatchParent's context it is the child's side of connect.Spawn.
func Run(ctx context.Context, c Config, ready func(connect.Endpoint)) error {
	s, err := Start(ctx, c)
	if err != nil {
		return err
	}
	if ready != nil {
		ready(s.Info())
	}
	stop := context.AfterFunc(ctx, s.Stop)
	defer stop()
	return s.Wait()
}
