package configs

import (
	"encoding"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"time"
)

// encode writes a value as a tree without places: what a document that sets everything would say.
func (l *language) encode(v reflect.Value) *node {
	t := v.Type()
	switch {
	case t == durationType:
		return &node{text: shortDuration(v.Interface().(time.Duration))}
	case readsText(t):
		if m, ok := v.Interface().(encoding.TextMarshaler); ok {
			if text, err := m.MarshalText(); err == nil {
				return &node{text: string(text), quoted: true}
			}
		}
		return &node{text: fmt.Sprint(v.Interface()), quoted: true}
	}
	switch t.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return &node{null: true}
		}
		return l.encode(v.Elem())
	case reflect.Interface:
		if v.IsNil() {
			return &node{null: true}
		}
		return l.encodeVariant(v)
	case reflect.Struct:
		return l.encodeStruct(v)
	case reflect.Slice:
		n := &node{kind: sequenceNode}
		for i := range v.Len() {
			n.items = append(n.items, l.encode(v.Index(i)))
		}
		return n
	case reflect.Map:
		n := &node{kind: mappingNode}
		for _, key := range v.MapKeys() {
			n.entries = append(n.entries, entry{key: key.String(), value: l.encode(v.MapIndex(key))})
		}
		sort.Slice(n.entries, func(i, j int) bool { return n.entries[i].key < n.entries[j].key })
		return n
	case reflect.Bool:
		return &node{text: strconv.FormatBool(v.Bool())}
	case reflect.String:
		return &node{text: v.String(), quoted: true}
	case reflect.Float32, reflect.Float64:
		return &node{text: floatText(v.Float(), t.Bits())}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &node{text: strconv.FormatUint(v.Uint(), 10)}
	default:
		return &node{text: strconv.FormatInt(v.Int(), 10)}
	}
}

// floatText writes a float so that every YAML reader takes it for one: some want a dot before the
// exponent.
func floatText(x float64, bits int) string {
	text := strconv.FormatFloat(x, 'g', -1, bits)
	if mantissa, exponent, ok := strings.Cut(text, "e"); ok && !strings.Contains(mantissa, ".") {
		return mantissa + ".0e" + exponent
	}
	return text
}

func (l *language) encodeVariant(v reflect.Value) *node {
	name := l.unions[v.Type()].nameOf(v)
	n := &node{kind: mappingNode, entries: []entry{{key: typeKey, value: &node{text: name, quoted: true}}}}
	n.entries = append(n.entries, l.encodeStruct(dereference(v.Elem())).entries...)
	return n
}

func (l *language) encodeStruct(v reflect.Value) *node {
	n := &node{kind: mappingNode}
	list, inline := l.settings(v)
	if inline != nil && !inline.value.IsNil() {
		n.entries = l.encodeVariant(inline.value).entries
	}
	for _, s := range list {
		n.entries = append(n.entries, entry{key: s.name, value: l.encode(s.value)})
	}
	return n
}

// fill adds to a tree what it leaves out, from v, the value it was decoded into. So an override can
// reach into a list that only a default wrote. What did not decode is left as it is.
func (l *language) fill(n *node, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			l.fill(n, v.Elem())
		}
	case reflect.Interface:
		u, ok := l.unions[v.Type()]
		if !ok || v.IsNil() || n.kind != mappingNode {
			return
		}
		if said := n.typeName(); said == "" || said == u.nameOf(v) {
			l.fillMissing(n, l.encodeVariant(v))
			l.fillKeys(n, dereference(v.Elem()))
		}
	case reflect.Struct:
		if n.kind != mappingNode || readsText(v.Type()) {
			return
		}
		l.fillKeys(n, v)
		if _, inline := l.settings(v); inline != nil && !inline.value.IsNil() {
			l.fill(n, inline.value)
		}
		l.fillMissing(n, l.encodeStruct(v))
	case reflect.Slice:
		if n.kind == sequenceNode && len(n.items) == v.Len() {
			for i, item := range n.items {
				l.fill(item, v.Index(i))
			}
		}
	}
}

func (l *language) fillKeys(n *node, v reflect.Value) {
	list, _ := l.settings(v)
	for _, s := range list {
		if e, ok := n.lookup(s.name); ok {
			l.fill(e.value, s.value)
		}
	}
}

func (l *language) fillMissing(n, defaults *node) {
	for _, e := range defaults.entries {
		if _, ok := n.lookup(e.key); !ok {
			n.entries = append(n.entries, e)
		}
	}
}
