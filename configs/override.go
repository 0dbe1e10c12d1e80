package configs

import (
	"fmt"
	"strconv"
	"strings"
)

// override is one parsed key.path=value argument.
type override struct {
	source *Source
	steps  []step
	starts []int // the column at which each step begins
	value  *node
}

// parseOverride reads the i-th argument, counted from 1. It returns nil when there is no telling what
// the argument sets; a value that cannot be read becomes a bad node at its place.
func parseOverride(text string, i int, errs *Errors) (*override, *Source) {
	source := &Source{Name: fmt.Sprintf("override %d", i), Data: []byte(text), override: i}
	path, _, ok := strings.Cut(text, "=")
	if !ok {
		errs.add(place{source, 1, 1}, "", "no = found: write key.path=value")
		return nil, source
	}
	o := &override{source: source}
	if column, problem := o.parsePath(path); problem != "" {
		errs.add(place{source, 1, column}, "", problem)
		return nil, source
	}
	if _, problem := refuseText(text); problem != "" {
		errs.add(place{source, 1, 1}, "", problem)
		return nil, source
	}
	shift := len([]rune(path)) + 1
	value := text[len(path)+1:]
	if strings.TrimSpace(value) == "" {
		errs.add(place{source, 1, shift + 1}, path, `no value after =: write one, or "" for empty text`)
		o.value = &node{bad: true}
		return o, source
	}
	reader := treeReader{source: source, errs: errs}
	if o.value = reader.document(value, shift); o.value == nil {
		o.value = &node{bad: true}
	}
	return o, source
}

// parsePath reads terms[0].scale into steps; a problem comes with its column.
func (o *override) parsePath(path string) (column int, problem string) {
	const want = "write a path like training.group_size or method.terms[0].scale"
	position := 0
	for position < len(path) || position == 0 {
		rest := path[position:]
		if strings.HasPrefix(rest, "[") && position > 0 {
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return position + 1, "[ without ]: " + want
			}
			i, err := strconv.Atoi(rest[1:end])
			if err != nil || i < 0 {
				return position + 2, fmt.Sprintf("%q is not an index: %s", shorten(rest[1:end]), want)
			}
			o.steps, o.starts = append(o.steps, step{index: i}), append(o.starts, position+1)
			position += end + 1
			continue
		}
		if position > 0 {
			if rest[0] != '.' {
				return position + 1, fmt.Sprintf("%q after an index: %s", rest[:1], want)
			}
			position++
			rest = path[position:]
		}
		end := strings.IndexFunc(rest, func(r rune) bool {
			return !(r == '_' || r == '-' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9')
		})
		if end < 0 {
			end = len(rest)
		}
		if end == 0 {
			return position + 1, "a key is missing here: " + want
		}
		if end < len(rest) && rest[end] != '.' && rest[end] != '[' {
			return position + end + 1, fmt.Sprintf("%q is not part of a key: %s", string([]rune(rest[end:])[:1]), want)
		}
		o.steps, o.starts = append(o.steps, step{key: rest[:end]}), append(o.starts, position+1)
		position += end
	}
	return 0, ""
}

// apply sets the override's value in the tree. A mapping merges into a mapping, as a file's does;
// anything else replaces. It returns the root, which is another one only when the override sets it.
func (o *override) apply(root *node, errs *Errors) *node {
	if len(o.steps) == 0 {
		return merge(root, o.value)
	}
	current, path := root, ""
	for i, s := range o.steps[:len(o.steps)-1] {
		next := o.descend(current, s, i, path, errs)
		if next == nil {
			return root
		}
		current, path = next, s.extend(path)
	}
	last := o.steps[len(o.steps)-1]
	at := place{o.source, 1, o.starts[len(o.starts)-1]}
	if last.key == "" {
		if slot := o.descend(current, last, len(o.steps)-1, path, errs); slot != nil {
			*slot = *merge(slot, o.value)
		}
		return root
	}
	if current.bad {
		return root
	}
	if current.kind == scalarNode && current.null {
		*current = node{kind: mappingNode, at: at, origin: o.value.origin}
	}
	if current.kind != mappingNode {
		errs.add(at, path, fmt.Sprintf("%s here, so there is no key %q to set", current.describe(), last.key))
		return root
	}
	if last.key == typeKey && current.typeName() != o.value.text && o.value.kind == scalarNode {
		current.entries, current.at = nil, at // the settings of another variant do not carry over
	}
	if e, ok := current.lookup(last.key); ok {
		*e = entry{e.key, at, merge(e.value, o.value)}
	} else {
		current.entries = append(current.entries, entry{last.key, at, o.value})
	}
	return root
}

// descend returns the child of n at step s, creating a missing mapping, or reports why there is none.
func (o *override) descend(n *node, s step, i int, path string, errs *Errors) *node {
	at := place{o.source, 1, o.starts[i]}
	switch {
	case n.bad:
		return nil // reported where it was written
	case s.key == "" && n.kind != sequenceNode:
		errs.add(at, path, fmt.Sprintf("%s here, so there is no entry %d", n.describe(), s.index))
		return nil
	case s.key == "" && s.index >= len(n.items):
		errs.add(at, path, fmt.Sprintf("no entry %d: the list has %d, counted from 0; to add one, set the whole list", s.index, len(n.items)))
		return nil
	case s.key == "":
		return n.items[s.index]
	case n.kind == scalarNode && n.null:
		*n = node{kind: mappingNode, at: at, origin: o.value.origin}
	case n.kind != mappingNode:
		errs.add(at, path, fmt.Sprintf("%s here, so there is no key %q to set", n.describe(), s.key))
		return nil
	}
	if e, ok := n.lookup(s.key); ok {
		return e.value
	}
	child := &node{kind: mappingNode, at: at, origin: o.value.origin}
	n.entries = append(n.entries, entry{s.key, at, child})
	return child
}
