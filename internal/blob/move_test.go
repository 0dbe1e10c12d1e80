package blob

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func opened(t *testing.T) *Dir {
	t.Helper()
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMove(t *testing.T) {
	d, ctx := opened(t), t.Context()
	if _, err := d.Put(ctx, "a/one", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := d.Move(ctx, "a/one", "b/c/two"); err != nil {
		t.Fatal(err)
	}
	if data, err := d.Read(ctx, "b/c/two"); err != nil || string(data) != "1" {
		t.Errorf("moved: %q, %v", data, err)
	}
	if _, err := d.Stat(ctx, "a/one"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the old key: %v, want %v", err, ErrNotFound)
	}
	if err := d.Move(ctx, "a/one", "b/three"); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing to move: %v, want %v", err, ErrNotFound)
	}
	if _, err := d.Put(ctx, "a/one", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if err := d.Move(ctx, "a/one", "b/c/two"); !errors.Is(err, ErrExists) {
		t.Errorf("to a taken key: %v, want %v", err, ErrExists)
	}
	if data, err := d.Read(ctx, "a/one"); err != nil || string(data) != "2" {
		t.Errorf("what could not be moved: %q, %v", data, err)
	}
	if err := d.Move(ctx, "a", "d"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a folder: %v, want %v", err, ErrNotFound)
	}
	if err := d.Move(ctx, "a/one", "../out"); err == nil {
		t.Error("an object leaves the store")
	}
}

func TestAdopt(t *testing.T) {
	from, to, ctx := opened(t), opened(t), t.Context()
	if _, err := from.Put(ctx, "a/one", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := to.Adopt(ctx, from, "a/one"); err != nil {
		t.Fatal(err)
	}
	if err := to.Adopt(ctx, from, "a/one"); !errors.Is(err, ErrExists) {
		t.Errorf("twice: %v, want %v", err, ErrExists)
	}
	if err := to.Adopt(ctx, from, "a/two"); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing there: %v, want %v", err, ErrNotFound)
	}
	if err := from.Remove(ctx, "a/one"); err != nil {
		t.Fatal(err)
	}
	if data, err := to.Read(ctx, "a/one"); err != nil || string(data) != "1" {
		t.Errorf("after the other store let go: %q, %v", data, err)
	}
	if _, err := os.Lstat(filepath.Join(to.path("a"), "one")); err != nil {
		t.Error(err)
	}
}
