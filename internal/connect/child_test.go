package connect

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(dir, script string) SpawnConfig {
	// The flags that Spawn appends become the script's arguments.
	return SpawnConfig{DataDir: dir, Command: []string{"/bin/sh", "-c", script, "sh"}, Logger: quiet}
}

func TestSpawnArguments(t *testing.T) {
	for want, s := range map[string]SpawnConfig{
		"--data d --parent-pipe": {},
		"--data d":               {Detach: true},
		"--data d --parent-pipe --port 7 --ui-port 8": {FrontendPort: 7, UIPort: 8},
		"--data d --parent-pipe --ui=false":           {NoUI: true},
	} {
		s.DataDir = "d"
		if got := strings.Join(s.args(), " "); got != want {
			t.Errorf("got %q, expected %q", got, want)
		}
	}
}

func TestChildsLastLinesAreTheError(t *testing.T) {
	_, err := Spawn(t.Context(), shell(t.TempDir(), `echo starting; echo "port 7 is taken" >&2; exit 3`))
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "port 7 is taken") {
		t.Fatalf("got %v, expected the exit status and the child's words", err)
	}
}

func TestChildThatNeverServesIsStopped(t *testing.T) {
	dir := t.TempDir()
	s := shell(dir, `echo $$ > "$2/pid"; cat; touch "$2/stopped"`) // cat ends when the pipe closes
	s.StartTimeout = 300 * time.Millisecond
	_, err := Spawn(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), "did not serve within 300ms") {
		t.Fatalf("got %v, expected a timeout", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "stopped")); err != nil {
		t.Errorf("the child did not see its pipe close: %v", err)
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	_, err := Spawn(t.Context(), SpawnConfig{DataDir: t.TempDir(), Command: []string{"/no/such/program"}})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/no/such/program") {
		t.Fatalf("got %v, expected the missing program", err)
	}
}

// A server that ends again and again is given up with its own words.
func TestSuperviseGivesUp(t *testing.T) {
	dir := t.TempDir()
	var kinds []EventKind
	config := shell(dir, `echo "disk is full"; exit 1`)
	config.StartTimeout = time.Minute
	config.Report = func(e Event) { kinds = append(kinds, e.Kind) }
	p, err := start(shell(dir, "exit 9"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.closePipe()
	child := &Child{config: config, backoff: time.Microsecond, process: p, endpoint: Endpoint{Address: "127.0.0.1:1"}}
	err = child.Supervise(t.Context())
	if err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Fatalf("got %v, expected the child's words", err)
	}
	if len(kinds) != 1+restartAttempts || kinds[0] != ServerDied || kinds[1] != RestartFailed {
		t.Errorf("events %q, expected one death and %d failures", kinds, restartAttempts)
	}
}

func TestSuperviseEndsWithItsContext(t *testing.T) {
	p, err := start(shell(t.TempDir(), "cat"))
	if err != nil {
		t.Fatal(err)
	}
	child := &Child{config: SpawnConfig{}, process: p}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := child.Supervise(ctx); err != nil {
		t.Errorf("got %v, expected nothing", err)
	}
	select {
	case <-p.done:
		t.Error("supervision took the server down with it")
	default:
	}
	child.Stop()
	<-p.done
	if err := child.Supervise(t.Context()); err != nil {
		t.Errorf("a stopped server is no death: %v", err)
	}
}

func TestWatchEndsWithTheParentsPipe(t *testing.T) {
	r, w := io.Pipe()
	ctx := watch(t.Context(), r)
	if ctx.Err() != nil {
		t.Fatal("ended while the pipe is open")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if !errors.Is(context.Cause(ctx), ErrParentGone) {
		t.Errorf("cause %v, expected ErrParentGone", context.Cause(ctx))
	}
}

func TestLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for content, want := range map[string]string{
		"":                               "it said nothing",
		"\n\n":                           "it said nothing",
		"a\nb\n":                         "a\nb",
		strings.Repeat("x\n", 100) + "y": strings.Repeat("x\n", 7) + "y",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastLines(path); !strings.HasPrefix(got, want) {
			t.Errorf("of %q got %q, expected %q", content, got, want)
		}
	}
}
