package configs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// object is a JSON object that keeps the order of its members.
type object []member

type member struct {
	key   string
	value any
}

// MarshalJSON writes the members in order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := marshal(m.key)
		if err != nil {
			return nil, err
		}
		value, err := marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSpace(b.Bytes()), err
}

// Schema returns the JSON schema of a run's YAML, for editors: completion, hover texts and the same
// limits that [Load] enforces. It uses only keywords of draft-07, which YAML editors support.
// Descriptions are the doc comments of the Go fields.
func Schema() ([]byte, error) {
	s := schemaWriter{language: runLanguage()}
	root := object{
		{"$schema", "http://json-schema.org/draft-07/schema#"},
		{"title", "Turnwise run"},
		{"description", "A training run. Whatever is left out keeps its default; a method may be named by its preset."},
	}
	run := Default()
	root = append(root, s.structure(reflect.ValueOf(&run).Elem())...)
	properties, _ := find(root, "properties").(object)
	for i := range properties {
		if properties[i].key == methodKey {
			properties[i].value = s.method(properties[i].value)
		}
	}
	definitions := object{}
	for _, name := range s.order {
		definitions = append(definitions, member{name, s.definition(s.used[name])})
	}
	root = append(root, member{"definitions", definitions})
	var out bytes.Buffer
	raw, err := marshal(root)
	if err != nil {
		return nil, err
	}
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func find(o object, key string) any {
	for _, m := range o {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// schemaWriter collects the unions it meets, which become definitions.
type schemaWriter struct {
	*language
	used  map[string]*Union
	order []string
}

// method lets a method be a preset's name or start from a preset.
func (s *schemaWriter) method(full any) object {
	names := object{{"type", "string"}, {"enum", MethodNames()}}
	described, _ := full.(object)
	var mapping object
	for _, m := range described {
		switch m.key {
		case "description":
		case "properties":
			properties, _ := m.value.(object)
			preset := append(object{{"description", "The preset to start from; the other keys edit it."}}, names...)
			mapping = append(mapping, member{"properties", append(object{{presetKey, preset}}, properties...)})
		default:
			mapping = append(mapping, m)
		}
	}
	return object{{"description", find(described, "description")}, {"anyOf", []any{names, mapping}}}
}

// setting is the schema of one key.
func (s *schemaWriter) setting(one setting) object {
	var o object
	if text := meaning(one); text != "" {
		o = append(o, member{"description", text})
	}
	schema := s.value(one.value, one.bounds)
	if find(schema, "$ref") != nil {
		return append(o, member{"allOf", []any{schema}}) // draft-07 ignores what stands beside $ref
	}
	o = append(o, schema...)
	if literal, ok := defaultOf(one.value); ok {
		o = append(o, member{"default", literal})
	}
	return o
}

// value is the schema of a value's type; v holds the defaults below it.
func (s *schemaWriter) value(v reflect.Value, limits bounds) object {
	t := v.Type()
	switch {
	case t == durationType:
		return object{{"type", "string"}, {"pattern", `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}}
	case readsText(t):
		return object{{"type", "string"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		inner := reflect.New(t.Elem()).Elem()
		if !v.IsNil() {
			inner = v.Elem()
		}
		return object{{"anyOf", []any{s.value(inner, limits), object{{"type", "null"}}}}}
	case reflect.Interface:
		return s.union(s.unions[t])
	case reflect.Struct:
		return s.structure(v)
	case reflect.Slice:
		o := object{{"type", "array"}, {"items", s.value(s.element(t.Elem()), limits)}}
		if limits.minItems > 0 {
			o = append(o, member{"minItems", limits.minItems})
		}
		return o
	case reflect.Map:
		return object{{"type", "object"}, {"additionalProperties", s.value(s.element(t.Elem()), limits)}}
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.String:
		o := object{{"type", "string"}}
		if values := s.legal(t, limits); values != nil {
			o = append(o, member{"enum", values})
		}
		return o
	case reflect.Float32, reflect.Float64:
		return append(object{{"type", "number"}}, limits.members()...)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if limits.minimum == nil && limits.exclusiveMinimum == nil {
			zero := 0.0
			limits.minimum = &zero
		}
		fallthrough
	default:
		return append(object{{"type", "integer"}}, limits.members()...)
	}
}

func (b bounds) members() object {
	var o object
	for _, one := range []struct {
		key   string
		limit *float64
	}{{"minimum", b.minimum}, {"exclusiveMinimum", b.exclusiveMinimum}, {"maximum", b.maximum}, {"exclusiveMaximum", b.exclusiveMaximum}} {
		if one.limit != nil {
			o = append(o, member{one.key, *one.limit})
		}
	}
	return o
}

// structure is the schema of a mapping with fixed keys. An inline union makes it one of several.
func (s *schemaWriter) structure(v reflect.Value) object {
	list, inline := s.settings(v)
	if inline == nil {
		return s.orShort(v.Type(), list, s.mapping(nil, list))
	}
	u := s.unions[inline.value.Type()]
	choices := make([]any, len(u.Variants))
	for i, variant := range u.Variants {
		choices[i] = s.variant(variant, list)
	}
	return object{{"oneOf", choices}}
}

// orShort lets the value of one key stand for a mapping of a type whose scalar is short for it.
func (s *schemaWriter) orShort(t reflect.Type, list []setting, mapping object) object {
	key, short := s.shorts[t]
	at := slices.IndexFunc(list, func(one setting) bool { return one.name == key })
	if !short || at < 0 {
		return mapping
	}
	return object{{"anyOf", []any{s.value(list[at].value, list[at].bounds), mapping}}}
}

// mapping is the schema of a mapping with the leading properties and one for each setting.
func (s *schemaWriter) mapping(leading object, list []setting) object {
	properties := append(object{}, leading...)
	for _, one := range list {
		properties = append(properties, member{one.name, s.setting(one)})
	}
	return object{{"type", "object"}, {"additionalProperties", false}, {"properties", properties}}
}

// variant is the schema of one choice of a union, with the keys that lie beside it.
func (s *schemaWriter) variant(variant Variant, beside []setting) object {
	list, _ := s.settings(dereference(addressable(reflect.ValueOf(variant.New()))))
	typeSchema := object{{"const", variant.Name}}
	text := variant.Doc
	if variant.Cite != "" {
		text += " (" + variant.Cite + ")"
	}
	o := s.mapping(object{{typeKey, typeSchema}}, append(append([]setting(nil), list...), beside...))
	return append(object{{"description", text}, {"required", []string{typeKey}}}, o...)
}

// union refers to the definition of a union.
func (s *schemaWriter) union(u *Union) object {
	if s.used == nil {
		s.used = make(map[string]*Union)
	}
	if _, seen := s.used[u.Kind]; !seen {
		s.used[u.Kind] = u
		s.order = append(s.order, u.Kind)
		s.definition(u) // meets the unions below it, so that each has a definition
	}
	return object{{"$ref", "#/definitions/" + u.Kind}}
}

func (s *schemaWriter) definition(u *Union) object {
	choices := make([]any, len(u.Variants))
	for i, variant := range u.Variants {
		choices[i] = s.variant(variant, nil)
	}
	return object{{"description", u.Kind + " " + u.Doc + "; its " + typeKey + " selects which"}, {"oneOf", choices}}
}

// defaultOf returns a scalar default as JSON has it.
func defaultOf(v reflect.Value) (any, bool) {
	t := v.Type()
	if t == durationType || readsText(t) {
		return newLanguage(nil, nil).encode(v).text, true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Interface(), true
	}
	return nil, false
}

// describe is the field's doc comment in the words of the YAML: Go names of the struct's fields
// become keys.
func describe(one setting) string {
	text := comments[commentKey(one.owner, one.field.Name)]
	for i := range one.owner.NumField() {
		field := one.owner.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			text = replaceWord(text, field.Name, name)
		}
	}
	return text
}

// Explanation is what a part means, its equation and its source: the doc comment of its type in the words of the
// YAML, with its lines as they are. "" for what is no part.
func Explanation(part any) string {
	t := reflect.TypeOf(part)
	text := comments[strings.TrimPrefix(t.PkgPath(), modulePath)+"."+t.Name()]
	for _, u := range runLanguage().unions {
		if rest, ok := strings.CutPrefix(text, t.Name()+" "); ok && u.nameOfValue(part) != "" {
			text = u.nameOfValue(part) + " " + rest
		}
	}
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); name != "" && name != "-" {
			text = replaceWord(text, t.Field(i).Name, name)
		}
	}
	return text
}

// meaning is describe for a place that shows the key already: "layers is the number of …" loses its
// subject.
func meaning(one setting) string {
	text := describe(one)
	for _, subject := range []string{one.name + " is ", one.name + " are "} {
		if rest, ok := strings.CutPrefix(text, subject); ok {
			first, size := utf8.DecodeRuneInString(rest)
			return string(unicode.ToUpper(first)) + rest[size:]
		}
	}
	return text
}

// modulePath is what the keys of the comment table leave out.
const modulePath = "github.com/turnwise-rl/turnwise/"

// commentKey names a field in the comment table: "trainer/policy.Config.Layers".
func commentKey(owner reflect.Type, field string) string {
	return strings.TrimPrefix(owner.PkgPath(), modulePath) + "." + owner.Name() + "." + field
}

// replaceWord replaces whole words only.
func replaceWord(text, from, to string) string {
	var b strings.Builder
	for {
		i := strings.Index(text, from)
		if i < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := i + len(from)
		whole := (i == 0 || !wordByte(text[i-1])) && (end == len(text) || !wordByte(text[end]))
		b.WriteString(text[:i])
		if whole {
			b.WriteString(to)
		} else {
			b.WriteString(from)
		}
		text = text[end:]
	}
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
