//go:build !slim

package temporalserver_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/turnwise-rl/turnwise/internal/connect"
)

const queue = "test"

// awaitGo returns what it is signalled.
func awaitGo(ctx workflow.Context) (string, error) {
	var word string
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, &word)
	return word, nil
}

// A workflow begun before the server is killed ends after it, with the same client.
func TestKilledServerIsRestartedWithItsWorkflows(t *testing.T) {
	dir := t.TempDir()
	events := make(chan connect.Event, 16)
	config := childConfig(dir)
	config.Report = func(e connect.Event) { events <- e }
	began := time.Now()
	child, err := connect.Spawn(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("child serving after %v", time.Since(began).Round(time.Millisecond))
	defer child.Stop()
	supervised := make(chan error, 1)
	go func() { supervised <- child.Supervise(t.Context()) }()

	first := child.Endpoint()
	c := dial(t, first)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "survivor", TaskQueue: queue}, awaitGo)
	if err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	expectEvent(t, events, connect.ServerDied)
	second := expectEvent(t, events, connect.ServerRestarted).Endpoint
	t.Logf("restarted after %v", time.Since(began).Round(time.Millisecond))
	if second.Address != first.Address || second.PID == first.PID {
		t.Fatalf("restarted as %+v, expected another process at the address of %+v", second, first)
	}

	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(awaitGo)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := c.SignalWorkflow(t.Context(), run.GetID(), run.GetRunID(), "go", "on"); err != nil {
		t.Fatal(err)
	}
	var word string
	if err := run.Get(t.Context(), &word); err != nil || word != "on" {
		t.Fatalf("got %q, %v, expected the signalled word", word, err)
	}
	w.Stop()
	c.Close()
	child.Stop()
	if err := <-supervised; err != nil {
		t.Errorf("supervision ended with %v", err)
	}
	if _, _, err := connect.DialEmbedded(t.Context(), connect.Options{DataDir: dir, Logger: quiet}); err == nil {
		t.Error("the server still answers after Stop")
	}
}

func expectEvent(t *testing.T, events <-chan connect.Event, kind connect.EventKind) connect.Event {
	t.Helper()
	select {
	case e := <-events:
		if e.Kind != kind {
			t.Fatalf("got event %+v, expected %q", e, kind)
		}
		return e
	case <-t.Context().Done():
	case <-time.After(time.Minute):
	}
	t.Fatalf("no event, expected %q", kind)
	return connect.Event{}
}

// A process that only attached takes the server over when its owner is killed together with it.
func TestServerDiesWithItsParentAndIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	parent := exec.Command(os.Args[0], dir)
	parent.Env = append(os.Environ(), roleEnv+"=parent")
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the parent said %q: %v", line, err)
	}

	events := make(chan connect.Event, 16)
	config := childConfig(dir)
	config.Report = func(e connect.Event) { events <- e }
	child, err := connect.Spawn(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Stop()
	if !child.Attached {
		t.Fatal("a second server was started beside a running one")
	}
	first := child.Endpoint()
	ctx, cancel := context.WithCancel(t.Context())
	supervised := make(chan error, 1)
	go func() { supervised <- child.Supervise(ctx) }()

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // "signal: killed" is what was asked for
	expectEvent(t, events, connect.ServerDied)
	if second := expectEvent(t, events, connect.ServerRestarted).Endpoint; second.Address != first.Address {
		t.Errorf("taken over at %s, expected %s", second.Address, first.Address)
	}
	cancel()
	if err := <-supervised; err != nil {
		t.Errorf("supervision ended with %v", err)
	}
}

func TestChildThatCannotServeSaysWhy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	config := childConfig(t.TempDir())
	config.FrontendPort = taken.Addr().(*net.TCPAddr).Port
	_, err = connect.Spawn(t.Context(), config)
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	if err == nil || !strings.Contains(err.Error(), port) || !strings.Contains(err.Error(), "--port") {
		t.Fatalf("got %v, expected the child's own words: port %s is taken, choose another with --port", err, port)
	}
}

func TestDetachedServerIsLeftRunning(t *testing.T) {
	dir := t.TempDir()
	config := childConfig(dir)
	config.Detach = true
	child, err := connect.Spawn(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	pid := child.Endpoint().PID
	defer func() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}()
	child.Stop()
	again, err := connect.Spawn(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Attached || again.Endpoint().PID != pid {
		t.Errorf("got %+v, expected to attach to process %d", again.Endpoint(), pid)
	}
}
