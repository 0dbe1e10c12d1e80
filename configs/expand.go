package configs

import "fmt"

// presetKey names the preset that a section starts from.
const presetKey = "preset"

// presets say that a section may be named by a preset, or start from one and edit it.
type presets struct {
	// path is the section's path; nil is the root.
	path []step
	// names lists the presets that fit the section.
	names func() []string
	// tree returns a fresh tree of the section from a preset that exists.
	tree func(name string) *node
}

func (p *presets) where() string {
	path := ""
	for _, s := range p.path {
		path = s.extend(path)
	}
	return path
}

// layer returns the layer with its section expanded. The layer itself is not changed.
func (p *presets) layer(layer *node, errs *Errors) *node {
	if len(p.path) == 0 {
		return p.expand(layer, errs)
	}
	e, ok := layer.lookup(p.path[0].key)
	if !ok {
		return layer
	}
	out := *layer
	out.entries = append([]entry(nil), layer.entries...)
	slot, _ := out.lookup(e.key)
	slot.value = p.expand(e.value, errs)
	return &out
}

// expand returns the section that n names or starts from; n itself when it does neither. What comes
// of a preset replaces what earlier layers said about the section.
func (p *presets) expand(n *node, errs *Errors) *node {
	name, edits := n, (*node)(nil)
	switch {
	case n.kind == scalarNode && !n.null && !n.bad:
	case n.kind == mappingNode:
		e, ok := n.lookup(presetKey)
		if !ok {
			return n
		}
		name, edits = e.value, n.without(presetKey)
	default:
		return n
	}
	if name.bad {
		return &node{bad: true, at: n.at}
	}
	names := p.names()
	if name.kind != scalarNode || name.null {
		errs.add(name.at, join(p.where(), presetKey), fmt.Sprintf("want the name of a preset, got %s%s", name.describe(), known("", names)))
		return &node{bad: true, at: n.at}
	}
	tree := p.tree(name.text)
	if tree == nil {
		errs.add(name.at, p.where(), fmt.Sprintf("unknown preset %q%s", shorten(name.text), known(name.text, names)))
		return &node{bad: true, at: n.at}
	}
	if edits != nil {
		tree = merge(tree, edits)
	}
	out := *tree
	out.replace, out.at = true, n.at
	return &out
}

// rewrite expands the value of an override that sets the section or its preset, so that it replaces
// the section instead of being laid over the parts that are already there.
func (p *presets) rewrite(o *override, errs *Errors) {
	if len(o.steps) < len(p.path) || len(o.steps) > len(p.path)+1 {
		return
	}
	for i, s := range p.path {
		if o.steps[i] != s {
			return
		}
	}
	if len(o.steps) > len(p.path) {
		if o.steps[len(p.path)].key != presetKey {
			return
		}
		at := o.value.at
		o.value = &node{kind: mappingNode, at: at, origin: o.value.origin, entries: []entry{{presetKey, at, o.value}}}
		o.steps, o.starts = o.steps[:len(p.path)], o.starts[:len(p.path)]
	}
	o.value = p.expand(o.value, errs)
}
