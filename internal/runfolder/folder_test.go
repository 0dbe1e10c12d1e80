package runfolder

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

func open(t *testing.T) *Folder {
	t.Helper()
	f, err := Open(t.TempDir(), "run-1")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// write replaces a file of the folder behind its back.
func write(t *testing.T, f *Folder, key, text string) {
	t.Helper()
	path := filepath.Join(f.Path, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRunIDs(t *testing.T) {
	for id, legal := range map[string]bool{
		"quickstart-7f3a": true, "A_b.c-9": true, strings.Repeat("x", 100): true,
		"": false, ".": false, "..": false, ".hidden": false, "a/b": false, `a\b`: false, "a b": false, "ä": false,
		"a\x00": false, "../up": false, strings.Repeat("x", 101): false,
	} {
		dir := t.TempDir()
		_, err := Open(dir, id)
		if (err == nil) != legal {
			t.Errorf("%q: %v, legal: %v", id, err, legal)
		}
		if ids, err := List(dir); !legal && (err != nil || len(ids) != 0) {
			t.Errorf("%q leaves %v, %v", id, ids, err)
		}
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	if _, err := Resolve(dir, "a"); !errors.Is(err, ErrNoRun) {
		t.Errorf("without runs: %v, want %v", err, ErrNoRun)
	}
	for _, id := range []string{"apple", "apple-2", "banana"} {
		if _, err := Open(dir, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(Runs(dir), ".trash"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(Runs(dir), "blueberry"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := List(dir)
	if diff := cmp.Diff([]string{"apple", "apple-2", "banana"}, ids); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for prefix, want := range map[string]string{"apple": "apple", "apple-": "apple-2", "b": "banana", "banana": "banana"} {
		if got, err := Resolve(dir, prefix); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", prefix, got, err, want)
		}
	}
	if _, err := Resolve(dir, "app"); err == nil || !strings.Contains(err.Error(), "2 runs: apple, apple-2") {
		t.Errorf("an ambiguous prefix: %v", err)
	}
	for _, gone := range []string{"c", "blue", ".trash", "../"} {
		if _, err := Resolve(dir, gone); !errors.Is(err, ErrNoRun) {
			t.Errorf("%q: %v, want %v", gone, err, ErrNoRun)
		}
	}
}

// TestControlNeverGoesBack publishes in any order; the newest revision stays.
func TestControlNeverGoesBack(t *testing.T) {
	f := open(t)
	var newest runstate.Control
	draws := rand.New(rand.NewPCG(1, 1))
	for i := range 60 {
		control := runstate.Control{Revision: i/4 + draws.IntN(4), Version: draws.Int(), Stopped: i%2 == 0}
		if err := f.PublishControl(t.Context(), control); err != nil {
			t.Fatal(err)
		}
		if control.Revision > newest.Revision {
			newest = control
		}
		if got, err := f.Control(t.Context()); err != nil || !cmp.Equal(got, newest) {
			t.Fatalf("got %+v, %v; want %+v", got, err, newest)
		}
	}
}

func TestControlIsRead(t *testing.T) {
	f := open(t)
	if got, err := f.Control(t.Context()); err != nil || !cmp.Equal(got, runstate.Control{}) {
		t.Errorf("before the first: %+v, %v; want zero", got, err)
	}
	for _, text := range []string{"", "{", `{"revision":1,"unknown":2}`, `{"revision":"one"}`, `{"revision":1}{}`, "null x"} {
		write(t, f, ControlKey, text)
		var malformed *FormatError
		if _, err := f.Control(t.Context()); !errors.As(err, &malformed) || !strings.Contains(err.Error(), ControlKey) {
			t.Errorf("%q: %v; want a format error that names the file", text, err)
		}
		if err := f.PublishControl(t.Context(), runstate.Control{Revision: 9}); err == nil {
			t.Errorf("%q is overwritten without a word", text)
		}
	}
}

func TestPutOnceAndKeys(t *testing.T) {
	f := open(t)
	digest := "sha256:0123456789abcdef"
	if a, b := WeightsKey(3, digest), OptimizerKey(3, digest); a != "weights/000003.0123456789ab" || b != "optimizer/000003.0123456789ab" {
		t.Errorf("keys %q and %q", a, b)
	}
	first, err := f.PutOnce(t.Context(), SegmentKey(7), []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.PutOnce(t.Context(), SegmentKey(7), []byte("two"))
	if err != nil || second != first {
		t.Errorf("the second put gives %+v, %v; want %+v", second, err, first)
	}
	for _, number := range []int{1000000, 999999, 2} {
		if _, err := f.PutOnce(t.Context(), SegmentKey(number), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	write(t, f, "segments/notes.txt", "not a group")
	write(t, f, "segments/-1", "not a group")
	groups, err := f.Groups(t.Context())
	if diff := cmp.Diff([]int{2, 7, 999999, 1000000}, groups); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestFaultyFolder(t *testing.T) {
	broken := errors.New("broken")
	f := open(t).Faulty(func(op, key string) error {
		if key == "fine" {
			return nil
		}
		return broken
	})
	ref, err := f.Put(t.Context(), "fine", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if data, err := f.Get(t.Context(), ref); err != nil || string(data) != "x" {
		t.Errorf("got %q, %v", data, err)
	}
	if _, err := f.Put(t.Context(), "other", nil); !errors.Is(err, broken) {
		t.Errorf("put: %v, want %v", err, broken)
	}
	if _, err := f.Manifest(t.Context(), 0); !errors.Is(err, broken) || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("manifest: %v, want %v", err, broken)
	}
	if _, err := f.Groups(t.Context()); !errors.Is(err, broken) {
		t.Errorf("groups: %v, want %v", err, broken)
	}
}
