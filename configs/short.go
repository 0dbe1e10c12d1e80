package configs

import "reflect"

// lengthen writes each scalar below n that stands for a mapping as that mapping: "device: cuda" is short for
// "device: {kind: cuda}". t is the type that n is decoded into; nil when nobody knows.
func (l *language) lengthen(n *node, t reflect.Type) {
	if t == nil || n.bad || n.null {
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		l.lengthen(n, t.Elem())
	case reflect.Slice:
		for _, item := range n.items {
			l.lengthen(item, t.Elem())
		}
	case reflect.Map:
		for _, e := range n.entries {
			l.lengthen(e.value, t.Elem())
		}
	case reflect.Struct, reflect.Interface:
		if key, short := l.shorts[t]; short && n.kind == scalarNode {
			scalar := *n
			*n = node{kind: mappingNode, at: n.at, origin: n.origin, entries: []entry{{key: key, at: n.at, value: &scalar}}}
		}
		for _, e := range n.entries {
			l.lengthen(e.value, l.under(n, t, e.key))
		}
	}
}

// under is the type of what the mapping n, decoded into t, has under a key; nil when it has no such key.
func (l *language) under(n *node, t reflect.Type, key string) reflect.Type {
	var inline *setting
	var list []setting
	switch t.Kind() {
	case reflect.Pointer:
		return l.under(n, t.Elem(), key)
	case reflect.Struct:
		if readsText(t) {
			return nil
		}
		list, inline = l.settings(reflect.New(t).Elem())
	case reflect.Interface:
		u, known := l.unions[t]
		if !known {
			return nil
		}
		variant, known := u.variant(n.typeName())
		if !known {
			return nil
		}
		list, _ = l.settings(dereference(addressable(reflect.ValueOf(variant.New()))))
	}
	for _, one := range list {
		if one.name == key {
			return one.field.Type
		}
	}
	if inline != nil {
		return l.under(n, inline.field.Type, key)
	}
	return nil
}

// typeAt is the type of what lies at a path below n, which is decoded into t; nil when nobody knows.
func (l *language) typeAt(n *node, t reflect.Type, steps []step) reflect.Type {
	for _, s := range steps {
		for t != nil && t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch {
		case t == nil || n == nil:
			return nil
		case s.key == "" && t.Kind() == reflect.Slice, t.Kind() == reflect.Map:
			t = t.Elem()
		case s.key == "":
			return nil
		default:
			t = l.under(n, t, s.key)
		}
		n = s.of(n)
	}
	return t
}
