package tool

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/turnwise-rl/turnwise/rollout"
)

// pythonTag is the token with which Llama 3.1 may open a call.
const pythonTag = "<|python_tag|>"

// parseLlama3 reads a turn in the form that the chat templates of Llama 3.1 and 3.2 ask for, one call
// and nothing else:
//
//	{"name": "search", "parameters": {"entity": "mira", "relation": "mentor"}}
//
// with or without <|python_tag|> before it and white space around it. A turn that begins with the tag or
// with a brace is a call; every other is the final answer, its text without the white space around it,
// which must leave something. Thinking goes first, see [withoutThinking].
func parseLlama3(text string) Action {
	action, err := readLlama3(text)
	if err != nil {
		return unparsable(err)
	}
	return action
}

func readLlama3(text string) (Action, error) {
	if !utf8.ValidString(text) {
		return Action{}, errNotUTF8
	}
	if !opensLlama3(text) {
		var err error
		if text, err = withoutThinking(text, pythonTag); err != nil {
			return Action{}, err
		}
	}
	if !opensLlama3(text) {
		return answered(text)
	}
	call, rest, err := readCall(strings.TrimPrefix(trimLeft(text), pythonTag), "parameters")
	if err != nil {
		return Action{}, err
	}
	if rest = trimLeft(rest); rest != "" {
		return Action{}, fmt.Errorf("a call stands alone, but %q follows it", Excerpt(rest))
	}
	return Action{Calls: []rollout.Call{call}}, nil
}

func opensLlama3(text string) bool {
	text = trimLeft(text)
	return strings.HasPrefix(text, "{") || strings.HasPrefix(text, pythonTag)
}

func formatLlama3(call rollout.Call, spec Spec) string { return writeCall(call, spec, "parameters") }
