package cublaslt

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOpenReadsTheVersion(t *testing.T) {
	e := emulate(t)
	if got := e.Version(); got != (Version{12, 8, 4}) || got.String() != "12.8.4" {
		t.Errorf("version %v, want 12.8.4", got)
	}
	if !strings.HasSuffix(e.Path(), "libcublasLt.so.12") {
		t.Errorf("path %q", e.Path())
	}
}

// TestUnusableLibraries wants each reason by name, and an explicit path to stand alone.
func TestUnusableLibraries(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, reason string }{
		{filepath.Join(dir, "missing.so"), "No such file"},
		{text, "file too short"},
		{placed(t, "-DcublasLtMatmul=renamed", filepath.Join(dir, "without.so")), "it has no cublasLtMatmul, which cuBLASLt has from version 11 on"},
		{placed(t, "-DEMULATOR_CUBLASLT_MAJOR=10", filepath.Join(dir, "old.so")), "it is version 10.8.4, want 11 or later"},
	} {
		_, err := Open(c.path)
		var absent *Absent
		if !errors.As(err, &absent) || len(absent.Tried) != 1 || absent.Tried[0].Path != c.path || !strings.Contains(absent.Tried[0].Reason, c.reason) {
			t.Errorf("%s: %v, want one attempt with %q", c.path, err, c.reason)
			continue
		}
		for _, part := range []string{"no usable cuBLASLt: " + c.path, c.reason, "set TURNWISE_CUBLASLT"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error %q does not say %q", c.path, err, part)
			}
		}
	}
}

func TestSearchTakesTheFirstUsable(t *testing.T) {
	dir := t.TempDir()
	placed(t, "-DEMULATOR_CUBLASLT_MAJOR=10", filepath.Join(dir, "old/libcublasLt.so.10"))
	placed(t, "", filepath.Join(dir, "new/libcublasLt.so.12"))
	placed(t, "-DcublasLtMatmul=renamed", filepath.Join(dir, "new/libcublasLt.so.13"))
	at := places{
		names: []string{"libnosuchcublasLt.so.13"},
		files: []string{filepath.Join(dir, "empty/lib*"), filepath.Join(dir, "old/lib*"), filepath.Join(dir, "new/lib*")},
	}
	l, err := at.open()
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "new/libcublasLt.so.12"); l.Path() != want {
		t.Errorf("opened %s, want %s", l.Path(), want)
	}
	at.files = at.files[:2]
	_, err = at.open()
	var absent *Absent
	if !errors.As(err, &absent) || len(absent.Tried) != 3 {
		t.Fatalf("%v, want three attempts", err)
	}
	for i, reason := range []string{"cannot open shared object file", "no such file", "it is version 10.8.4"} {
		if !strings.Contains(absent.Tried[i].Reason, reason) {
			t.Errorf("attempt %d: %v, want %q", i, absent.Tried[i], reason)
		}
	}
}

// TestUsualPlaces holds the search to patterns that can match and to names with a version first: the bare
// name is a link that only development packages have.
func TestUsualPlaces(t *testing.T) {
	p := usual()
	for _, pattern := range p.files {
		if _, err := filepath.Match(pattern, "x"); err != nil || !filepath.IsAbs(pattern) {
			t.Errorf("%s: %v, want the pattern of an absolute path", pattern, err)
		}
	}
	if p.names[0] != "libcublasLt.so.13" || p.names[len(p.names)-1] != "libcublasLt.so" {
		t.Errorf("names %v", p.names)
	}
	if l, err := Open(""); err == nil {
		t.Logf("this machine has cuBLASLt %v at %s", l.Version(), l.Path())
	} else if absent := (*Absent)(nil); !errors.As(err, &absent) || len(absent.Tried) < len(p.names) {
		t.Errorf("%v, want an attempt for each name", err)
	}
}

// TestEnvironmentsAreSearched puts a library where a wheel in a virtual environment has it that is active, or whose python3 a link on the
// PATH leads to.
func TestEnvironmentsAreSearched(t *testing.T) {
	dir := t.TempDir()
	want := filepath.Join(dir, "lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13")
	for _, file := range []string{want, filepath.Join(dir, "bin/python3")} {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	links := filepath.Join(t.TempDir(), "bin")
	if err := os.Mkdir(links, 0o700); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"python3": "python", "python": filepath.Join(dir, "bin/python3")} {
		if err := os.Symlink(target, filepath.Join(links, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(dir, "bin"), links} {
		t.Setenv("PATH", path)
		found := slices.ContainsFunc(usual().files, func(pattern string) bool {
			files, err := filepath.Glob(pattern)
			return err == nil && slices.Equal(files, []string{want})
		})
		if !found {
			t.Errorf("with python3 in %s, %s is nowhere looked for: %v", path, want, usual().files)
		}
	}
}
