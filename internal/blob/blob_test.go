package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := OpenDir(filepath.Join(t.TempDir(), "data", "store"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// files lists everything under the store's folder, its own files included.
func files(t *testing.T, d *Dir) (names []string) {
	t.Helper()
	err := filepath.WalkDir(d.root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, strings.TrimPrefix(path, d.root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPutAndGet(t *testing.T) {
	d, ctx := open(t), t.Context()
	for _, data := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("turn"), 100_000)} {
		key := fmt.Sprintf("segments/p0/%d", len(data))
		ref, err := d.Put(ctx, key, data)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Ref{key, Digest(data), int64(len(data))}); ref != want {
			t.Errorf("put returned %+v, want %+v", ref, want)
		}
		got, err := d.Get(ctx, ref)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s holds %d bytes (%v), want %d", key, len(got), err, len(data))
		}
		if stat, err := d.Stat(ctx, key); err != nil || stat != ref {
			t.Errorf("stat returned %+v and %v, want %+v", stat, err, ref)
		}
	}
	if got, want := Digest([]byte("abc")), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; got != want {
		t.Errorf("the digest of abc is %s, want %s", got, want)
	}
}

func TestPutRefusesATakenKey(t *testing.T) {
	d, ctx := open(t), t.Context()
	first, err := d.Put(ctx, "steps/000001", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"one", "two"} {
		_, err := d.Put(ctx, "steps/000001", []byte(data))
		var exists *ExistsError
		if !errors.Is(err, ErrExists) || !errors.As(err, &exists) || exists.Ref != first {
			t.Errorf("a second put of %q: got %v, want the existing ref %+v", data, err, first)
		}
	}
	if got, err := d.Get(ctx, first); err != nil || string(got) != "one" {
		t.Errorf("the object now holds %q (%v), want one", got, err)
	}
	if got, want := files(t, d), []string{"steps/000001"}; !slices.Equal(got, want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}

func TestConcurrentPutsHaveOneWinner(t *testing.T) {
	d, ctx := open(t), t.Context()
	const writers = 16
	var group sync.WaitGroup
	results := make([]error, writers)
	refs := make([]Ref, writers)
	for i := range writers {
		group.Go(func() { refs[i], results[i] = d.Put(ctx, "steps/000002", fmt.Appendf(nil, "writer %d", i)) })
	}
	group.Wait()
	winner := slices.Index(results, nil)
	if winner < 0 {
		t.Fatalf("nobody won: %v", results)
	}
	for i, err := range results {
		var exists *ExistsError
		if i != winner && (!errors.As(err, &exists) || exists.Ref != refs[winner]) {
			t.Errorf("writer %d got %v, want the ref of writer %d", i, err, winner)
		}
	}
	if data, err := d.Get(ctx, refs[winner]); err != nil || string(data) != fmt.Sprintf("writer %d", winner) {
		t.Errorf("the object holds %q (%v), want the bytes of writer %d", data, err, winner)
	}
}

func TestGetDetectsCorruption(t *testing.T) {
	d, ctx := open(t), t.Context()
	ref, err := d.Put(ctx, "weights/1", []byte("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	for _, now := range []string{"0123456780", "012345678", ""} {
		if err := os.WriteFile(d.path(ref.Key), []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = d.Get(ctx, ref)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) || *corrupt != (CorruptError{ref.Key, ref.Digest, Digest([]byte(now))}) {
			t.Errorf("with %q in the file: got %v, want a CorruptError", now, err)
		}
	}
	for _, digest := range []string{"", "md5:00", "sha256:12", strings.ToUpper(ref.Digest)} {
		if _, err := d.Get(ctx, Ref{Key: ref.Key, Digest: digest}); err == nil || !strings.Contains(err.Error(), "want sha256:") {
			t.Errorf("digest %q: got %v, want an error that says what a digest is", digest, err)
		}
	}
}

func TestMissingObjects(t *testing.T) {
	d, ctx := open(t), t.Context()
	if _, err := d.Put(ctx, "a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"none", "a", "a/b/c", "a/none"} { // "a" is a folder, "a/b" is none
		for op, err := range map[string]error{
			"get":    second(d.Get(ctx, Ref{Key: key, Digest: Digest(nil)})),
			"stat":   second(d.Stat(ctx, key)),
			"read":   second(d.Read(ctx, key)),
			"remove": d.Remove(ctx, key),
		} {
			if want := fmt.Sprintf("%s %q: no such object", op, key); !errors.Is(err, ErrNotFound) || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	}
	for _, key := range []string{"a", "a/b/c"} {
		if _, err := d.Put(ctx, key, nil); err == nil || !strings.Contains(err.Error(), "both an object and a folder") {
			t.Errorf("put %q: got %v, want an error that explains the conflict", key, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestKeys(t *testing.T) {
	d, ctx := open(t), t.Context()
	for _, key := range []string{"", "/a", "a/", "a//b", "..", "a/../b", "./a", ".locks/x", "a/.tmp-1", "a\\b", "a\x00", "a\nb", "\xff", strings.Repeat("k", 201)} {
		for op, err := range map[string]error{
			"put": second(d.Put(ctx, key, nil)), "get": second(d.Get(ctx, Ref{Key: key, Digest: Digest(nil)})), "stat": second(d.Stat(ctx, key)),
			"replace": d.Replace(ctx, key, nil), "append": d.Append(ctx, key, []byte("x")), "remove": d.Remove(ctx, key), "lock": second(d.Lock(ctx, key)),
		} {
			if err == nil || !strings.HasPrefix(err.Error(), op+": key ") {
				t.Errorf("%s of key %q: got %v, want an error about the key", op, key, err)
			}
		}
	}
	if got := files(t, d); len(got) != 0 {
		t.Errorf("illegal keys left %q", got)
	}
	if _, err := d.Put(ctx, "lookup/train/17 é", nil); err != nil {
		t.Errorf("a legal key: %v", err)
	}
}

func TestList(t *testing.T) {
	d, ctx := open(t), t.Context()
	for _, key := range []string{"b/2", "b/10", "b-1", "a", "b/sub/1"} {
		if _, err := d.Put(ctx, key, nil); err != nil {
			t.Fatal(err)
		}
	}
	unlock, err := d.Lock(ctx, "b/lock")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := os.WriteFile(d.path("b")+"/"+tempPrefix+"1", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for prefix, want := range map[string][]string{
		"":      {"a", "b-1", "b/10", "b/2", "b/sub/1"},
		"b":     {"b-1", "b/10", "b/2", "b/sub/1"},
		"b/":    {"b/10", "b/2", "b/sub/1"},
		"b/s":   {"b/sub/1"},
		"b/2":   {"b/2"},
		"a/":    nil,
		"a/b/c": nil,
		"none":  nil,
	} {
		if got, err := d.List(ctx, prefix); err != nil || !slices.Equal(got, want) {
			t.Errorf("list %q gives %q (%v), want %q", prefix, got, err, want)
		}
	}
	if _, err := d.List(ctx, "../"); err == nil {
		t.Error("a prefix outside the store was listed")
	}
}

func TestFoldersAndFilesArePrivate(t *testing.T) {
	d, ctx := open(t), t.Context()
	if _, err := d.Put(ctx, "a/b", nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Append(ctx, "log", []byte("x")), d.Replace(ctx, "control", nil)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{d.root: 0o700, d.path("a"): 0o700, d.path("a/b"): 0o600, d.path("log"): 0o600, d.path("control"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v (%v), want %v", path, info.Mode(), err, want)
		}
	}
}

func TestOpenSweepsOldLeftovers(t *testing.T) {
	d, ctx := open(t), t.Context()
	ref, err := d.Put(ctx, "a/b", []byte("whole"))
	if err != nil {
		t.Fatal(err)
	}
	// What is left when a process dies between link and unlink, long ago; and a write under way.
	old, fresh := filepath.Join(d.root, "a", tempPrefix+"old"), filepath.Join(d.root, "a", tempPrefix+"fresh")
	if err := errors.Join(os.Link(d.path("a/b"), old), os.WriteFile(fresh, []byte("ha"), 0o600)); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * staleTemp)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	again, err := OpenDir(d.root)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := files(t, again), []string{"a/" + tempPrefix + "fresh", "a/b"}; !slices.Equal(got, want) {
		t.Errorf("after opening the folder holds %q, want %q", got, want)
	}
	if data, err := again.Get(ctx, ref); err != nil || string(data) != "whole" {
		t.Errorf("the object holds %q (%v) after the sweep", data, err)
	}
	blocked := d.path("a/b")
	if _, err := OpenDir(blocked); err == nil || !strings.Contains(err.Error(), blocked) {
		t.Errorf("opening a file as a store: got %v, want an error that names it", err)
	}
}

func TestFullAndReadOnlyDisks(t *testing.T) {
	for cause, advice := range map[error]string{
		syscall.ENOSPC: "free space",
		syscall.EDQUOT: "free space",
		syscall.EFBIG:  "ulimit -f unlimited",
		syscall.EROFS:  "mount that file system writable",
		syscall.EACCES: "give this user access",
	} {
		d, ctx := open(t), t.Context()
		if err := errors.Join(d.Append(ctx, "log", []byte("first")), d.Replace(ctx, "control", []byte("run"))); err != nil {
			t.Fatal(err)
		}
		d.write = func(file *os.File, data []byte) error {
			if _, err := file.Write(data[:len(data)/2]); err != nil {
				return err
			}
			return &fs.PathError{Op: "write", Path: file.Name(), Err: cause}
		}
		for op, err := range map[string]error{
			"put":     second(d.Put(ctx, "weights/1", []byte("0123456789"))),
			"replace": d.Replace(ctx, "control", []byte("stop")),
			"append":  d.Append(ctx, "log", []byte("second")),
		} {
			if !errors.Is(err, cause) || !strings.Contains(err.Error(), advice) || !strings.Contains(err.Error(), d.root) {
				t.Errorf("%s: got %v, want %v at a path, and %q", op, err, cause, advice)
			}
		}
		if got, want := files(t, d), []string{"control", "log"}; !slices.Equal(got, want) {
			t.Errorf("after %v the folder holds %q, want %q", cause, got, want)
		}
		control, _ := d.Read(ctx, "control")
		log, _ := d.Read(ctx, "log")
		if string(control) != "run" || string(log) != "first\n" {
			t.Errorf("after %v the control object holds %q and the log %q", cause, control, log)
		}
		working := open(t)
		d.write = working.write
		if _, err := d.Put(ctx, "weights/1", nil); err != nil {
			t.Errorf("put once there is room again: %v", err)
		}
	}
	noLinks := advise("put", "k", &os.LinkError{Op: "link", Err: syscall.EPERM})
	if !strings.Contains(noLinks.Error(), "hard links") {
		t.Errorf("a file system without hard links: got %v", noLinks)
	}
}

func TestCancelledContexts(t *testing.T) {
	d := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for op, err := range map[string]error{
		"put": second(d.Put(ctx, "k", nil)), "get": second(d.Get(ctx, Ref{Key: "k", Digest: Digest(nil)})), "stat": second(d.Stat(ctx, "k")), "list": second(d.List(ctx, "")),
		"replace": d.Replace(ctx, "k", nil), "append": d.Append(ctx, "k", []byte("x")), "remove": d.Remove(ctx, "k"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s under a cancelled context: got %v", op, err)
		}
	}
}

func TestFaulty(t *testing.T) {
	d, ctx := open(t), t.Context()
	broken := errors.New("cable cut")
	var plan error
	var asked []string
	store := Faulty(d, func(op, key string) error {
		asked = append(asked, op+" "+key)
		return plan
	})
	if _, err := store.Put(ctx, "a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	plan = broken
	if _, err := store.Put(ctx, "b", nil); err != broken {
		t.Errorf("a planned failure: got %v", err)
	}
	if _, err := d.Stat(ctx, "b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after a planned failure the object is there (%v)", err)
	}
	plan = Lost(broken)
	if _, err := store.Put(ctx, "b", nil); !errors.Is(err, broken) {
		t.Errorf("a lost answer: got %v", err)
	}
	if _, err := d.Stat(ctx, "b"); err != nil {
		t.Errorf("after a lost answer the object is not there: %v", err)
	}
	if _, err := store.Put(ctx, "b", nil); !errors.Is(err, ErrExists) {
		t.Errorf("a lost answer to an operation that failed: got %v, want its own error", err)
	}
	plan = nil
	ref, err := store.Stat(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := store.Get(ctx, ref); err != nil || string(data) != "x" {
		t.Errorf("get gives %q (%v)", data, err)
	}
	if keys, err := store.List(ctx, ""); err != nil || !slices.Equal(keys, []string{"a", "b"}) {
		t.Errorf("list gives %q (%v)", keys, err)
	}
	if want := []string{"put a", "put b", "put b", "put b", "stat a", "get a", "list "}; !slices.Equal(asked, want) {
		t.Errorf("the plan was asked %q, want %q", asked, want)
	}
}
