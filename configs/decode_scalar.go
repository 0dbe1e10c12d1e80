package configs

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// text reads a scalar as text. A plain number or truth value is refused: whoever writes one where
// text is wanted has either the wrong key in mind or forgot the quotes.
func (d *decoder) text(path string, n *node, t reflect.Type) (string, bool) {
	switch {
	case n.kind != scalarNode:
		d.wrongType(n, path, t)
		return "", false
	case !n.quoted && (looksNumeric(n.text) || n.text == "true" || n.text == "false"):
		if _, closed := d.enums[t]; closed {
			d.wrongType(n, path, t)
		} else {
			d.fail(n, path, fmt.Sprintf("want text, got %s: write %q", n.text, n.text))
		}
		return "", false
	}
	return n.text, true
}

func (d *decoder) number(path string, n *node, v reflect.Value, limits bounds) {
	t := v.Type()
	if n.kind != scalarNode || n.quoted {
		d.wrongType(n, path, t)
		return
	}
	var x float64
	var err error
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		var i int64
		if i, err = strconv.ParseInt(n.text, 10, t.Bits()); err == nil {
			v.SetInt(i)
		}
		x = float64(i)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if strings.HasPrefix(n.text, "-") && looksNumeric(n.text) {
			d.fail(n, path, n.text+" is too small: at least 0")
			return
		}
		var u uint64
		if u, err = strconv.ParseUint(n.text, 10, t.Bits()); err == nil {
			v.SetUint(u)
		}
		x = float64(u)
	case reflect.Float32, reflect.Float64:
		if isInfinite(n.text) {
			d.fail(n, path, fmt.Sprintf("want a finite number, got %s", n.text))
			return
		}
		if strings.ContainsAny(n.text, "xXpP_") {
			err = strconv.ErrSyntax
		} else if x, err = strconv.ParseFloat(n.text, t.Bits()); err == nil {
			v.SetFloat(x)
		}
	default:
		panic("configs: no way to write a " + t.String()) // a programmer's mistake that every test of the schema meets
	}
	switch {
	case errors.Is(err, strconv.ErrRange):
		d.fail(n, path, fmt.Sprintf("%s does not fit %s", n.text, sizeOf(t)))
	case err != nil || hasLeadingZero(n.text) && t.Kind() != reflect.Float64 && t.Kind() != reflect.Float32:
		d.wrongType(n, path, t)
	default:
		if refusal := limits.refuse(x, n.text); refusal != "" {
			d.fail(n, path, refusal)
		}
	}
}

// isInfinite reports spellings that ParseFloat or YAML reads as something without a finite value.
func isInfinite(text string) bool {
	text = strings.TrimPrefix(strings.TrimLeft(strings.ToLower(text), "+-"), ".")
	return text == "inf" || text == "infinity" || text == "nan"
}

// hasLeadingZero reports a spelling that some YAML readers take for octal.
func hasLeadingZero(text string) bool {
	text = strings.TrimLeft(text, "+-")
	return len(text) > 1 && text[0] == '0'
}

func sizeOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Float32, reflect.Float64:
		return fmt.Sprintf("a %d-bit float: at most %s", t.Bits(), number(map[int]float64{32: math.MaxFloat32, 64: math.MaxFloat64}[t.Bits()]))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("%d bits: at most %d", t.Bits(), int64(math.MaxInt64)>>(64-t.Bits()))
	default:
		return fmt.Sprintf("%d bits: at most %d", t.Bits(), uint64(math.MaxUint64)>>(64-t.Bits()))
	}
}
