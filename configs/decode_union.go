package configs

import (
	"fmt"
	"reflect"
	"strings"
)

// union decodes a mapping whose type key selects what v holds.
func (d *decoder) union(path string, n *node, v reflect.Value) {
	variant, ok := d.choose(path, n, v)
	if !ok {
		return
	}
	before := d.problems()
	list, _ := d.settings(dereference(variant))
	d.keys(path, n, append([]setting{{name: typeKey}}, list...))
	v.Set(variant)
	if d.problems() == before {
		d.validate(path, n, variant)
	}
}

// choose returns an addressable value of the variant that n selects: a fresh one with the variant's
// own defaults when n says its type, the one v holds when n does not. What an earlier layer or the
// defaults said about the same variant is in n already.
func (d *decoder) choose(path string, n *node, v reflect.Value) (reflect.Value, bool) {
	u, ok := d.unions[v.Type()]
	if !ok {
		panic("configs: no union table for " + v.Type().String()) // a programmer's mistake that every test of the schema meets
	}
	if n.kind != mappingNode {
		d.wrongType(n, path, v.Type())
		return reflect.Value{}, false
	}
	if e, given := n.lookup(typeKey); given {
		name, fine := d.text(join(path, typeKey), e.value, reflect.TypeFor[string]())
		if !fine {
			return reflect.Value{}, false
		}
		variant, exists := u.variant(name)
		if !exists {
			d.fail(e.value, join(path, typeKey), fmt.Sprintf("unknown %s %q%s", u.Kind, shorten(name), known(name, u.names())))
			return reflect.Value{}, false
		}
		return addressable(reflect.ValueOf(variant.New())), true
	}
	if u.nameOf(v) == "" {
		d.fail(n, path, fmt.Sprintf("no %s says which %s is meant; known: %s", typeKey, u.Kind, strings.Join(u.names(), ", ")))
		return reflect.Value{}, false
	}
	return addressable(v.Elem()), true
}

// addressable copies a struct, or what a pointer points to, so that its fields can be set without
// touching the original.
func addressable(from reflect.Value) reflect.Value {
	if from.Kind() == reflect.Pointer {
		copied := reflect.New(from.Type().Elem())
		copied.Elem().Set(from.Elem())
		return copied
	}
	copied := reflect.New(from.Type()).Elem()
	copied.Set(from)
	return copied
}

func dereference(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		return v.Elem()
	}
	return v
}
