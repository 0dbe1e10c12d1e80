package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// PathError is an error about one value of a section, given by its path within that section: a
// component whose Validate returns one gets the message shown at the value's line. Errors joined
// with errors.Join are shown one by one. Any error type with a ConfigPath method works the same,
// so a component need not import this package.
type PathError struct {
	// Path is the value's path relative to the value validated, for example "terms[1].compare"; ""
	// is the value itself.
	Path string
	// Err says what is wrong and how to fix it.
	Err error
}

func (e *PathError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the error without its path.
func (e *PathError) Unwrap() error { return e.Err }

// ConfigPath returns the path.
func (e *PathError) ConfigPath() string { return e.Path }

// Error is one thing wrong with a configuration.
type Error struct {
	// Where is "FILE:LINE:COLUMN", "override N: KEY=VALUE", or "" when no source is to blame.
	Where string
	// Path is the resolved path of the value, "" when the text could not be read that far.
	Path string
	// Message says what is wrong and what is known.
	Message string
	// Excerpt is the source around the place with a caret under it; "" when there is no place.
	Excerpt string

	at   place
	path string // Path, also where the override's text already shows it
}

// Error is "WHERE: PATH: MESSAGE" on one line, followed by the excerpt.
func (e *Error) Error() string {
	if e.Excerpt == "" {
		return e.Line()
	}
	return e.Line() + "\n" + e.Excerpt
}

// Line is the error without its excerpt.
func (e *Error) Line() string {
	parts := make([]string, 0, 3)
	for _, part := range []string{e.Where, e.Path, e.Message} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ")
}

// maxErrors bounds what is printed about a file that is no configuration at all.
const maxErrors = 100

// Errors is everything wrong with a configuration, in the order of the sources. It is a user's
// mistake, not a failure: a command prints it and exits 2.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// UsageError marks the list as the user's mistake.
func (e Errors) UsageError() {}

func (e *Errors) add(at place, path, message string) {
	one := &Error{Path: path, Message: message, at: at, path: path}
	if at.source != nil {
		if at.source.override > 0 {
			one.Where = at.String() + ": " + clip(strings.Join(strings.Fields(string(at.source.Data)), " "), 1)
			if strings.HasPrefix(string(at.source.Data), path+"=") {
				one.Path = ""
			}
		} else {
			one.Where = at.String()
		}
	}
	*e = append(*e, one)
}

// ordered sorts by source, line and column, drops repetitions and returns nil for an empty list.
func (e Errors) ordered(sources []*Source) error {
	if len(e) == 0 {
		return nil
	}
	rank := func(at place) int { return slices.Index(sources, at.source) }
	sorted := slices.Clone(e)
	slices.SortStableFunc(sorted, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(rank(a.at), rank(b.at)), cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.column, b.at.column))
	})
	sorted = slices.CompactFunc(sorted, func(a, b *Error) bool { return a.Line() == b.Line() })
	if more := len(sorted) - maxErrors; more > 0 {
		sorted = append(sorted[:maxErrors], &Error{Message: fmt.Sprintf("%d more errors are not shown: mend these first", more)})
	}
	for _, one := range sorted {
		if one.at.source != nil {
			one.Excerpt = excerpt(one.at)
		}
	}
	return sorted
}

// excerpt prints the line of a place under the two before it, with a caret, in the form goccy/go-yaml
// gives its own errors. It is printed from the text, not from tokens, because a semantic error or an
// override has no token chain to print.
func excerpt(at place) string {
	lines := strings.Split(strings.ReplaceAll(string(at.source.Data), "\r\n", "\n"), "\n")
	if at.line < 1 || at.line > len(lines) {
		return ""
	}
	var b strings.Builder
	single := at.source.override > 0
	width := max(2, len(fmt.Sprint(at.line)))
	for number := max(1, at.line-2); number <= at.line; number++ {
		line := clip(strings.ReplaceAll(lines[number-1], "\t", " "), at.column)
		switch {
		case single:
			fmt.Fprintf(&b, ">  %s\n", line)
		case number == at.line:
			fmt.Fprintf(&b, "> %*d | %s\n", width, number, line)
		default:
			fmt.Fprintf(&b, "  %*d | %s\n", width, number, line)
		}
	}
	margin := len("> ") + width + len(" | ")
	if single {
		margin = len(">  ")
	}
	b.WriteString(strings.Repeat(" ", margin+max(0, at.column-1)))
	b.WriteByte('^')
	return b.String()
}

// clip keeps an excerpt's line from flooding the terminal while the caret still lands on it.
func clip(line string, column int) string {
	most := max(160, column+20)
	runes := []rune(line)
	if len(runes) <= most {
		return line
	}
	return string(runes[:most]) + "…"
}

// known ends a message about an unknown name with the names that exist and the nearest of them.
func known(name string, names []string) string {
	if len(names) == 0 {
		return "; nothing is known here"
	}
	message := "; known: " + strings.Join(names, ", ")
	if near := nearest(name, names); near != "" {
		message += fmt.Sprintf("; did you mean %q?", near)
	}
	return message
}

// nearest returns the name within a third of its length in edits, "" when there is none.
func nearest(name string, names []string) string {
	best, bestDistance := "", 1<<30
	for _, candidate := range names {
		d := editDistance(strings.ToLower(name), strings.ToLower(candidate))
		if d < bestDistance && d <= max(1, len(candidate)/3) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// editDistance counts insertions, deletions, substitutions and swaps of neighbours.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 1 << 20 // no name of ours is that long
	}
	before, previous, current := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}
