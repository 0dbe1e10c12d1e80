package configs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// schemaKeywords are the keywords the schema may use, all of draft-07, as far as check knows them.
var schemaKeywords = []string{"$schema", "title", "description", "default", "type", "enum", "const", "properties", "required",
	"additionalProperties", "items", "minItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "pattern",
	"oneOf", "anyOf", "allOf", "$ref", "definitions"}

// schemaChecker validates JSON values against a schema, keyword by keyword as draft-07 says.
type schemaChecker struct{ root map[string]any }

func newSchemaChecker(t *testing.T) schemaChecker {
	t.Helper()
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var c schemaChecker
	if err := json.Unmarshal(raw, &c.root); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c schemaChecker) check(schema any, value any, path string) error {
	if allowed, ok := schema.(bool); ok {
		if !allowed {
			return fmt.Errorf("%s: not allowed", path)
		}
		return nil
	}
	s := schema.(map[string]any)
	for keyword := range s {
		if !slices.Contains(schemaKeywords, keyword) {
			return fmt.Errorf("%s: keyword %s", path, keyword)
		}
	}
	if ref, ok := s["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/definitions/")
		definition, ok := c.root["definitions"].(map[string]any)[name]
		if !ok {
			return fmt.Errorf("%s: no definition %s", path, name)
		}
		return c.check(definition, value, path)
	}
	for _, err := range []error{c.scalar(s, value, path), c.collection(s, value, path), c.combined(s, value, path)} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c schemaChecker) scalar(s map[string]any, value any, path string) error {
	if kind, ok := s["type"].(string); ok && !hasType(kind, value) {
		return fmt.Errorf("%s: %v is no %s", path, value, kind)
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, value) {
		return fmt.Errorf("%s: %v is not in %v", path, value, enum)
	}
	if constant, ok := s["const"]; ok && constant != value {
		return fmt.Errorf("%s: %v is not %v", path, value, constant)
	}
	if pattern, ok := s["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(value.(string)) {
		return fmt.Errorf("%s: %v does not match %s", path, value, pattern)
	}
	if x, ok := value.(float64); ok {
		for keyword, holds := range map[string]func(limit float64) bool{
			"minimum": func(l float64) bool { return x >= l }, "exclusiveMinimum": func(l float64) bool { return x > l },
			"maximum": func(l float64) bool { return x <= l }, "exclusiveMaximum": func(l float64) bool { return x < l },
		} {
			if limit, ok := s[keyword].(float64); ok && !holds(limit) {
				return fmt.Errorf("%s: %v breaks %s %v", path, x, keyword, limit)
			}
		}
	}
	return nil
}

func hasType(kind string, value any) bool {
	switch v := value.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string"
	case float64:
		return kind == "number" || kind == "integer" && v == float64(int64(v))
	case []any:
		return kind == "array"
	default:
		return kind == "object"
	}
}

func (c schemaChecker) collection(s map[string]any, value any, path string) error {
	switch value := value.(type) {
	case []any:
		if least, ok := s["minItems"].(float64); ok && len(value) < int(least) {
			return fmt.Errorf("%s: %d items", path, len(value))
		}
		for i, item := range value {
			if s["items"] != nil {
				if err := c.check(s["items"], item, index(path, i)); err != nil {
					return err
				}
			}
		}
	case map[string]any:
		properties, _ := s["properties"].(map[string]any)
		for _, key := range asStrings(s["required"]) {
			if _, ok := value[key]; !ok {
				return fmt.Errorf("%s: no %s", path, key)
			}
		}
		for key, one := range value {
			property, ok := properties[key]
			if !ok {
				if property, ok = s["additionalProperties"]; !ok {
					continue
				}
			}
			if err := c.check(property, one, join(path, key)); err != nil {
				return err
			}
		}
	}
	return nil
}

func asStrings(list any) []string {
	var out []string
	items, _ := list.([]any)
	for _, item := range items {
		out = append(out, item.(string))
	}
	return out
}

func (c schemaChecker) combined(s map[string]any, value any, path string) error {
	for keyword, enough := range map[string]func(passed, all int) bool{
		"oneOf": func(passed, _ int) bool { return passed == 1 },
		"anyOf": func(passed, _ int) bool { return passed > 0 },
		"allOf": func(passed, all int) bool { return passed == all },
	} {
		choices, ok := s[keyword].([]any)
		if !ok {
			continue
		}
		passed, failures := 0, []string(nil)
		for _, choice := range choices {
			if err := c.check(choice, value, path); err != nil {
				failures = append(failures, err.Error())
			} else {
				passed++
			}
		}
		if !enough(passed, len(choices)) {
			return fmt.Errorf("%s: %s: %d of %d pass: %s", path, keyword, passed, len(choices), strings.Join(failures, "; "))
		}
	}
	return nil
}

// asJSON reads YAML with the ordinary decoder, as an editor's validator sees it.
func asJSON(t *testing.T, data []byte) any {
	t.Helper()
	raw, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	return value
}

func TestSchemaAcceptsWhatLoads(t *testing.T) {
	c := newSchemaChecker(t)
	for _, name := range PresetNames() {
		source, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.check(c.root, asJSON(t, source.Data), ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Every variant of every part, with its defaults.
	l := runLanguage()
	for _, u := range l.unions {
		for _, variant := range u.Variants {
			value := reflect.New(u.Interface).Elem()
			value.Set(reflect.ValueOf(variant.New()))
			definition := map[string]any{"$ref": "#/definitions/" + u.Kind}
			if u.Kind == "environment" {
				definition = c.root["properties"].(map[string]any)["environments"].(map[string]any)["items"].(map[string]any)
			}
			if err := c.check(definition, asJSON(t, emit(l.encode(value), false)), u.Kind); err != nil {
				t.Errorf("%s %s: %v", u.Kind, variant.Name, err)
			}
		}
	}
	full := load(t, nil, calcOnly)
	if err := c.check(c.root, asJSON(t, full.YAML()), ""); err != nil {
		t.Errorf("resolved run: %v", err)
	}
}

// TestSchemaRefusesWhatIsWrongInOneValue: the schema sees keys, types, names and ranges, not
// constraints between values.
func TestSchemaRefusesWhatIsWrongInOneValue(t *testing.T) {
	c := newSchemaChecker(t)
	for _, name := range []string{"unknown-key", "misplaced-key", "wrong-types", "out-of-range", "unknown-environment", "environment-without-type",
		"settings-of-another-environment", "unknown-method", "unknown-method-preset", "unknown-part", "part-of-wrong-shape", "durations", "no-value"} {
		data, err := os.ReadFile(filepath.Join("testdata", "bad", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.check(c.root, asJSON(t, data), ""); err == nil {
			t.Errorf("%s: the schema accepts it", name)
		}
	}
}
