//go:build !slim

package temporalserver

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/log/tag"
)

// serverLogger writes what Temporal reports to server.log, through slog.
type serverLogger struct{ to *slog.Logger }

var (
	_ log.Logger      = (*serverLogger)(nil)
	_ log.WithLogger  = (*serverLogger)(nil)
	_ log.SLogWrapper = (*serverLogger)(nil)
)

func newLogger(w io.Writer, level slog.Level) *serverLogger {
	return &serverLogger{slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))}
}

func (l *serverLogger) log(level slog.Level, msg string, tags []tag.Tag) {
	if l.to.Enabled(context.Background(), level) {
		l.to.LogAttrs(context.Background(), level, msg, attributes(tags)...)
	}
}

func attributes(tags []tag.Tag) []slog.Attr {
	out := make([]slog.Attr, len(tags))
	for i, t := range tags {
		out[i] = slog.Any(t.Key(), t.Value())
	}
	return out
}

// With implements log.WithLogger.
func (l *serverLogger) With(tags ...tag.Tag) log.Logger {
	return &serverLogger{slog.New(l.to.Handler().WithAttrs(attributes(tags)))}
}

// SLog gives the services that already speak slog the same destination.
func (l *serverLogger) SLog() *slog.Logger { return l.to }

func (l *serverLogger) Debug(msg string, tags ...tag.Tag) { l.log(slog.LevelDebug, msg, tags) }
func (l *serverLogger) Info(msg string, tags ...tag.Tag)  { l.log(slog.LevelInfo, msg, tags) }
func (l *serverLogger) Warn(msg string, tags ...tag.Tag)  { l.log(slog.LevelWarn, msg, tags) }
func (l *serverLogger) Error(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

// DPanic reports a broken invariant that Temporal survives outside of development.
func (l *serverLogger) DPanic(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

// Panic reports and panics, as Temporal expects.
func (l *serverLogger) Panic(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	panic(msg)
}

// Fatal ends the process, as Temporal expects: the parent starts it again. The last line goes to standard error, where the parent
// finds it.
func (l *serverLogger) Fatal(msg string, tags ...tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	fmt.Fprintf(os.Stderr, "embedded server: %s %v\n", msg, attributes(tags))
	os.Exit(1)
}
