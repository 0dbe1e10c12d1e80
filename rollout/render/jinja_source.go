package render

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// plainSource rewrites a template's source into one that the template engine reads as Jinja2 reads the
// original, with trim_blocks and lstrip_blocks on. It applies the white space control (the signs - and +
// of tags, the line break after a block, the blanks before one), because the engine strips blanks
// also before a block that does not begin its line, and it spells the strings inside tags anew, because
// the engine takes escapes in no fixed order. Line breaks that fall away move into comments, so that lines
// keep their numbers.
func plainSource(source string) (string, error) {
	source = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(source)
	source = strings.TrimSuffix(source, "\n") // keep_trailing_newline is off
	var out strings.Builder
	lineStarts := true
	for pos := 0; ; {
		begin := nextTag(source, pos)
		if begin < 0 {
			out.WriteString(source[pos:])
			return out.String(), nil
		}
		tag, err := scanTag(source, begin)
		if err != nil {
			return "", fmt.Errorf("line %d: %w", 1+strings.Count(source[:begin], "\n"), err)
		}
		data := source[pos:begin]
		kept := data
		if tag.before == '-' {
			kept = strings.TrimRightFunc(data, unicode.IsSpace)
		} else if line := strings.LastIndexByte(data, '\n') + 1; tag.before == 0 && !tag.prints() &&
			(line > 0 || lineStarts) && strings.TrimSpace(data[line:]) == "" {
			kept = data[:line]
		}
		pos = tag.end
		if tag.after == '-' {
			pos = len(source) - len(strings.TrimLeftFunc(source[pos:], unicode.IsSpace))
		} else if tag.after == 0 && !tag.prints() && strings.HasPrefix(source[pos:], "\n") {
			pos++
		}
		lineStarts = pos > tag.end && source[pos-1] == '\n'
		if strings.HasSuffix(kept, "{") { // or it would open a tag together with the one that follows
			kept = kept[:len(kept)-1] + "{{ '{' }}"
		}
		out.WriteString(kept)
		out.WriteString(goneBreaks(source[:begin], out.String()))
		if !tag.comments() {
			out.WriteString(tag.opens + plainExpression(tag.inner) + tag.closes())
		}
		out.WriteString(goneBreaks(source[:pos], out.String()))
	}
}

// goneBreaks is a comment with as many line breaks as out has fewer than source.
func goneBreaks(source, out string) string {
	gone := strings.Count(source, "\n") - strings.Count(out, "\n")
	if gone <= 0 {
		return ""
	}
	return "{#" + strings.Repeat("\n", gone) + "#}"
}

// plainExpression spells the inside of a tag without line breaks outside strings and with strings whose
// only escapes are those of the backslash and the quote.
func plainExpression(inner string) string {
	var out strings.Builder
	for i := 0; i < len(inner); {
		switch c := inner[i]; c {
		case '"', '\'':
			end := stringEnd(inner, i)
			text := pythonUnescape(inner[i+1 : end])
			out.WriteString(`"` + strings.NewReplacer(`\`, `\x5c`, `"`, `\x22`).Replace(text) + `"`)
			i = end + 1
		case '\n':
			out.WriteByte(' ')
			i++
		default:
			out.WriteByte(c)
			i++
		}
	}
	return out.String()
}

// stringEnd is where the string that begins at i closes.
func stringEnd(source string, i int) int {
	quote := source[i]
	for i++; i < len(source) && source[i] != quote; i++ {
		if source[i] == '\\' {
			i++
		}
	}
	return min(i, len(source))
}

// pythonUnescape reads the escapes of a Python string; an unknown one keeps its backslash.
func pythonUnescape(text string) string {
	simple := map[byte]string{'n': "\n", 't': "\t", 'r': "\r", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f", 'v': "\v", '\n': ""}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		i++
		if plain, ok := simple[text[i]]; ok {
			out.WriteString(plain)
			continue
		}
		if n := digits[text[i]]; n > 0 && i+n < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+1+n], 16, 32); err == nil {
				out.WriteRune(rune(code))
				i += n
				continue
			}
		}
		out.WriteString(text[i-1 : i+1])
	}
	return out.String()
}

// sourceTag is one {{ }}, {% %} or {# #}.
type sourceTag struct {
	opens         string
	inner         string // without the signs
	before, after byte   // '-', '+' or 0
	end           int    // where it ends in the source
}

// prints tells {{ }}, around which the options change nothing.
func (t sourceTag) prints() bool { return t.opens == "{{" }

func (t sourceTag) comments() bool { return t.opens == "{#" }

func (t sourceTag) closes() string {
	return map[string]string{"{{": "}}", "{%": "%}", "{#": "#}"}[t.opens]
}

// nextTag is where the next tag opens, or -1.
func nextTag(source string, pos int) int {
	for i := pos; i+1 < len(source); i++ {
		if source[i] == '{' && strings.IndexByte("{%#", source[i+1]) >= 0 {
			return i
		}
	}
	return -1
}

// scanTag reads the tag at begin.
func scanTag(source string, begin int) (sourceTag, error) {
	tag := sourceTag{opens: source[begin : begin+2]}
	at := begin + 2
	if at < len(source) && (source[at] == '-' || source[at] == '+') {
		tag.before = source[at]
		at++
	}
	close := tagEnd(source, at, tag.closes())
	if close < 0 {
		return sourceTag{}, fmt.Errorf("%s is not closed with %s", tag.opens, tag.closes())
	}
	tag.end = close + 2
	if last := close - 1; last >= at && (source[last] == '-' || source[last] == '+') {
		tag.after = source[last]
		close = last
	}
	tag.inner = source[at:close]
	return tag, nil
}

// tagEnd is where the closing mark stands, outside strings and brackets, or -1.
func tagEnd(source string, at int, closes string) int {
	if closes == "#}" {
		if i := strings.Index(source[at:], closes); i >= 0 {
			return at + i
		}
		return -1
	}
	depth := 0
	for i := at; i < len(source); i++ {
		switch c := source[i]; {
		case depth == 0 && strings.HasPrefix(source[i:], closes):
			return i
		case c == '"' || c == '\'':
			i = stringEnd(source, i)
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		}
	}
	return -1
}
