package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAddressesThatAreRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		"":                     "must be host:port",
		"127.0.0.1":            "must be host:port",
		"9464":                 "must be host:port",
		":9464":                "127.0.0.1:9464 for this one, 0.0.0.0:9464 for all",
		"127.0.0.1:70000":      "invalid port",
		taken.Addr().String():  "another process has this port",
		"[::1":                 "must be host:port",
		"127.0.0.1:no-service": "127.0.0.1:no-service",
	} {
		server, err := Listen(address, slog.New(slog.DiscardHandler))
		if err == nil {
			_ = server.Close()
		}
		var refused *AddressError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want an address error with %q", address, err, want)
		}
	}
}

// TestServerEndsWithItsContext serves, is ended, and gives its port back.
func TestServerEndsWithItsContext(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	server, err := Listen(DefaultAddress, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, open(t)) }()
	client := &http.Client{Transport: &http.Transport{}}
	for path, want := range map[string]int{"/metrics": http.StatusOK, "/": http.StatusNotFound, "/metrics/": http.StatusNotFound} {
		response, err := client.Get("http://" + server.Address() + path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != want {
			t.Errorf("%s: %s, %v; want %d", path, response.Status, err, want)
		}
		_ = response.Body.Close()
	}
	response, err := client.Post("http://"+server.Address()+Path, "text/plain", nil)
	if err != nil || response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("posted: %v, %v; want that it is not allowed", response, err)
	}
	_ = response.Body.Close()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	client.CloseIdleConnections()
	again, err := Listen(server.Address(), log)
	if err != nil {
		t.Fatalf("the port was not given back: %v", err)
	}
	_ = again.Close()
}

// TestTargetsAreAListForPrometheus reads the file as file_sd_config does, and sees it go.
func TestTargetsAreAListForPrometheus(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "metrics", "node-1.json")
	read := func() []target {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var list []target
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		return list
	}
	first, err := Announce(dir, "node-1", "node-1.example", "127.0.0.1:1234")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"agent": "node-1", "host": "node-1.example"}
	if diff := cmp.Diff([]target{{Targets: []string{"127.0.0.1:1234"}, Labels: labels}}, read()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	second, err := Announce(dir, "node-1", "node-1.example", "[::]:99")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Withdraw(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]target{{Targets: []string{"node-1.example:99"}, Labels: labels}}, read()); diff != "" {
		t.Errorf("what replaced a file stays when the first one leaves (-want +got):\n%s", diff)
	}
	for range 2 { // leaving twice is no error
		if err := second.Withdraw(); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("%d files are left, %v", len(entries), err)
	}
}

func TestTargetsThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"", "a/b", "../a", ".hidden"} {
		if _, err := Announce(dir, name, "host", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "no name of a file") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "metrics"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Announce(dir, "node-1", "host", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "metrics") {
		t.Errorf("a file in the way: %v", err)
	}
}
