//go:build slim

package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/internal/agent"
)

// TestAnnouncedNames holds that a process without an agent is announced by the same name when it is started again, and
// that processes that live at the same time have different ones.
func TestAnnouncedNames(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	process := func(port string) *meters {
		return &meters{dataDir: dir, address: "127.0.0.1:" + port, log: slog.New(slog.NewTextHandler(&log, nil))}
	}
	want := func(what string, names ...string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(dir, "metrics", "*"))
		if err != nil || len(files) != len(names) {
			t.Fatalf("%s: %v, %v; want %v", what, files, err, names)
		}
		for _, name := range names {
			if data, err := os.ReadFile(filepath.Join(dir, "metrics", name+".json")); err != nil || !strings.Contains(string(data), `"agent":"`+name+`"`) {
				t.Errorf("%s: %s is announced as %s, %v", what, name, data, err)
			}
		}
	}
	control := agent.Host() + "-control"
	first, second, worker := process("1"), process("2"), process("3")
	first.announce("")
	second.announce("")
	worker.announce("alpha")
	want("three processes", "alpha", control+"-2", control)
	first.withdraw()
	worker.withdraw()
	want("one is left", control+"-2")
	again := process("4")
	again.announce("")
	want("started again", control+"-2", control)
	// The system frees the name of a process that is killed; its file stays until the next of the name.
	if err := second.free(); err != nil {
		t.Fatal(err)
	}
	next := process("5")
	next.announce("")
	want("after a kill", control+"-2", control)
	second.free = nil
	second.withdraw() // which leaves alone what the next one has written
	want("after a kill", control+"-2", control)
	next.withdraw()
	again.withdraw()
	want("nobody is left")
	(*meters)(nil).announce("")
	if log.Len() > 0 {
		t.Error(log.String())
	}
}
