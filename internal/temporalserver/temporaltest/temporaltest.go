//go:build !slim

// Package temporaltest runs the embedded server inside a test process, with histories in memory.
//
// Importing it links the Temporal server. Exactly two test packages do: that of internal/temporalserver and the end-to-end tests.
package temporaltest

import (
	"log/slog"
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/turnwise-rl/turnwise/internal/connect"
	"github.com/turnwise-rl/turnwise/internal/temporalserver"
)

// Start returns a client of a new server that lives until the test ends. Stop workers before the test ends: cleanups run last in,
// first out, so a worker stopped by t.Cleanup after this call is stopped in time.
func Start(t testing.TB) (client.Client, connect.Endpoint) {
	t.Helper()
	server, err := temporalserver.Start(t.Context(), temporalserver.Config{
		DataDir: t.TempDir(), InMemory: true,
		Notice: func(s string) { t.Log(s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	c, err := connect.DialAt(t.Context(), server.Info(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, server.Info()
}
