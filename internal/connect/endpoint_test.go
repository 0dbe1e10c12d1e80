package connect

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"
)

func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(Folder(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEndpointSurvivesItsFile(t *testing.T) {
	dir := folder(t)
	want := Endpoint{Address: "127.0.0.1:7233", Namespace: "turnwise", UIAddress: "http://127.0.0.1:8233", Embedded: true, TokenFile: TokenFile(dir), PID: 12}
	if err := WriteEndpoint(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := readEndpoint(dir); err != nil || got != want {
		t.Fatalf("got %+v, %v, expected %+v", got, err, want)
	}
	for range 2 {
		if err := RemoveEndpoint(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readEndpoint(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, expected no file", err)
	}
}

func TestBadEndpointsAreRefused(t *testing.T) {
	for raw, want := range map[string]string{
		`{`:                                 "unexpected end",
		`{"schema":"turnwise.endpoint/v0"}`: "turnwise.endpoint/v1",
		`{"schema":"turnwise.endpoint/v1","pid":1,"address":"10.0.0.1:7233","namespace":"n"}`:  "loopback",
		`{"schema":"turnwise.endpoint/v1","pid":1,"address":"127.0.0.1","namespace":"n"}`:      "missing port",
		`{"schema":"turnwise.endpoint/v1","pid":0,"address":"127.0.0.1:7233","namespace":"n"}`: "pid 0",
	} {
		if _, err := decodeEndpoint([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, expected an error with %q", raw, err, want)
		}
	}
}

func FuzzDecodeEndpoint(f *testing.F) {
	f.Add([]byte(`{"schema":"turnwise.endpoint/v1","pid":1,"address":"127.0.0.1:7233","ui":"","namespace":"turnwise"}`))
	f.Add([]byte(`{"schema":"turnwise.endpoint/v1","pid":1,"address":"[::1]:1","namespace":"x"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := decodeEndpoint(raw)
		if err == nil && (e.PID <= 0 || e.Namespace == "" || e.Address == "" || !e.Embedded) {
			t.Fatalf("accepted %+v", e)
		}
	})
}

func TestTokenIsMadeOnceAndKeptSecret(t *testing.T) {
	dir := folder(t)
	first, err := EnsureToken(dir)
	if err != nil || len(first) != 64 {
		t.Fatalf("got %d characters, %v, expected 64", len(first), err)
	}
	if again, err := EnsureToken(dir); err != nil || again != first {
		t.Fatalf("the second call gave another token (%v)", err)
	}
	if other, err := EnsureToken(folder(t)); err != nil || other == first {
		t.Fatalf("two installs share a token (%v)", err)
	}
	if err := os.Chmod(TokenFile(dir), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureToken(dir); err == nil || !strings.Contains(err.Error(), "0644") || strings.Contains(err.Error(), first) {
		t.Fatalf("got %v, expected a refusal that names the mode and not the token", err)
	}
	if err := os.Chmod(TokenFile(dir), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(TokenFile(dir), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureToken(dir); err == nil {
		t.Fatal("an empty token is accepted")
	}
}

func TestLockIsExclusiveAndNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	expectHeld(t, dir, false)
	lock, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	expectHeld(t, dir, true)
	// A record of an earlier server must not pass for the holder's.
	if err := WriteEndpoint(dir, Endpoint{Address: "127.0.0.1:1", Namespace: "n", PID: os.Getpid() + 1}); err != nil {
		t.Fatal(err)
	}
	var refused *HeldError
	if _, err := Acquire(dir); !errors.As(err, &refused) || refused.PID != os.Getpid() || refused.Address != "" {
		t.Fatalf("got %v, expected a refusal that names process %d as starting", err, os.Getpid())
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	expectHeld(t, dir, false)
	again, err := Acquire(dir)
	if err != nil {
		t.Fatalf("a released data folder is refused: %v", err)
	}
	if err := again.Release(); err != nil {
		t.Fatal(err)
	}
}

func expectHeld(t *testing.T, dir string, want bool) {
	t.Helper()
	if got, err := held(dir); err != nil || got != want {
		t.Fatalf("held is %v, %v, expected %v", got, err, want)
	}
}

// Questions about the lock never make a server's start fail.
func TestAskingDoesNotDisturbAcquiring(t *testing.T) {
	dir := t.TempDir()
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := held(dir); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 50 {
		lock, err := Acquire(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := lock.Release(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A dead server leaves its record behind; without the lock nobody believes it.
func TestStaleEndpointIsIgnored(t *testing.T) {
	dir := folder(t)
	if err := WriteEndpoint(dir, Endpoint{Address: "127.0.0.1:1", Namespace: "n", PID: 1 << 22}); err != nil {
		t.Fatal(err)
	}
	_, _, err := DialEmbedded(t.Context(), Options{DataDir: dir})
	if !errors.Is(err, ErrNoServer) || !IsUnreachable(err) || !strings.Contains(err.Error(), "turnwise server --data") {
		t.Fatalf("got %v, expected ErrNoServer with the command that starts one", err)
	}
}

func TestStartingServerIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	lock, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	want := Endpoint{Address: "127.0.0.1:7233", Namespace: "n", Embedded: true, TokenFile: TokenFile(dir), PID: os.Getpid()}
	time.AfterFunc(50*time.Millisecond, func() {
		if err := WriteEndpoint(dir, want); err != nil {
			t.Error(err)
		}
	})
	if got, err := liveEndpoint(t.Context(), dir); err != nil || got != want {
		t.Fatalf("got %+v, %v, expected %+v", got, err, want)
	}
}
