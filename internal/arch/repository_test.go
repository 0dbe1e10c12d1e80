package arch

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/turnwise-rl/turnwise"
)

// source is one Go file of the repository.
type source struct {
	path    string // slash-separated, from the root
	dir     string // "." for the root
	test    bool
	lines   int
	made    bool // written by a generator
	syntax  *ast.File
	imports []string
}

// repository is what the tests look at.
type repository struct {
	files   []string // every file that belongs to the repository
	sources []source
	set     *token.FileSet
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// read parses the whole repository once.
var read = sync.OnceValues(func() (*repository, error) {
	files, err := list()
	if err != nil {
		return nil, err
	}
	r := &repository{files: files, set: token.NewFileSet()}
	for _, name := range files {
		if !strings.HasSuffix(name, ".go") || slices.Contains(strings.Split(name, "/"), "testdata") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, err
		}
		syntax, err := parser.ParseFile(r.set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		s := source{path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			lines: bytes.Count(text, []byte("\n")), made: generated.Match(text), syntax: syntax}
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return nil, err
			}
			s.imports = append(s.imports, imported)
		}
		r.sources = append(r.sources, s)
	}
	return r, nil
})

// list returns the repository's files: what git knows or would add, or every file where there is no git.
func list() ([]string, error) {
	git := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	git.Dir = root
	if out, err := git.Output(); err == nil && len(out) > 0 {
		var files []string
		for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
			if _, err := os.Lstat(filepath.Join(root, name)); err == nil { // deleted, but not yet for git
				files = append(files, name)
			}
		}
		return files, nil
	}
	var files []string
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if entry.Name() == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		relative, err := filepath.Rel(root, name)
		files = append(files, filepath.ToSlash(relative))
		return err
	})
	return files, err
}

func open(t *testing.T) *repository {
	t.Helper()
	r, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.sources) < 100 {
		t.Fatalf("found %d Go files below %s: too few to be the repository", len(r.sources), root)
	}
	return r
}

// packages returns the sources by directory, tests left out.
func (r *repository) packages() map[string][]source {
	out := map[string][]source{}
	for _, s := range r.sources {
		if !s.test {
			out[s.dir] = append(out[s.dir], s)
		}
	}
	return out
}

// place is where a node stands, for people.
func (r *repository) place(pos token.Pos) string {
	p := r.set.Position(pos)
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// within reports whether a path is prefix or lies below it.
func within(name, prefix string) bool {
	return name == prefix || strings.HasPrefix(name, prefix+"/")
}
