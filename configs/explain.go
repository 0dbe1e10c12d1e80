package configs

import (
	"fmt"
	"reflect"
	"strings"
)

// Setting is what there is to know about one setting of a run.
type Setting struct {
	// Path is the setting's path.
	Path string `json:"path"`
	// Meaning is its doc comment in the words of the YAML; "" for an entry of a list and for the type of a
	// part.
	Meaning string `json:"meaning,omitempty"`
	// Takes says what can be written: "a whole number".
	Takes string `json:"takes"`
	// Limits are the bounds of its value; "" when there are none but those of its type.
	Limits string `json:"limits,omitempty"`
	// Value is what the run has and Origin where that comes from; both are "" for a section or a list with
	// entries.
	Value  string `json:"value,omitempty"`
	Origin string `json:"origin,omitempty"`
	// Keys are the settings of a section, or the places of a list's entries; nil for a value.
	Keys []string `json:"keys,omitempty"`
	// Live says from when on a new value holds that is set while the run goes on; "" when none can be.
	Live string `json:"live,omitempty"`
	// Fixed says why a fork cannot change the setting; "" when it can.
	Fixed string `json:"fixed,omitempty"`
}

// Explain describes the setting at path. A path that the run does not have is an [Errors].
func (r *Resolved) Explain(path string) (*Setting, error) {
	var o override
	if _, problem := o.parsePath(path); problem != "" {
		return nil, Errors{{Message: fmt.Sprintf("%q is no setting: %s", shorten(path), problem)}}
	}
	l := runLanguage()
	run := r.Run
	at := setting{value: reflect.ValueOf(&run).Elem()}
	node, walked := r.tree, ""
	for _, s := range o.steps {
		next := s.of(node)
		if next == nil {
			return nil, Errors{{Path: walked, Message: missingStep(s, node)}}
		}
		at, node, walked = l.descend(at, s), next, s.extend(walked)
	}
	return l.explained(walked, at, node), nil
}

// missingStep says that a section has no such key, or a list no such entry.
func missingStep(s step, n *node) string {
	switch {
	case s.key == "" && n.kind == sequenceNode:
		return fmt.Sprintf("no entry %d: the list has %d, counted from 0", s.index, len(n.items))
	case s.key == "":
		return fmt.Sprintf("no entry %d: it holds %s", s.index, n.describe())
	case n.kind != mappingNode:
		return fmt.Sprintf("no key %q: it holds %s", shorten(s.key), n.describe())
	}
	return fmt.Sprintf("unknown key %q", shorten(s.key)) + known(s.key, n.keys())
}

func (n *node) keys() []string {
	var keys []string
	for _, e := range n.entries {
		keys = append(keys, e.key)
	}
	return keys
}

// descend returns the setting one step below another. What a step does not name in Go, the type of a part or
// a key of a mapping, is a setting without a field.
func (l *language) descend(from setting, s step) setting {
	v, part := from.value, (*Union)(nil)
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		if u, ok := l.unions[v.Type()]; ok {
			part = u
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Slice:
		return setting{value: v.Index(s.index), bounds: from.bounds}
	case reflect.Map:
		return setting{value: v.MapIndex(reflect.ValueOf(s.key).Convert(v.Type().Key())), bounds: from.bounds}
	}
	list, inline := l.settings(v)
	if inline != nil {
		part = l.unions[inline.value.Type()]
		more, _ := l.settings(dereference(inline.value.Elem()))
		list = append(more, list...)
	}
	for _, one := range list {
		if one.name == s.key {
			return one
		}
	}
	kind := setting{value: reflect.ValueOf(s.key)}
	if part != nil {
		kind.bounds.enum = part.names()
	}
	return kind
}

// explained describes a setting that was found.
func (l *language) explained(path string, at setting, n *node) *Setting {
	d := decoder{language: l}
	out := &Setting{Path: path, Takes: d.want(at.value.Type()), Limits: at.bounds.String(), Fixed: fixed(path)}
	if at.owner != nil {
		out.Meaning = meaning(at)
	}
	if values := l.legal(at.value.Type(), at.bounds); values != nil {
		out.Takes = "one of " + strings.Join(values, ", ")
	}
	for _, s := range LiveSettings {
		if covers(s.Path, path) {
			out.Live = s.Takes
		}
	}
	switch {
	case n.kind == mappingNode && len(n.entries) > 0:
		out.Keys = n.keys()
		if at.value.Kind() == reflect.Struct {
			out.Takes = "a mapping"
		}
	case n.kind == sequenceNode && len(n.items) > 0:
		for i := range n.items {
			out.Keys = append(out.Keys, index("", i))
		}
	default:
		out.Value, out.Origin = scalarText(n), n.origin.String()
	}
	return out
}
