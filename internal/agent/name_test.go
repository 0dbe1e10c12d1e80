package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnwise-rl/turnwise/internal/gpu"
)

func newTestLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestNamesStay gives each process of a host another name, and a process that is started again its old one.
func TestNamesStay(t *testing.T) {
	dir := t.TempDir()
	var releases []func() error
	claim := func(want string) {
		t.Helper()
		name, release, err := ClaimName(dir, "host")
		if err != nil || name != want {
			t.Fatalf("claimed %q, %v; want %q", name, err, want)
		}
		releases = append(releases, release)
	}
	claim("host")
	claim("host-2")
	claim("host-3")
	if err := releases[1](); err != nil {
		t.Fatal(err)
	}
	claim("host-2")
	if name, release, err := ClaimName(dir, "other/../host"); err != nil || name != "other/../host" {
		t.Errorf("claimed %q, %v", name, err)
	} else {
		releases = append(releases, release)
	}
	for _, i := range []int{0, 2, 3, 4} {
		if err := releases[i](); err != nil {
			t.Error(err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "agents"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder with names: %v, %v", info, err)
	}
	if _, _, err := ClaimName(filepath.Join(dir, "agents", "host-1.lock"), "host"); err == nil || !strings.Contains(err.Error(), "name of the device agent") {
		t.Errorf("a data folder that is a file: %v", err)
	}
}

// TestGivenNamesAreKept lets nobody take a name that a living process was given, and passes over it when names
// are counted.
func TestGivenNamesAreKept(t *testing.T) {
	dir := t.TempDir()
	free, err := Reserve(dir, "host-2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Reserve(dir, "host-2"); !errors.Is(err, ErrNameTaken) || !strings.Contains(err.Error(), "host-2") || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second host-2: %v", err)
	}
	var leave []func() error
	for _, want := range []string{"host", "host-3"} {
		name, release, err := ClaimName(dir, "host")
		if err != nil || name != want {
			t.Fatalf("claimed %q, %v; want %q", name, err, want)
		}
		leave = append(leave, release)
	}
	if _, err := Reserve(dir, "host-3"); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a counted name is given away: %v", err)
	}
	for _, release := range append(leave, free) {
		if err := release(); err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"host", "host-2"} {
		if name, _, err := ClaimName(dir, "host"); err != nil || name != want {
			t.Errorf("claimed %q, %v; want %q", name, err, want)
		}
	}
	if _, err := Reserve(filepath.Join(dir, "agents", "host-1.lock"), "x"); err == nil || !strings.Contains(err.Error(), "name of the device agent") {
		t.Errorf("a data folder that is a file: %v", err)
	}
}

func TestNamesAreChecked(t *testing.T) {
	for name, good := range map[string]bool{"a": true, "gpu-7.rack_2": true, "": false, "a b": false, "..": false, ".": false, "a/b": false, "a@b": false,
		"ä": false, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestIdentity is that of this machine, and of one life.
func TestIdentity(t *testing.T) {
	a, b := Identify("n", Host()), Identify("n", Host())
	if a.Session == b.Session || len(a.Session) != 16 {
		t.Errorf("sessions %q and %q", a.Session, b.Session)
	}
	if a.Machine != b.Machine || a.Boot != b.Boot || a.Machine == "" || a.Host == "" {
		t.Errorf("%+v and %+v", a, b)
	}
	if other := Identify("n", Host()+"x"); other.Machine == a.Machine {
		t.Error("a machine with another name is the same one")
	}
}

// TestReadingsFile is replaced every few seconds while the agent runs, for its owner's eyes.
func TestReadingsFile(t *testing.T) {
	folder := filepath.Join(t.TempDir(), ReadingsFolder)
	path := filepath.Join(folder, "here.json")
	board := newBoard("GPU-a", "GPU-b")
	synctest.Test(t, func(t *testing.T) {
		office := &office{}
		a := New(Config{Identity: Identity{Name: "here", Host: "host"}, Sources: []gpu.Source{board}, Report: office.report, Readings: folder, Log: newTestLog()})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Run(ctx) }()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		read := func() Readings {
			var out Readings
			data, err := os.ReadFile(path)
			if err == nil {
				err = json.Unmarshal(data, &out)
			}
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		first := read()
		if first.Schema != ReadingsSchema || first.Agent != "here" || first.Host != "host" || len(first.Readings) != 2 || first.Readings[1].UUID != "GPU-b" {
			t.Errorf("the file holds %+v", first)
		}
		board.set(func() { board.sick["GPU-a"] = gpu.Reading{Gone: "away"} })
		time.Sleep(2 * readEvery)
		synctest.Wait()
		if second := read(); !second.At.After(first.At) || second.Readings[0].Gone != "away" {
			t.Errorf("later the file holds %+v", second)
		}
		for _, place := range []string{folder, path} {
			if info, err := os.Stat(place); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", place, info.Mode(), err)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		left, err := os.ReadDir(folder)
		if err != nil || len(left) != 0 {
			t.Errorf("the agent leaves %v, %v", left, err)
		}
	})
}
