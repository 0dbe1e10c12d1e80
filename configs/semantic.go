package configs

import (
	"errors"
	"strconv"
	"strings"
)

// attach adds err, found in the section n that lies at path, at the place of the value it speaks
// of. Joined errors are added one by one.
func (e *Errors) attach(n *node, path string, err error) {
	for outer := err; outer != nil; outer = errors.Unwrap(outer) {
		if many, ok := outer.(interface{ Unwrap() []error }); ok {
			for _, one := range many.Unwrap() {
				e.attach(n, path, one)
			}
			return
		}
	}
	message, inner := err.Error(), ""
	var located interface {
		error
		ConfigPath() string
	}
	if errors.As(err, &located) {
		inner = located.ConfigPath()
		message = located.Error()
		if cause := errors.Unwrap(located); cause != nil {
			message = cause.Error()
		} else {
			message = strings.TrimPrefix(message, inner+": ")
		}
	} else {
		inner = leadingPath(n, message)
		if inner != "" {
			message = strings.TrimPrefix(message, inner+": ")
		}
	}
	at, written := locate(n, inner)
	full := path
	for _, step := range splitPath(inner) {
		full = step.extend(full)
	}
	if !written && at.source != nil && inner != "" {
		message += " (a default here)"
	}
	e.add(at, full, message)
}

// leadingPath returns the first word of a message when it is the path of a setting below n. A
// component that knows nothing of files names the setting first: "heads is 6 and kv_heads is 4: …".
func leadingPath(n *node, message string) string {
	first, _, _ := strings.Cut(message, " ")
	first = strings.TrimRight(first, ":,")
	steps := splitPath(first)
	if len(steps) == 0 || steps[0].key == "" || steps[0].of(n) == nil {
		return ""
	}
	return first
}

// locate returns the place of the value at path below n, or of the nearest enclosing value that a
// source wrote. written is false when the value itself was not written.
func locate(n *node, path string) (at place, written bool) {
	at, written = n.at, n.at.source != nil
	for _, step := range splitPath(path) {
		next := step.of(n)
		if next == nil {
			return at, false
		}
		n = next
		written = n.at.source != nil
		if written {
			at = n.at
		}
	}
	return at, written
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
