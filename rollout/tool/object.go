package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/turnwise-rl/turnwise/rollout"
)

// member is one name and value of a JSON object; values are compact.
type member struct {
	name  string
	value json.RawMessage
}

// readCall splits a leading JSON object from text and reads it as a call whose arguments stand under the
// given key.
func readCall(text, argumentsKey string) (rollout.Call, string, error) {
	value, rest, err := readJSON(text)
	if err != nil {
		return rollout.Call{}, "", err
	}
	members, err := membersOf(value)
	if err != nil {
		return rollout.Call{}, "", fmt.Errorf("a call is a JSON object: %w", err)
	}
	call := rollout.Call{Args: rollout.Args{}, Status: rollout.CallOK}
	var arguments json.RawMessage
	for _, m := range members {
		switch m.name {
		case "name":
			if err := json.Unmarshal(m.value, &call.Name); err != nil || call.Name == "" {
				return rollout.Call{}, "", errors.New("name is not a string with text")
			}
		case argumentsKey:
			arguments = m.value
		default:
			return rollout.Call{}, "", fmt.Errorf("%q is neither name nor %s", Excerpt(m.name), argumentsKey)
		}
	}
	if call.Name == "" || arguments == nil {
		return rollout.Call{}, "", fmt.Errorf("a call has name and %s", argumentsKey)
	}
	given, err := membersOf(arguments)
	if err != nil {
		return rollout.Call{}, "", fmt.Errorf("%s: %w", argumentsKey, err)
	}
	for _, m := range given {
		call.Args[m.name] = m.value
	}
	return call, rest, nil
}

// readJSON splits a leading JSON value from text, in compact form.
func readJSON(text string) (value json.RawMessage, rest string, err error) {
	decoder := json.NewDecoder(strings.NewReader(text))
	var raw json.RawMessage
	if err := decoder.Decode(&raw); err != nil {
		return nil, "", fmt.Errorf("%q is not JSON", Excerpt(trimLeft(text)))
	}
	if halfSurrogate(raw) {
		return nil, "", fmt.Errorf("%q holds an escape that is not a character", Excerpt(string(raw)))
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, raw); err != nil {
		return nil, "", err // Decode has checked the syntax
	}
	return compact.Bytes(), text[decoder.InputOffset():], nil
}

// halfSurrogate reports whether JSON holds an escape of half a surrogate pair, for which decoders write
// U+FFFD: that would be a guess.
func halfSurrogate(raw json.RawMessage) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // what the backslash escapes
		first := escapedUnit(raw[i-1:])
		if !utf16.IsSurrogate(first) {
			continue
		}
		if i+5 >= len(raw) || utf16.DecodeRune(first, escapedUnit(raw[i+5:])) == unicode.ReplacementChar {
			return true
		}
		i += 10
	}
	return false
}

// escapedUnit is the UTF-16 unit of the \uXXXX with which JSON begins; 0 when it begins otherwise.
func escapedUnit(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return 0
	}
	unit, err := strconv.ParseUint(string(raw[2:6]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(unit)
}

// membersOf lists the members of a JSON object in order. A name that occurs twice is an error.
func membersOf(object json.RawMessage) ([]member, error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	first, err := decoder.Token()
	if err != nil || first != json.Delim('{') {
		return nil, fmt.Errorf("%q is not an object", Excerpt(string(object)))
	}
	var members []member
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string) // the decoder only yields strings as names
		if slices.ContainsFunc(members, func(m member) bool { return m.name == name }) {
			return nil, fmt.Errorf("%q is given twice", Excerpt(name))
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		members = append(members, member{name, value})
	}
	return members, nil
}

// writeCall writes a call as json.dumps of Python spaces it, arguments in the order of [Format].
func writeCall(call rollout.Call, spec Spec, argumentsKey string) string {
	var b strings.Builder
	b.WriteString(`{"name": ` + string(encode(call.Name)) + `, "` + argumentsKey + `": {`)
	for i, key := range argumentOrder(call, spec) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(encode(key)) + ": " + string(call.Args[key]))
	}
	b.WriteString("}}")
	return b.String()
}
