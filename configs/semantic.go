package configs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// attach adds err, found in the section n that lies at path, at the place of the value it speaks
// of. Joined errors are added one by one; what is already said about a value is not said again.
func (e *Errors) attach(n *node, path string, err error) {
	for outer := err; outer != nil; outer = errors.Unwrap(outer) {
		if many, ok := outer.(interface{ Unwrap() []error }); ok {
			for _, one := range many.Unwrap() {
				e.attach(n, path, one)
			}
			return
		}
	}
	inner, message := subject(n, path, err)
	full := path
	for _, step := range splitPath(inner) {
		full = step.extend(full)
	}
	at, chosen := locate(n, inner), inner
	others := mentions(n, inner, message)
	for _, other := range others {
		if place := locate(n, other); weight(place) > weight(at) {
			at, chosen = place, other
		}
	}
	if at.source == nil {
		at = enclosing(n, inner)
	}
	for _, other := range others {
		if place := locate(n, other); place.source != nil && other != chosen {
			message += fmt.Sprintf(" (%s: %s)", other, place)
		}
	}
	for _, earlier := range *e {
		if earlier.path == full && earlier.at == at {
			return
		}
	}
	e.add(at, full, message)
}

// subject returns the path, within the section n at path, of the value that err speaks of, and the
// message without it.
func subject(n *node, path string, err error) (inner, message string) {
	var located interface {
		error
		ConfigPath() string
	}
	if errors.As(err, &located) {
		inner = located.ConfigPath()
		if cause := errors.Unwrap(located); cause != nil {
			return inner, cause.Error()
		}
		return inner, strings.TrimPrefix(located.Error(), inner+": ")
	}
	// A component that knows nothing of files names the setting first: "clip_low: 2 is outside …",
	// "heads is 6 and kv_heads is 4: …", or its own section before it.
	message = strings.TrimPrefix(err.Error(), path[strings.LastIndexByte(path, '.')+1:]+".")
	first, _, _ := strings.Cut(message, " ")
	first = strings.TrimRight(first, ":,")
	if !resolves(n, first) {
		return "", message
	}
	return first, strings.TrimPrefix(message, first+": ")
}

// resolves reports whether path begins with a setting of n.
func resolves(n *node, path string) bool {
	steps := splitPath(path)
	return len(steps) > 0 && steps[0].key != "" && steps[0].of(n) != nil
}

// mentions lists the other settings below n that a message names. A word without a dot or an
// underscore is taken for prose.
func mentions(n *node, subject, message string) []string {
	var paths []string
	for _, word := range strings.Fields(message) {
		word = strings.Trim(word, ",;:()")
		if strings.ContainsAny(word, "._") && word != subject && resolves(n, word) && !slices.Contains(paths, word) {
			paths = append(paths, word)
		}
	}
	return paths
}

// weight ranks places by how likely the user can mend the value there: what the user wrote comes
// before a preset, and that before a default.
func weight(at place) int {
	switch {
	case at.source == nil:
		return 0
	case !at.source.written():
		return 1
	default:
		return 2
	}
}

// locate returns the place of the value at path below n, nowhere when no source wrote it.
func locate(n *node, path string) place {
	if n = child(n, path); n == nil {
		return place{}
	}
	return n.at
}

// enclosing returns the place of the innermost section around path that a source wrote. The whole
// document is no help, so it does not count.
func enclosing(n *node, path string) place {
	steps := splitPath(path)
	at := place{}
	if len(steps) == 0 {
		return n.at
	}
	for _, step := range steps {
		if n = step.of(n); n == nil {
			break
		}
		if n.at.source != nil {
			at = n.at
		}
	}
	return at
}

// step is one part of a path: a key, or an index when key is "".
type step struct {
	key   string
	index int
}

func (s step) of(n *node) *node {
	switch {
	case s.key != "" && n.kind == mappingNode:
		if e, ok := n.lookup(s.key); ok {
			return e.value
		}
	case s.key == "" && n.kind == sequenceNode && s.index < len(n.items):
		return n.items[s.index]
	}
	return nil
}

func (s step) extend(path string) string {
	if s.key != "" {
		return join(path, s.key)
	}
	return index(path, s.index)
}

// splitPath cuts "terms[1].compare" into its steps. It is lenient: what is not an index is a key.
func splitPath(path string) []step {
	var steps []step
	for part := range strings.SplitSeq(path, ".") {
		key, rest, _ := strings.Cut(part, "[")
		if key != "" {
			steps = append(steps, step{key: key})
		}
		for rest != "" {
			var digits string
			digits, rest, _ = strings.Cut(rest, "]")
			if i, err := strconv.Atoi(digits); err == nil && i >= 0 {
				steps = append(steps, step{index: i})
			}
			rest = strings.TrimPrefix(rest, "[")
		}
	}
	return steps
}
