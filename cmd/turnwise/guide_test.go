//go:build slim

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/turnwise-rl/turnwise/algos"
)

// shownCommand is a command of a page with what the page says it prints.
type shownCommand struct {
	line    int
	command string
	output  string
}

// guide reads a page: the commands of its console blocks, and its YAML files, which begin with "# NAME.yaml".
func guide(t *testing.T, path string) (commands []shownCommand, files map[string]string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	language, file := "", ""
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```") && language == "":
			language, file = strings.TrimPrefix(line, "```")+" block", ""
		case strings.HasPrefix(line, "```"):
			language = ""
		case language == "console block" && strings.HasPrefix(line, "$ turnwise "):
			commands = append(commands, shownCommand{line: i + 1, command: strings.TrimPrefix(line, "$ turnwise ")})
		case language == "console block" && len(commands) > 0:
			commands[len(commands)-1].output += line + "\n"
		case language == "yaml block":
			if strings.HasPrefix(line, "# ") && strings.HasSuffix(line, ".yaml") {
				file = strings.TrimPrefix(line, "# ")
			}
			if file != "" {
				files[file] += line + "\n"
			}
		}
	}
	return commands, files
}

// TestGuideShowsWhatIsPrinted runs the commands of docs/writing-a-method.md where it says to, in the repository's
// root with its files beside, and compares what they print. In the page … stands for any text, and a line … for any
// lines.
func TestGuideShowsWhatIsPrinted(t *testing.T) {
	commands, files := guide(t, "../../docs/writing-a-method.md")
	if len(commands) < 5 || len(files) == 0 {
		t.Fatalf("%d commands and %d files: the page shows how methods are tried", len(commands), len(files))
	}
	folder := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"algos", "kernels"} {
		target, err := filepath.Abs("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(folder)
	data := t.TempDir()
	for _, c := range commands {
		out, errs, code := runHere(t, data, words(c.command)...)
		if code != 0 {
			out = errs
		}
		if !asShown(c.output, out) {
			t.Errorf("docs/writing-a-method.md:%d: turnwise %s prints\n%s", c.line, c.command, out)
		}
	}
}

// TestGuideNamesEveryKindOfPart holds the table of parts to the program's.
func TestGuideNamesEveryKindOfPart(t *testing.T) {
	text, err := os.ReadFile("../../docs/writing-a-method.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range algos.Tables() {
		row := regexp.MustCompile("(?m)^\\| `[^|]*` \\| `" + kind.Name + "` \\|[^|]*\\|([^|]*)\\|$").FindSubmatch(text)
		if row == nil {
			t.Errorf("the table of parts has no row of kind %s", kind.Name)
			continue
		}
		for _, name := range regexp.MustCompile("`([^`]*)`").FindAllSubmatch(row[1], -1) {
			known := func(v algos.Variant) bool { return v.Name == string(name[1]) }
			if !slices.ContainsFunc(kind.Variants, known) {
				t.Errorf("the table of parts names %s.%s, which is none", kind.Name, name[1])
			}
		}
	}
}

// words cuts a command line as a shell does; single quotes hold a word together.
func words(command string) []string {
	var out []string
	for _, word := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(command, -1) {
		out = append(out, strings.Trim(word, "'"))
	}
	return out
}

func asShown(shown, printed string) bool {
	pattern := regexp.QuoteMeta(shown)
	pattern = regexp.MustCompile(`(?m)^…\n`).ReplaceAllString(pattern, `(?:.*\n)*`)
	pattern = strings.ReplaceAll(pattern, "…", `.*`)
	return regexp.MustCompile(`^` + pattern + `$`).MatchString(printed)
}
