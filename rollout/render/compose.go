package render

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// joiner is the character that the library puts into runs of more than 30 combining marks, to bound the
// memory of streams (UAX 15, Stream-Safe Text). It is no part of NFC, and tokenizers do not expect it.
const joiner = "\u034f"

// nfc is Unicode's normalization form C of a text of any kind. Bytes that are not UTF-8 stay.
func nfc(text string) string {
	composed := norm.NFC.String(text)
	if strings.Count(composed, joiner) == strings.Count(text, joiner) {
		return composed
	}
	return composeWhole(text)
}

// composeWhole is NFC by its definition (UAX 15): full decomposition, canonical order, composition.
func composeWhole(text string) string {
	marks := decompose(text)
	for i := 0; i < len(marks); i++ {
		end := i
		for end < len(marks) && marks[end].class != 0 {
			end++
		}
		slices.SortStableFunc(marks[i:end], func(a, b mark) int { return int(a.class) - int(b.class) })
		i = max(i, end)
	}
	composed := marks[:0]
	starter, last := -1, -1 // last is the class of what was appended last
	for _, m := range marks {
		if starter >= 0 && (last < int(m.class) || last == 0) {
			if joined := norm.NFC.String(composed[starter].text + m.text); utf8.RuneCountInString(joined) == 1 {
				composed[starter].text = joined
				continue
			}
		}
		if m.class == 0 {
			starter = len(composed)
		}
		last = int(m.class)
		composed = append(composed, m)
	}
	var b strings.Builder
	for _, m := range composed {
		b.WriteString(m.text)
	}
	return b.String()
}

// mark is one character, or one invalid byte, with its canonical combining class; 0 is a starter.
type mark struct {
	text  string
	class uint8
}

// decompose takes every character apart as far as it goes.
func decompose(text string) []mark {
	marks := make([]mark, 0, len(text))
	for i := 0; i < len(text); {
		r, width := utf8.DecodeRuneInString(text[i:])
		character := text[i : i+width]
		i += width
		if r == utf8.RuneError && width == 1 {
			marks = append(marks, mark{text: character})
			continue
		}
		for _, part := range norm.NFD.String(character) { // a single character has few marks of its own
			one := string(part)
			marks = append(marks, mark{text: one, class: norm.NFD.PropertiesString(one).CCC()})
		}
	}
	return marks
}
