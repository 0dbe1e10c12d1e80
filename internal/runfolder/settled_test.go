package runfolder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/workflows/runstate"
)

// committed makes a manifest with groups trained and dropped.
func committed(t *testing.T, f *Folder, step int, trained, dropped []int) {
	t.Helper()
	m := Manifest{Step: step, Kind: runstate.Reinforce, WeightsDigest: "sha256:aa", OptimizerDigest: "sha256:bb"}
	for _, group := range trained {
		m.Batch = append(m.Batch, runstate.GroupRef{Number: group})
	}
	for _, group := range dropped {
		m.Dropped = append(m.Dropped, Dropped{Group: group, Reason: "stale"})
	}
	if err := f.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func TestSettled(t *testing.T) {
	f, ctx := open(t), t.Context()
	if s, err := f.Settled(ctx); err != nil || s.Next != 0 || s.Open != nil {
		t.Errorf("an empty folder: %+v, %v", s, err)
	}
	committed(t, f, 0, nil, nil)
	committed(t, f, 1, []int{0, 3}, nil)
	committed(t, f, 2, []int{5}, []int{2, 1})
	for _, group := range []int{3, 7} {
		if _, err := f.Put(ctx, SegmentKey(group), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		begun []int
		next  int
		open  []int
	}{{nil, 8, []int{4, 6, 7}}, {[]int{4}, 8, []int{4, 6, 7}}, {[]int{9, 2}, 10, []int{4, 6, 7, 8, 9}}} {
		s, err := f.Settled(ctx, test.begun...)
		if err != nil || s.Next != test.next || cmp.Diff(test.open, s.Open) != "" {
			t.Errorf("begun %v: next %d, open %v, %v; want %d, %v", test.begun, s.Next, s.Open, err, test.next, test.open)
		}
		if diff := cmp.Diff(map[int]int{0: 1, 3: 1, 5: 2}, s.Trained); diff != "" {
			t.Errorf("trained (-want +got):\n%s", diff)
		}
		if !s.Settled(1) || !s.Settled(5) || s.Settled(4) {
			t.Errorf("dropped %v, trained %v", s.Dropped, s.Trained)
		}
	}
}

// TestSetAside moves only what is wrong, keeps every wrong object, and frees the key.
func TestSetAside(t *testing.T) {
	f, ctx := open(t), t.Context()
	good, err := f.Put(ctx, SegmentKey(7), []byte("good"))
	if err != nil {
		t.Fatal(err)
	}
	if place, err := f.SetAside(ctx, good); err != nil || place != "" {
		t.Errorf("a right object goes to %q, %v", place, err)
	}
	for number := 1; number <= 2; number++ {
		bad := fmt.Sprint("bad", number)
		write(t, f, SegmentKey(7), bad)
		place, err := f.SetAside(ctx, good)
		if err != nil || place != fmt.Sprintf("corrupt/segments/000007.%d", number) {
			t.Errorf("%s goes to %q, %v", bad, place, err)
		}
		if data, err := os.ReadFile(filepath.Join(f.Path, place)); err != nil || string(data) != bad {
			t.Errorf("%s holds %q, %v", place, data, err)
		}
		if place, err := f.SetAside(ctx, good); err != nil || place != "" {
			t.Errorf("a free key: %q, %v", place, err)
		}
		if _, err := f.Put(ctx, SegmentKey(7), []byte("good")); err != nil {
			t.Error(err)
		}
	}
	if place, err := f.SetAside(ctx, blob.Ref{Key: SegmentKey(7)}); err != nil || place != "corrupt/segments/000007.3" {
		t.Errorf("whatever is there goes to %q, %v", place, err)
	}
}

func TestRevisions(t *testing.T) {
	f, ctx := open(t), t.Context()
	for revision, text := range []string{"zero", "one"} {
		for range 2 { // an attempt that is made again
			if err := f.PutConfig(ctx, revision, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := f.Config(ctx, revision); err != nil || string(got) != text {
			t.Errorf("revision %d is %q, %v", revision, got, err)
		}
		var other *RevisionError
		if err := f.PutConfig(ctx, revision, []byte("other")); !errors.As(err, &other) || other.Revision != revision {
			t.Errorf("another revision %d: %v", revision, err)
		}
	}
	if _, err := f.Config(ctx, 2); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("revision 2: %v, want %v", err, blob.ErrNotFound)
	}
}

// TestForkOfAFork finds the config of each step in the run that made it.
func TestForkOfAFork(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	var before *Folder
	for i, run := range []string{"a", "b", "c"} {
		f, err := Open(dir, run)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if before != nil {
				if err := f.AdoptHistory(ctx, before); err != nil {
					t.Fatal(err)
				}
				if err := f.PutFork(ctx, Fork{Run: filepath.Base(before.Path), Step: 3 * i}); err != nil {
					t.Fatal(err)
				}
			}
			for revision := range 2 {
				if err := f.PutConfig(ctx, revision, fmt.Appendf(nil, "%s%d", run, revision)); err != nil {
					t.Fatal(err)
				}
			}
		}
		before = f
	}
	for step, want := range map[int]string{0: "a1", 3: "a1", 4: "b1", 6: "b1", 7: "c1", 99: "c1"} {
		if got, err := before.ConfigOf(ctx, step, 1); err != nil || string(got) != want {
			t.Errorf("step %d: %q, %v; want %q", step, got, err, want)
		}
	}
	if err := before.PutFork(ctx, Fork{Run: "b", Step: 5}); err == nil {
		t.Error("a run becomes a fork of another step")
	}
}

func TestSource(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	f, err := Open(dir, "older")
	if err != nil {
		t.Fatal(err)
	}
	committed(t, f, 0, nil, nil)
	committed(t, f, 1, nil, nil)
	for _, test := range []struct {
		fork Fork
		want error
	}{{Fork{Run: "older", Step: 1}, nil}, {Fork{Run: "older", Step: 2}, ErrNoStep}, {Fork{Run: "older", Step: -1}, ErrNoStep}, {Fork{Run: "old", Step: 1}, ErrNoRun}} {
		if _, err := Source(ctx, dir, test.fork); !errors.Is(err, test.want) {
			t.Errorf("%+v: %v, want %v", test.fork, err, test.want)
		}
	}
	if ids, err := List(dir); err != nil || len(ids) != 1 {
		t.Errorf("looking for a run leaves %v, %v", ids, err)
	}
}

// TestInputsAreChecked changes what was prepared; before step 0 is committed nothing vouches for it.
func TestInputsAreChecked(t *testing.T) {
	f, ctx := open(t), t.Context()
	ref, err := f.Put(ctx, DemonstrationsKey, []byte("demonstrations"))
	if err != nil {
		t.Fatal(err)
	}
	if data, err := f.Input(ctx, DemonstrationsKey); err != nil || string(data) != "demonstrations" {
		t.Errorf("%q, %v", data, err)
	}
	if err := f.Commit(ctx, Manifest{Inputs: []blob.Ref{ref}}); err != nil {
		t.Fatal(err)
	}
	if data, err := f.Input(ctx, DemonstrationsKey); err != nil || string(data) != "demonstrations" {
		t.Errorf("%q, %v", data, err)
	}
	write(t, f, DemonstrationsKey, "Demonstrations")
	var corrupt *blob.CorruptError
	if _, err := f.Input(ctx, DemonstrationsKey); !errors.As(err, &corrupt) {
		t.Errorf("changed: %v", err)
	}
	if _, err := f.Input(ctx, TokenizerKey); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("never prepared: %v", err)
	}
}
