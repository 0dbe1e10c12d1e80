package arch

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/configs"
)

func readLines(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

// documents are the prose that a person reads first.
func documents(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, name := range open(t).files {
		if strings.HasSuffix(name, ".md") {
			out = append(out, name)
		}
	}
	if !slices.Contains(out, "README.md") {
		t.Fatal("no README.md")
	}
	return out
}

// block is a fenced piece of a document.
type block struct {
	file, language, text string
	line                 int
}

func blocks(t *testing.T, name string) []block {
	t.Helper()
	var out []block
	inside := false
	for i, line := range readLines(t, name) {
		switch {
		case strings.HasPrefix(line, "```") && !inside:
			inside = true
			out = append(out, block{file: name, language: strings.TrimPrefix(line, "```"), line: i + 1})
		case strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			out[len(out)-1].text += line + "\n"
		}
	}
	if inside {
		t.Errorf("%s: a fenced block is not closed", name)
	}
	return out
}

// TestShownConfigsLoad loads every YAML block of the documents that begins with "name:" as a run.
func TestShownConfigsLoad(t *testing.T) {
	shown := map[string]int{}
	for _, name := range documents(t) {
		for _, b := range blocks(t, name) {
			if b.language != "yaml" || !strings.HasPrefix(b.text, "name:") && !strings.Contains(b.text, "\nname:") {
				continue
			}
			shown[name]++
			if _, err := configs.Load([]configs.Source{{Name: name, Data: []byte(b.text)}}, nil); err != nil {
				t.Errorf("%s:%d: the run shown here does not load:\n%v", name, b.line, err)
			}
		}
	}
	for _, name := range []string{"README.md", "docs/writing-a-method.md"} {
		if shown[name] == 0 {
			t.Errorf("%s shows no run: it is where a reader learns to write one", name)
		}
	}
}

// packageClause begins a whole program.
var packageClause = regexp.MustCompile(`(?m)^package \w+$`)

// TestShownProgramsAreFiles holds whole programs in the documents to the files that the compiler and the tests see.
func TestShownProgramsAreFiles(t *testing.T) {
	programs := map[string]string{}
	for _, s := range open(t).sources {
		programs[strings.Join(readLines(t, s.path), "\n")] = s.path
	}
	quoted := map[string][]string{}
	for _, name := range documents(t) {
		for _, b := range blocks(t, name) {
			if b.language != "go" || !packageClause.MatchString(b.text) {
				continue
			}
			file, ok := programs[b.text]
			if !ok {
				t.Errorf("%s:%d: the program shown here is no file of the repository, word for word: copy the file again", name, b.line)
			}
			quoted[name] = append(quoted[name], file)
		}
	}
	for name, files := range map[string][]string{
		"docs/writing-a-method.md":       {"algos/example_part_test.go", "kernels/graph/example_objective_test.go"},
		"docs/writing-an-environment.md": {"rollout/env/internal/example/example.go"},
	} {
		for _, file := range files {
			if !slices.Contains(quoted[name], file) {
				t.Errorf("%s does not quote %s", name, file)
			}
		}
	}
}

// command finds an invocation of the program in a shell block.
var command = regexp.MustCompile(`(?:^|[\s;&|(])(?:\./|go run \./cmd/)?turnwise ([a-z]+)`)

// TestShownCommandsExist checks the verbs of the shell blocks.
func TestShownCommandsExist(t *testing.T) {
	r := open(t)
	seen := 0
	for _, name := range documents(t) {
		for _, b := range blocks(t, name) {
			if b.language != "sh" {
				continue
			}
			for _, match := range command.FindAllStringSubmatch(b.text, -1) {
				seen++
				if file := "cmd/turnwise/" + match[1] + ".go"; !slices.Contains(r.files, file) {
					t.Errorf("%s:%d: `turnwise %s`: no such verb (no %s)", name, b.line, match[1], file)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("no document shows a command")
	}
}

// link finds a relative link of a document.
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)\s]*)?\)`)

// TestLinksLead checks that relative links point at files of the repository.
func TestLinksLead(t *testing.T) {
	r := open(t)
	for _, name := range documents(t) {
		for number, line := range readLines(t, name) {
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				target := path.Join(path.Dir(name), match[1])
				leads := slices.ContainsFunc(r.files, func(file string) bool { return within(file, target) })
				if !leads {
					t.Errorf("%s:%d links to %s, which is not there", name, number+1, match[1])
				}
			}
		}
	}
}
