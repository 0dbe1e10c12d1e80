package tool

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/turnwise-rl/turnwise/rollout"
)

// answerName is the reserved word that opens a final answer; no tool can have it as its name.
const answerName = "answer"

// Parse reads the text of one turn. The text is either calls, one a line:
//
//	search entity: mira; relation: mentor
//	python code: 12*34-17
//
// or a single final answer:
//
//	answer: tavo
//
// A call of a tool without parameters is its bare name. Names and keys are lower-case letters,
// digits and underscores, beginning with a letter. A value is bare text without ';', '"', '<', '>',
// control characters or surrounding spaces, or a JSON string literal. Exactly one space separates
// name, key, value and the next key.
//
// The reading is strict: a text of any other form yields an Action whose FormatError says what is
// wrong and whose only call, without name and arguments, is [rollout.CallUnparsable]. Nothing is
// repaired or guessed.
func Parse(text string) Action {
	action, err := parseTurn(text)
	if err != nil {
		return unparsable(err)
	}
	return action
}

func parseTurn(text string) (Action, error) {
	if !utf8.ValidString(text) {
		return Action{}, errNotUTF8
	}
	if answer, ok := strings.CutPrefix(text, answerName+":"); ok {
		value, err := parseAnswer(answer)
		if err != nil {
			return Action{}, err
		}
		return Action{Answer: value, Answered: true}, nil
	}
	var action Action
	for i, line := range strings.Split(text, "\n") {
		call, err := parseCall(line)
		if err != nil {
			return Action{}, fmt.Errorf("line %d: %w", i+1, err)
		}
		action.Calls = append(action.Calls, call)
	}
	return action, nil
}

func parseAnswer(rest string) (string, error) {
	rest, ok := strings.CutPrefix(rest, " ")
	if !ok {
		return "", fmt.Errorf("one space must follow %q", answerName+":")
	}
	value, rest, err := parseValue(rest)
	if err != nil {
		return "", fmt.Errorf("answer: %w", err)
	}
	if rest != "" {
		return "", fmt.Errorf("an answer stands alone, but %q follows it", Excerpt(rest))
	}
	return value, nil
}

func parseCall(line string) (rollout.Call, error) {
	name, rest := cutWord(line)
	switch {
	case name == "":
		return rollout.Call{}, fmt.Errorf("%q does not begin with a tool's name", Excerpt(line))
	case name == answerName:
		return rollout.Call{}, fmt.Errorf("%q is reserved for the final answer, which stands alone", answerName)
	}
	call := rollout.Call{Name: name, Args: rollout.Args{}, Status: rollout.CallOK}
	if rest == "" {
		return call, nil
	}
	for rest != "" {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, " "); !ok {
			return rollout.Call{}, fmt.Errorf("one space must come before %q", Excerpt(rest))
		}
		var key string
		if key, rest = cutWord(rest); key == "" {
			return rollout.Call{}, fmt.Errorf("%q does not begin with an argument's name", Excerpt(rest))
		}
		if _, twice := call.Args[key]; twice {
			return rollout.Call{}, fmt.Errorf("argument %s is given twice", Excerpt(key))
		}
		if rest, ok = strings.CutPrefix(rest, ": "); !ok {
			return rollout.Call{}, fmt.Errorf("a colon and one space must follow argument %s", Excerpt(key))
		}
		value, after, err := parseValue(rest)
		if err != nil {
			return rollout.Call{}, fmt.Errorf("argument %s: %w", Excerpt(key), err)
		}
		call.Args[key] = encode(value)
		if after == "" {
			return call, nil
		}
		if rest = after[1:]; rest == "" {
			return rollout.Call{}, fmt.Errorf("nothing follows the last semicolon")
		}
	}
	return call, nil
}

// cutWord splits a leading name or key from text; "" when text does not begin with one.
func cutWord(text string) (word, rest string) {
	end := 0
	for end < len(text) && isWordByte(text[end], end == 0) {
		end++
	}
	return text[:end], text[end:]
}

func isWordByte(b byte, first bool) bool {
	return b >= 'a' && b <= 'z' || !first && (b == '_' || b >= '0' && b <= '9')
}

// parseValue splits a leading value from text. The rest is "" or begins with a semicolon.
func parseValue(text string) (value, rest string, err error) {
	if strings.HasPrefix(text, `"`) {
		return parseLiteral(text)
	}
	value = text
	if end := strings.IndexByte(text, ';'); end >= 0 {
		value, rest = text[:end], text[end:]
	}
	if !isBare(value) {
		return "", "", fmt.Errorf("%q is not a bare value; write it as a JSON string", Excerpt(value))
	}
	return value, rest, nil
}

// isBare says whether a value can be written without quotes.
func isBare(value string) bool {
	if value == "" || strings.TrimSpace(value) != value || strings.ContainsAny(value, `;"<>`) || !utf8.ValidString(value) {
		return false
	}
	return strings.IndexFunc(value, unicode.IsControl) < 0
}

// parseLiteral splits a leading JSON string from text.
func parseLiteral(text string) (value, rest string, err error) {
	end := 1
	for end < len(text) && text[end] != '"' {
		if text[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(text) {
		return "", "", fmt.Errorf("the string %q has no end", Excerpt(text))
	}
	literal, rest := text[:end+1], text[end+1:]
	if err := json.Unmarshal([]byte(literal), &value); err != nil {
		return "", "", fmt.Errorf("%q is not a JSON string", Excerpt(literal))
	}
	// The decoder writes U+FFFD for an escape that is half a surrogate pair; that would be a guess.
	if strings.Count(value, "\uFFFD") != strings.Count(literal, "\uFFFD") {
		return "", "", fmt.Errorf("%q holds an escape that is not a character", Excerpt(literal))
	}
	if rest != "" && rest[0] != ';' {
		return "", "", fmt.Errorf("%q follows a string where a semicolon or the end is due", Excerpt(rest))
	}
	return value, rest, nil
}

// encode writes a value as the compact JSON that rollout.Args holds.
func encode(value string) json.RawMessage {
	quoted, _ := json.Marshal(value) // a string always marshals
	return quoted
}
