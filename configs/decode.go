package configs

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// decoder fills a Go value from a tree and collects everything that is wrong on the way.
type decoder struct {
	*language
	errs *Errors
	// elsewhere maps a key to a path that has it, to guide who put it in the wrong section.
	elsewhere map[string]string
	// broken lists the paths of what could not be read.
	broken []string
	// semantic counts the errors that sections found in themselves.
	semantic int
}

// value decodes n into v, which holds the defaults of what n leaves out.
func (d *decoder) value(path string, n *node, v reflect.Value, limits bounds) {
	t := v.Type()
	if n.bad {
		d.broken = append(d.broken, path)
		return
	}
	if n.null && n.kind == scalarNode {
		switch {
		case t.Kind() == reflect.Pointer:
			v.SetZero()
		case t.Kind() == reflect.Interface && v.IsNil():
			// a part that is absent by default stays so
		default:
			d.fail(n, path, fmt.Sprintf("no value where %s is wanted: give one, or remove the key to keep the default", d.want(t)))
		}
		return
	}
	switch {
	case t == durationType:
		d.duration(path, n, v, limits)
		return
	case readsText(t):
		if text, ok := d.text(path, n, t); ok {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
				d.fail(n, path, err.Error())
			}
		}
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		target := reflect.New(t.Elem())
		if !v.IsNil() {
			target.Elem().Set(v.Elem())
		}
		d.value(path, n, target.Elem(), limits)
		v.Set(target)
	case reflect.Struct:
		d.structure(path, n, v)
	case reflect.Interface:
		d.union(path, n, v)
	case reflect.Slice:
		d.list(path, n, v, limits)
	case reflect.Map:
		d.mapping(path, n, v, limits)
	case reflect.Bool:
		switch {
		case n.kind == scalarNode && !n.quoted && n.text == "true":
			v.SetBool(true)
		case n.kind == scalarNode && !n.quoted && n.text == "false":
			v.SetBool(false)
		default:
			d.wrongType(n, path, t)
		}
	case reflect.String:
		if text, ok := d.text(path, n, t); ok {
			if values := d.legal(t, limits); values != nil && !slices.Contains(values, text) {
				d.fail(n, path, fmt.Sprintf("unknown value %q%s", shorten(text), known(text, values)))
				return
			}
			v.SetString(text)
		}
	default:
		d.number(path, n, v, limits)
	}
}

// problems counts what could not be decoded so far.
func (d *decoder) problems() int { return len(*d.errs) - d.semantic + len(d.broken) }

func (d *decoder) fail(n *node, path, message string) { d.errs.add(n.at, path, message) }

func (d *decoder) wrongType(n *node, path string, t reflect.Type) {
	d.fail(n, path, fmt.Sprintf("want %s, got %s", d.want(t), n.describe()))
}

// want describes what a type is written as.
func (d *decoder) want(t reflect.Type) string {
	switch {
	case t == durationType:
		return `a duration like "10s"`
	case readsText(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.want(t.Elem())
	case reflect.Struct:
		list, _ := d.settings(reflect.New(t).Elem())
		names := make([]string, len(list))
		for i, s := range list {
			names[i] = s.name
		}
		text := "a mapping with keys " + strings.Join(names, ", ")
		if key, short := d.shorts[t]; short {
			text = "a " + key + ", or " + text
		}
		return text
	case reflect.Interface:
		if u, ok := d.unions[t]; ok {
			return fmt.Sprintf("a mapping whose %s is one of %s", typeKey, strings.Join(u.names(), ", "))
		}
		return "a mapping"
	case reflect.Slice:
		return "a list"
	case reflect.Map:
		return "a mapping"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		if values, ok := d.enums[t]; ok {
			return "one of " + strings.Join(values, ", ")
		}
		return "text"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a whole number"
	}
}

func (d *decoder) list(path string, n *node, v reflect.Value, limits bounds) {
	if n.kind != sequenceNode {
		d.wrongType(n, path, v.Type())
		return
	}
	if len(n.items) < limits.minItems {
		d.fail(n, path, fmt.Sprintf("%d entries: list at least %d", len(n.items), limits.minItems))
	}
	if len(n.items) == 0 {
		v.SetZero()
		return
	}
	list := reflect.MakeSlice(v.Type(), 0, len(n.items))
	for i, item := range n.items {
		element := d.element(v.Type().Elem())
		d.value(index(path, i), item, element, limits)
		list = reflect.Append(list, element)
	}
	v.Set(list)
}

func (d *decoder) mapping(path string, n *node, v reflect.Value, limits bounds) {
	if n.kind != mappingNode {
		d.wrongType(n, path, v.Type())
		return
	}
	if len(n.entries) == 0 {
		v.SetZero()
		return
	}
	result := reflect.MakeMapWithSize(v.Type(), len(n.entries))
	for _, e := range n.entries {
		element := d.element(v.Type().Elem())
		d.value(join(path, e.key), e.value, element, limits)
		result.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), element)
	}
	v.Set(result)
}

func (d *decoder) structure(path string, n *node, v reflect.Value) {
	if n.kind != mappingNode {
		d.wrongType(n, path, v.Type())
		return
	}
	before := d.problems()
	list, inline := d.settings(v)
	var variant reflect.Value
	if inline != nil {
		var ok bool
		if variant, ok = d.choose(path, n, inline.value); !ok {
			return
		}
		if variant.IsValid() {
			more, _ := d.settings(dereference(variant))
			list = append(append([]setting{{name: typeKey}}, more...), list...)
		}
	}
	d.keys(path, n, list)
	if variant.IsValid() {
		inline.value.Set(variant)
		if d.problems() == before {
			d.validate(path, n, variant)
		}
	}
	if d.problems() == before {
		d.validate(path, n, v)
	}
}

// keys decodes each entry of n into the setting of its name; the type key has no value to fill.
func (d *decoder) keys(path string, n *node, list []setting) {
	names := make([]string, len(list))
	byName := make(map[string]setting, len(list))
	for i, s := range list {
		names[i], byName[s.name] = s.name, s
	}
	for _, e := range n.entries {
		s, ok := byName[e.key]
		switch {
		case !ok:
			d.unknownKey(path, e, names)
		case s.value.IsValid():
			d.value(join(path, e.key), e.value, s.value, s.bounds)
		}
	}
}

func (d *decoder) unknownKey(path string, e entry, names []string) {
	message := fmt.Sprintf("unknown key %q", shorten(e.key))
	where := d.elsewhere[e.key]
	if nearest(e.key, names) == "" && where != "" && where != join(path, e.key) {
		message += fmt.Sprintf("; it belongs at %s", where)
	}
	d.errs.add(e.at, path, message+known(e.key, names))
}

// validate lets a section that decoded cleanly check itself.
func (d *decoder) validate(path string, n *node, v reflect.Value) {
	checker, ok := v.Interface().(interface{ Validate() error })
	if !ok && v.CanAddr() {
		checker, ok = v.Addr().Interface().(interface{ Validate() error })
	}
	if !ok {
		return
	}
	if err := checker.Validate(); err != nil {
		before := len(*d.errs)
		d.errs.attach(n, path, err)
		d.semantic += len(*d.errs) - before
	}
}
