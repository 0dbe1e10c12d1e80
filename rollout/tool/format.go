package tool

import (
	"slices"
	"strings"
	"unicode"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Format writes a call in the form that [Parse] reads: arguments in the order of the spec's
// parameters, then arguments the spec does not know, by name. Arguments that are missing are left
// out. For a call whose arguments are strings and whose name and keys are legal, Parse(Format(call))
// gives the same name and arguments; an argument that is not a JSON string is written as the string
// of its JSON text.
func Format(call rollout.Call, spec Spec) string {
	var b strings.Builder
	b.WriteString(call.Name)
	for i, key := range argumentOrder(call, spec) {
		if i > 0 {
			b.WriteByte(';')
		}
		value, ok := call.Args.StringArg(key)
		if !ok {
			value = string(call.Args[key])
		}
		b.WriteString(" " + key + ": " + formatValue(value))
	}
	return b.String()
}

// argumentOrder lists a call's arguments: those the spec knows in its order, then the others by name.
func argumentOrder(call rollout.Call, spec Spec) []string {
	keys := make([]string, 0, len(call.Args))
	for _, param := range spec.Params {
		if _, ok := call.Args[param.Name]; ok {
			keys = append(keys, param.Name)
		}
	}
	known := len(keys)
	for key := range call.Args {
		if !slices.Contains(keys[:known], key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys[known:])
	return keys
}

// FormatAnswer writes a final answer in the form that [Parse] reads.
func FormatAnswer(text string) string {
	return answerName + ": " + formatValue(text)
}

// formatValue writes a value bare where that is legal and as a JSON string elsewhere. JSON escapes
// '<' and '>', so that no value can spell a special token of a tokenizer.
func formatValue(value string) string {
	if isBare(value) {
		return value
	}
	return string(encode(value))
}

// Normalize brings an answer to the form in which answers are compared: lower case, punctuation
// turned into spaces, single spaces. A minus sign that opens a number and a point inside a number
// stay, so that -12, 1.2 and 12 remain three answers.
func Normalize(answer string) string {
	runes := []rune(strings.ToLower(answer))
	at := func(i int) rune {
		if i < 0 || i >= len(runes) {
			return ' '
		}
		return runes[i]
	}
	wordy := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) }
	var b strings.Builder
	for i, r := range runes {
		sign := r == '-' && unicode.IsDigit(at(i+1)) && !wordy(at(i-1))
		point := r == '.' && unicode.IsDigit(at(i-1)) && unicode.IsDigit(at(i+1))
		if wordy(r) || sign || point {
			b.WriteRune(r)
		} else {
			b.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// Excerpt returns text that an observation or error may quote: what the policy wrote, cut to 24
// characters, with everything but letters, digits, spaces and simple punctuation replaced by '?'.
func Excerpt(text string) string {
	const most = 24
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > most {
			b.WriteString("..")
			break
		}
		if r != unicode.ReplacementChar && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" _-+*/%().,:;=", r)) {
			b.WriteRune(r)
		} else {
			b.WriteByte('?')
		}
	}
	return b.String()
}
