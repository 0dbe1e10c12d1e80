package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// field is a member of a JSON object the format knows. read gets its path and its value, never null.
type field struct {
	name string
	need need
	read func(at string, raw []byte) error
}

type need bool

const (
	required need = true
	optional need = false
)

// object reads a JSON object whose members are exactly the known fields: names match exactly, and a
// member that is unknown, there twice, or missing though required is an error. encoding/json alone
// would accept names in another case and repeated members, and could not say where it stands.
func object(at string, raw []byte, fields []field) error {
	where := at
	if where == "" {
		where = "line"
	}
	if kind := kindOf(raw); kind != "object" {
		return fmt.Errorf("%s: %s, want an object", where, kind)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if _, err := decoder.Token(); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	seen := make([]bool, len(fields))
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		name, _ := token.(string) // members of an object have string names
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return fmt.Errorf("%s: %w", join(at, name), err)
		}
		i := find(fields, name)
		switch {
		case i < 0:
			return fmt.Errorf("%s: unknown field; known: %s", join(at, name), names(fields))
		case seen[i]:
			return fmt.Errorf("%s: the field is there twice", join(at, name))
		}
		seen[i] = true
		if kindOf(value) == "null" {
			if fields[i].need == required {
				return fmt.Errorf("%s: null, but the field is required", join(at, name))
			}
			continue
		}
		if err := fields[i].read(join(at, name), value); err != nil {
			return err
		}
	}
	for i, f := range fields {
		if f.need == required && !seen[i] {
			return fmt.Errorf("%s: the field is missing", join(at, f.name))
		}
	}
	return nil
}

// into reads a plain value.
func into[T any](target *T) func(string, []byte) error {
	return func(at string, raw []byte) error {
		err := json.Unmarshal(raw, target)
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) {
			if float := wrongType.Type.Kind(); strings.HasSuffix(wrongType.Value, beyond) ||
				strings.HasPrefix(wrongType.Value, "number") && (float == reflect.Float64 || float == reflect.Float32) {
				return fmt.Errorf("%s: not a finite number", at)
			}
			return fmt.Errorf("%s: %s does not fit %s", at, wrongType.Value, wrongType.Type)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		return nil
	}
}

// intoList reads a list of numbers. encoding/json would read a null among them as 0.
func intoList[T any](target *[]T) func(string, []byte) error {
	return func(at string, raw []byte) error {
		if err := into(target)(at, raw); err != nil {
			return err
		}
		if bytes.Contains(raw, []byte("null")) {
			return fmt.Errorf("%s: the list holds a null; only numbers may stand in it", at)
		}
		return nil
	}
}

// intoArgs reads the arguments of a call; none is nil.
func intoArgs(target *rollout.Args) func(string, []byte) error {
	return func(at string, raw []byte) error {
		if err := into(target)(at, raw); err != nil {
			return err
		}
		for name, value := range *target {
			var compact bytes.Buffer
			if bytes.Contains(value, []byte(beyond)) {
				return fmt.Errorf("%s.%s: holds a number that is not finite", at, name)
			}
			if err := json.Compact(&compact, value); err != nil {
				return fmt.Errorf("%s.%s: %w", at, name, err)
			}
			(*target)[name] = compact.Bytes()
		}
		if len(*target) == 0 {
			*target = nil
		}
		return nil
	}
}

// intoValues reads numbers by name; none is nil.
func intoValues(target *map[string]float64) func(string, []byte) error {
	return func(at string, raw []byte) error {
		var values map[string]json.RawMessage
		if err := into(&values)(at, raw); err != nil || len(values) == 0 {
			return err
		}
		*target = make(map[string]float64, len(values))
		for _, name := range slices.Sorted(maps.Keys(values)) {
			var x float64
			if kindOf(values[name]) == "null" {
				return fmt.Errorf("%s.%s: null, want a number", at, name)
			}
			if err := into(&x)(at+"."+name, values[name]); err != nil {
				return err
			}
			(*target)[name] = x
		}
		return nil
	}
}

// each reads a list of objects; an empty list is nil.
func each[T any](target *[]T, read func(at string, raw []byte, item *T) error) func(string, []byte) error {
	return func(at string, raw []byte) error {
		var items []json.RawMessage
		if err := into(&items)(at, raw); err != nil || len(items) == 0 {
			return err
		}
		*target = make([]T, len(items))
		for i, item := range items {
			if err := read(fmt.Sprintf("%s[%d]", at, i), item, &(*target)[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

func find(fields []field, name string) int {
	for i, f := range fields {
		if f.name == name {
			return i
		}
	}
	return -1
}

func names(fields []field) string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.name
	}
	return strings.Join(all, ", ")
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// kindOf names the kind of a JSON value by its first byte.
func kindOf(raw []byte) string {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "object"
	case '[':
		return "list"
	case '"':
		return "string"
	case 'n':
		return "null"
	case 't', 'f':
		return "bool"
	}
	return "number"
}

// syntaxError says where a line stops being JSON.
func syntaxError(line []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(line, &raw)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("byte %d: %w", syntax.Offset, err)
	}
	return fmt.Errorf("not JSON: %w", err)
}
