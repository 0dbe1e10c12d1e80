package render

import (
	"cmp"
	"slices"
	"strings"
)

// none stands for a stretch of text that is no added token.
const none = -1

// matcher finds added tokens in a text: the leftmost one, and of those that begin at one place the
// longest.
type matcher struct {
	ids map[string]int32
	// lengths are the distinct lengths of the names that begin with a byte, longest first.
	lengths [256][]int
	// firsts are the bytes with which names begin.
	firsts string
}

func newMatcher(ids map[string]int32) matcher {
	m := matcher{ids: ids}
	for name := range ids {
		first := name[0]
		if len(m.lengths[first]) == 0 {
			m.firsts += string([]byte{first})
		}
		if !slices.Contains(m.lengths[first], len(name)) {
			m.lengths[first] = append(m.lengths[first], len(name))
		}
	}
	for _, lengths := range m.lengths {
		slices.SortFunc(lengths, func(a, b int) int { return cmp.Compare(b, a) })
	}
	return m
}

func (m matcher) empty() bool { return len(m.ids) == 0 }

// at returns the length and id of the added token at the start of s, and 0 when there is none.
func (m matcher) at(s string) (length int, id int32) {
	for _, n := range m.lengths[s[0]] {
		if n <= len(s) {
			if id, ok := m.ids[s[:n]]; ok {
				return n, id
			}
		}
	}
	return 0, none
}

// cut gives yield the stretches of a text in order: plain text with [none], or an added token's name
// with its id. It yields no empty stretch.
func (m matcher) cut(text string, yield func(stretch string, id int32)) {
	start := 0
	for i := 0; i < len(text); {
		if m.lengths[text[i]] == nil {
			i++
			continue
		}
		length, id := m.at(text[i:])
		if length == 0 {
			i++
			continue
		}
		if start < i {
			yield(text[start:i], none)
		}
		yield(text[i:i+length], id)
		i += length
		start = i
	}
	if start < len(text) {
		yield(text[start:], none)
	}
}

// normalize is what the tokenizer makes of a text before it cuts it.
func (t *Tokenizer) normalize(text string) string {
	if !t.composes {
		return text
	}
	return nfc(text)
}

// shieldMark opens the two-character codes of shielded text. The three are noncharacters: Unicode keeps
// them for internal use, and templates do not write them.
const shieldMark = "\uFDD0"

const (
	shieldGap   = shieldMark + "\uFDD1" // stands for nothing, and separates
	shieldTwice = shieldMark + "\uFDD2" // stands for the mark itself
)

// escapeMark makes the codes safe from text that holds the mark.
func escapeMark(text string) string { return strings.ReplaceAll(text, shieldMark, shieldTwice) }

// unshield takes the codes of shielded text out again.
var unshield = strings.NewReplacer(shieldGap, "", shieldTwice, shieldMark).Replace

// shield makes text pass through a template without ever becoming part of an added token: names that
// stand in it are broken apart, and where its beginning or its end could complete a name together with
// the template's own text, a gap separates them. Everything else stays as it is, so that what a template
// compares, strips and splits is the text itself.
func (t *Tokenizer) shield(text string) string {
	if t.composes && !t.normalized.empty() {
		text = t.normalize(text) // names are looked for in what the normalizer makes of the text
	}
	text = escapeMark(text)
	var b strings.Builder
	for i := 0; i < len(text); {
		raw, _ := t.raw.at(text[i:])
		normalized, _ := t.normalized.at(text[i:])
		if raw+normalized == 0 {
			b.WriteByte(text[i])
			i++
			continue
		}
		n := firstRune(text[i:]) // and no further: another name may begin inside this one
		b.WriteString(text[i:i+n] + shieldGap)
		i += n
	}
	before, after := t.completes(text)
	shielded := b.String()
	if before {
		shielded = shieldGap + shielded
	}
	if after {
		shielded += shieldGap
	}
	return shielded
}

// completes reports whether text begins with an end of an added token, and whether it ends with a
// beginning or is an inner part of one: what stands before or after it could then complete the name.
func (t *Tokenizer) completes(text string) (before, after bool) {
	if text == "" {
		return false, false
	}
	for _, m := range []matcher{t.raw, t.normalized} {
		for name := range m.ids {
			after = after || strings.Contains(name, text)
			for n := 1; n < len(name) && n <= len(text); n++ {
				before = before || strings.HasPrefix(text, name[len(name)-n:])
				after = after || strings.HasSuffix(text, name[:n])
			}
		}
	}
	return before, after
}

// firstRune is the length of the first character of s.
func firstRune(s string) int {
	for i := range s {
		if i > 0 {
			return i
		}
	}
	return len(s)
}
