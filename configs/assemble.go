package configs

import "reflect"

// assembly is what a configuration is put together from: layers from left to right over defaults,
// then overrides.
type assembly struct {
	*language
	// prototype returns a pointer to a value with every default set.
	prototype func() any
	// presets is the section that may be named by a preset; nil means none may.
	presets *presets
	// derive sets defaults that depend on other values, in the decoded value, a pointer, and in its tree;
	// nil sets none.
	derive func(value any, root *node, broken []string, errs *Errors)
	// check reports constraints across sections of the decoded value, a pointer; nil checks nothing.
	check func(value any, root *node, broken []string, errs *Errors)
	// subtree picks what a layer says about this configuration; nil takes all of it.
	subtree func(layer *node, errs *Errors) *node
}

// build decodes sources and overrides into a fresh prototype and returns it with the tree that says
// where every leaf comes from. The error is [Errors].
func (a assembly) build(sources []Source, overrides []string) (any, *node, error) {
	var errs Errors
	var order []*Source
	unread := false // a source without a tree: what it meant to set must not be called missing
	elsewhere := make(map[string]string)
	root := a.encode(reflect.ValueOf(a.prototype()).Elem())
	typeOf := reflect.TypeOf(a.prototype()).Elem()
	leavesAndSections(root, "", func(path, key string) {
		if _, taken := elsewhere[key]; !taken {
			elsewhere[key] = path
		}
	})
	for i := range sources {
		source := sources[i]
		order = append(order, &source)
		layer, ok := parse(&source, &errs)
		if ok && layer.kind != mappingNode {
			errs.add(layer.at, "", "want a mapping of keys, got "+layer.describe())
			ok = false
		}
		if !ok {
			unread = true
			continue
		}
		if source.resolved {
			restoreOrigins(layer, &source)
			modernize(layer, &source)
		}
		if a.subtree != nil {
			layer = a.subtree(layer, &errs)
		}
		if a.presets != nil {
			layer = a.presets.layer(layer, &errs)
		}
		a.lengthen(layer, typeOf)
		root = merge(root, layer)
	}
	for i, text := range overrides {
		o, source := parseOverride(text, i+1, &errs)
		order = append(order, source)
		if o == nil {
			continue
		}
		if a.presets != nil {
			a.presets.rewrite(o, &errs)
		}
		a.complete(root)
		a.lengthen(o.value, a.typeAt(root, typeOf, o.steps))
		root = o.apply(root, &errs)
	}
	if unread {
		return nil, nil, errs.ordered(order)
	}
	value := a.prototype()
	d := decoder{language: a.language, errs: &errs, elsewhere: elsewhere}
	d.value("", root, reflect.ValueOf(value).Elem(), bounds{})
	if a.check != nil {
		a.complete(root)
		if a.derive != nil {
			a.derive(value, root, d.broken, &errs)
		}
		a.check(value, root, d.broken, &errs)
	}
	if err := errs.ordered(order); err != nil {
		return nil, root, err
	}
	return value, a.resolve(reflect.ValueOf(value).Elem(), root), nil
}

// complete fills a tree with the defaults it leaves out.
func (a assembly) complete(root *node) {
	var ignored Errors // the final decoding reports what is still wrong then
	value := reflect.ValueOf(a.prototype()).Elem()
	d := decoder{language: a.language, errs: &ignored}
	d.value("", root, value, bounds{})
	a.fill(root, value)
}

// resolve writes the value as a tree whose leaves carry the origins of the tree it came from.
func (a assembly) resolve(v reflect.Value, from *node) *node {
	resolved := a.encode(v)
	adopt(resolved, from)
	return resolved
}

// adopt copies origins and places onto a tree of the same shape.
func adopt(to, from *node) {
	to.origin, to.at = from.origin, from.at
	for _, e := range to.entries {
		if source, ok := from.lookup(e.key); ok {
			adopt(e.value, source.value)
		}
	}
	for i, item := range to.items {
		if i < len(from.items) {
			adopt(item, from.items[i])
		}
	}
}

// leavesAndSections visits every key of a tree of defaults, outer ones first.
func leavesAndSections(n *node, path string, visit func(path, key string)) {
	for _, e := range n.entries {
		visit(join(path, e.key), e.key)
	}
	for _, e := range n.entries {
		leavesAndSections(e.value, join(path, e.key), visit)
	}
}
