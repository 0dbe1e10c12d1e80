package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// sequence is a list in a template. The engine's own lists do not find the element -1 of a list of one.
type sequence []any

// GetItem returns an element; negative indices count from the end.
func (s sequence) GetItem(key any) (*exec.Value, bool) {
	i, ok := key.(int)
	if ok && i < 0 {
		i += len(s)
	}
	if !ok || i < 0 || i >= len(s) {
		return exec.AsValue(nil), false
	}
	return exec.ToValue(s[i]), true
}

// wholeNumber is an integer that does not fit 64 bits; it is only ever written out again.
type wholeNumber struct{ digits string }

func (n wholeNumber) String() string { return n.digits }

// maxDepth bounds how deeply JSON may be nested.
const maxDepth = 200

// decodeValue turns JSON into what a template sees: mappings keep the order of their keys, and every
// string, key or value, passes through write.
func decodeValue(raw json.RawMessage, write func(string) string) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	value, err := nextValue(decoder, write, 0)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("no JSON value")
		}
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("data follows the JSON value")
	}
	return value, nil
}

func nextValue(decoder *json.Decoder, write func(string) string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("JSON nested more than %d levels deep", maxDepth)
	}
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch x := token.(type) {
	case string:
		return write(x), nil
	case json.Number:
		return numeric(x)
	case json.Delim:
		if x == '[' {
			return nextSequence(decoder, write, depth)
		}
		return nextMapping(decoder, write, depth)
	}
	return token, nil // a bool or nil
}

func numeric(x json.Number) (any, error) {
	if strings.ContainsAny(x.String(), ".eE") {
		f, err := x.Float64()
		if err != nil {
			return nil, fmt.Errorf("number %s: %w", x, err)
		}
		return f, nil
	}
	if i, err := strconv.Atoi(x.String()); err == nil {
		return i, nil
	}
	return wholeNumber{x.String()}, nil
}

func nextSequence(decoder *json.Decoder, write func(string) string, depth int) (any, error) {
	values := sequence{}
	for decoder.More() {
		value, err := nextValue(decoder, write, depth+1)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	_, err := decoder.Token()
	return values, err
}

func nextMapping(decoder *json.Decoder, write func(string) string, depth int) (any, error) {
	d := exec.NewDict()
	at := map[string]int{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		key, ok := token.(string)
		if !ok {
			return nil, fmt.Errorf("a key of a JSON object is a string, not %v", token)
		}
		value, err := nextValue(decoder, write, depth+1)
		if err != nil {
			return nil, err
		}
		pair := &exec.Pair{Key: exec.AsValue(write(key)), Value: exec.AsValue(value)}
		if i, twice := at[key]; twice { // as Python: the first place, the last value
			d.Pairs[i] = pair
			continue
		}
		at[key] = len(d.Pairs)
		d.Pairs = append(d.Pairs, pair)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	if len(d.Pairs) == 0 {
		return map[string]any{}, nil // an empty Dict would count as true
	}
	return d, nil
}

// writeJSON writes a template's value as json.dumps(value, ensure_ascii=False, indent=indent) does.
// indent < 0 is None: one line with ", " and ": ".
func writeJSON(b *strings.Builder, v *exec.Value, indent, depth int) error {
	if v.IsNil() {
		b.WriteString("null")
		return nil
	}
	if n, ok := v.Interface().(wholeNumber); ok {
		b.WriteString(n.digits)
		return nil
	}
	switch {
	case v.IsError():
		return v
	case depth > maxDepth:
		return fmt.Errorf("tojson: value nested more than %d levels deep", maxDepth)
	case v.IsString():
		writeJSONString(b, v.String())
	case v.IsBool():
		b.WriteString(strconv.FormatBool(v.Bool()))
	case v.IsInteger():
		b.WriteString(v.String())
	case v.IsFloat():
		b.WriteString(pythonFloat(v.Float()))
	case v.IsDict(), v.IsList():
		return writeJSONParts(b, v, indent, depth)
	default:
		return fmt.Errorf("tojson: %T is not JSON serializable", v.Interface())
	}
	return nil
}

func writeJSONParts(b *strings.Builder, v *exec.Value, indent, depth int) error {
	brackets := "[]"
	if v.IsDict() {
		brackets = "{}"
	}
	b.WriteByte(brackets[0])
	line := func(depth int) {
		if indent >= 0 {
			b.WriteString("\n" + strings.Repeat(" ", indent*depth))
		}
	}
	var err error
	empty := true
	v.Iterate(func(i, _ int, key, value *exec.Value) bool {
		empty = false
		if i > 0 && indent >= 0 {
			b.WriteString(",")
		} else if i > 0 {
			b.WriteString(", ")
		}
		line(depth + 1)
		if v.IsDict() {
			writeJSONString(b, key.String())
			b.WriteString(": ")
			key = value
		}
		err = writeJSON(b, key, indent, depth+1)
		return err == nil
	}, func() {})
	if !empty {
		line(depth)
	}
	b.WriteByte(brackets[1])
	return err
}

// writeJSONString escapes what Python's json escapes with ensure_ascii=False.
func writeJSONString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\b':
			b.WriteString(`\b`)
		case '\f':
			b.WriteString(`\f`)
		default:
			if c < 0x20 {
				fmt.Fprintf(b, `\u%04x`, c)
			} else {
				b.WriteByte(c)
			}
		}
	}
	b.WriteByte('"')
}

// pythonFloat is Python's repr of a float: the shortest digits that read back, with an exponent below
// 1e-4 and from 1e16 on.
func pythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}
