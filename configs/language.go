package configs

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// typeKey is the key that selects a union's variant.
const typeKey = "type"

// Variant is one choice of a union.
type Variant struct {
	// Name is what the type key says.
	Name string
	// Doc is one line for people who choose; Cite is where the rule comes from, "" when it needs none.
	Doc, Cite string
	// New returns the variant with its defaults: a struct, or a pointer to one, that implements the
	// union's interface.
	New func() any
}

// Union is an interface-typed setting whose variant a "type" key selects.
type Union struct {
	// Interface is the interface type of the fields that hold the union.
	Interface reflect.Type
	// Kind names the choice in messages, for example "environment".
	Kind string
	// Doc says what the kind does, as a predicate: "spreads rewards into scores".
	Doc string
	// Variants are the choices, in the order they are listed to people.
	Variants []Variant
}

// nameOfValue is nameOf for a value of the union's interface.
func (u *Union) nameOfValue(value any) string { return u.nameOf(reflect.ValueOf(value)) }

func (u *Union) names() []string {
	names := make([]string, len(u.Variants))
	for i, v := range u.Variants {
		names[i] = v.Name
	}
	return names
}

func (u *Union) variant(name string) (Variant, bool) {
	for _, v := range u.Variants {
		if v.Name == name {
			return v, true
		}
	}
	return Variant{}, false
}

// nameOf returns the variant whose Go type value has, "" for nil or a foreign type.
func (u *Union) nameOf(value reflect.Value) string {
	if value.Kind() == reflect.Interface {
		value = value.Elem()
	}
	if !value.IsValid() {
		return ""
	}
	for _, v := range u.Variants {
		if reflect.TypeOf(v.New()) == value.Type() {
			return v.Name
		}
	}
	return ""
}

// language is what the decoder, the schema and the reference share: how Go types are written.
type language struct {
	unions map[reflect.Type]*Union
	// enums lists the legal values of named string types, by type.
	enums map[reflect.Type][]string
	// elements gives the defaults of a list's struct elements; a type without an entry starts at zero.
	elements map[reflect.Type]func() any
	// shorts names, by struct type, the key that a scalar in place of the whole mapping stands for.
	shorts map[reflect.Type]string
}

func newLanguage(unions []Union, enums map[reflect.Type][]string) *language {
	l := &language{unions: make(map[reflect.Type]*Union), enums: enums, elements: make(map[reflect.Type]func() any), shorts: make(map[reflect.Type]string)}
	for _, u := range unions {
		l.unions[u.Interface] = &u
	}
	return l
}

// element returns an addressable value of t with the defaults of a list's element.
func (l *language) element(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	if fresh, ok := l.elements[t]; ok {
		v.Set(reflect.ValueOf(fresh()))
	}
	return v
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// legal lists the values of a string setting, nil when any text will do.
func (l *language) legal(t reflect.Type, limits bounds) []string {
	if limits.enum != nil {
		return limits.enum
	}
	return l.enums[t]
}

// readsText reports whether values of t read themselves from text.
func readsText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// setting is one key of a struct.
type setting struct {
	name   string
	field  reflect.StructField
	owner  reflect.Type // the struct that declares it
	value  reflect.Value
	bounds bounds
}

// settings lists the keys of the struct v in declaration order. Embedded and inline structs spread
// their keys. An inline union is returned apart: its keys depend on the variant.
func (l *language) settings(v reflect.Value) (list []setting, inline *setting) {
	t := v.Type()
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("yaml")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case name == "-" || !field.IsExported():
			continue
		case options == "inline" && field.Type.Kind() == reflect.Interface:
			inline = &setting{field: field, owner: t, value: v.Field(i)}
			continue
		case options == "inline":
			nested, union := l.settings(v.Field(i))
			list = append(list, nested...)
			if union != nil {
				inline = union
			}
			continue
		case name == "":
			name = snake(field.Name)
		}
		list = append(list, setting{name: name, field: field, owner: t, value: v.Field(i), bounds: parseBounds(field.Tag.Get("jsonschema"))})
	}
	return list, inline
}

// snake writes a Go name as a key: MaxTurns becomes max_turns, KVHeads kv_heads.
func snake(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		upper := c >= 'A' && c <= 'Z'
		if upper && i > 0 {
			previousLower := name[i-1] < 'A' || name[i-1] > 'Z'
			nextLower := i+1 < len(name) && name[i+1] >= 'a' && name[i+1] <= 'z'
			if previousLower || nextLower {
				b.WriteByte('_')
			}
		}
		if upper {
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return b.String()
}

// bounds are the limits a field's jsonschema tag declares. Those on numbers and the enumeration hold
// for each element of a list too.
type bounds struct {
	minimum, maximum                   *float64
	exclusiveMinimum, exclusiveMaximum *float64
	minItems                           int
	enum                               []string
	// longest is the most a duration may be and typical what it mostly is; 0 sets no limit. A limited
	// duration is one that nothing may outlast.
	longest, typical time.Duration
}

func parseBounds(tag string) bounds {
	var b bounds
	for part := range strings.SplitSeq(tag, ",") {
		name, text, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		if name == "enum" {
			b.enum = append(b.enum, text)
			continue
		}
		if span, err := time.ParseDuration(text); err == nil {
			switch name {
			case "longest":
				b.longest = span
			case "typical":
				b.typical = span
			}
		}
		number, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		switch name {
		case "minimum":
			b.minimum = &number
		case "maximum":
			b.maximum = &number
		case "exclusiveMinimum":
			b.exclusiveMinimum = &number
		case "exclusiveMaximum":
			b.exclusiveMaximum = &number
		case "minItems":
			b.minItems = int(number)
		}
	}
	return b
}

// refuse says why x is out of bounds, "" when it is not.
func (b bounds) refuse(x float64, written string) string {
	switch {
	case b.minimum != nil && x < *b.minimum:
		return fmt.Sprintf("%s is too small: at least %s", written, number(*b.minimum))
	case b.exclusiveMinimum != nil && x <= *b.exclusiveMinimum:
		return fmt.Sprintf("%s is too small: greater than %s", written, number(*b.exclusiveMinimum))
	case b.maximum != nil && x > *b.maximum:
		return fmt.Sprintf("%s is too large: at most %s", written, number(*b.maximum))
	case b.exclusiveMaximum != nil && x >= *b.exclusiveMaximum:
		return fmt.Sprintf("%s is too large: less than %s", written, number(*b.exclusiveMaximum))
	}
	return ""
}

// String writes the bounds for the reference, "" when there are none.
func (b bounds) String() string {
	var parts []string
	for _, one := range []struct {
		sign  string
		limit *float64
	}{{"≥ ", b.minimum}, {"> ", b.exclusiveMinimum}, {"≤ ", b.maximum}, {"< ", b.exclusiveMaximum}} {
		if one.limit != nil {
			parts = append(parts, one.sign+number(*one.limit))
		}
	}
	if b.longest > 0 {
		parts = append(parts, "> 0", "≤ "+shortDuration(b.longest))
	}
	if b.minItems > 0 {
		parts = append(parts, fmt.Sprintf("≥ %d entries", b.minItems))
	}
	return strings.Join(parts, ", ")
}

// number writes a float the shortest way that reads back to the same value.
func number(x float64) string {
	if x == math.Trunc(x) && math.Abs(x) < 1e15 {
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}
