package render

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// String is Python's str of a list.
func (s sequence) String() string { return pythonRepr(exec.AsValue(s)) }

// pythonRepr is Python's repr of a value, which is how a list or a mapping shows its parts.
func pythonRepr(v *exec.Value) string {
	var b strings.Builder
	switch {
	case v.IsNil():
		return "None"
	case v.IsString():
		return pythonQuote(v.String())
	case v.IsFloat():
		return pythonFloat(v.Float())
	case v.IsDict():
		b.WriteByte('{')
		v.Iterate(func(i, _ int, key, value *exec.Value) bool {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(pythonRepr(key) + ": " + pythonRepr(value))
			return true
		}, func() {})
		b.WriteByte('}')
	case v.IsList():
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(pythonRepr(v.Index(i)))
		}
		b.WriteByte(']')
	default:
		return v.String()
	}
	return b.String()
}

// pythonQuote is Python's repr of a string: in single quotes unless only those occur inside.
func pythonQuote(s string) string {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteRune(quote)
	return b.String()
}
