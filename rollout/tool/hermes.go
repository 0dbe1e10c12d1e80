package tool

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/turnwise-rl/turnwise/rollout"
)

// The tags around a call.
const (
	hermesOpen = "<tool_call>"
	hermesShut = "</tool_call>"
)

// parseHermes reads a turn in the form that Qwen's chat templates ask for, which is that of Nous
// Research's Hermes models:
//
//	I look it up.
//	<tool_call>
//	{"name": "search", "arguments": {"entity": "mira", "relation": "mentor"}}
//	</tool_call>
//
// There may be text before the first call, and white space around the others. A call is one JSON object
// with exactly name, a string that is not empty, and arguments, an object. A turn without calls is the
// final answer: its text without the white space around it, which must leave something. Thinking goes
// first, see [withoutThinking].
func parseHermes(text string) Action {
	action, err := readHermes(text)
	if err != nil {
		return unparsable(err)
	}
	return action
}

func readHermes(text string) (Action, error) {
	if !utf8.ValidString(text) {
		return Action{}, errNotUTF8
	}
	text, err := withoutThinking(text, hermesOpen)
	if err != nil {
		return Action{}, err
	}
	said, rest, called := strings.Cut(text, hermesOpen)
	if strings.Contains(said, hermesShut) {
		return Action{}, fmt.Errorf("%s closes no call", hermesShut)
	}
	if !called {
		return answered(text)
	}
	var action Action
	for {
		call, after, err := readCall(rest, "arguments")
		if err != nil {
			return Action{}, fmt.Errorf("call %d: %w", len(action.Calls)+1, err)
		}
		after, ok := strings.CutPrefix(trimLeft(after), hermesShut)
		if !ok {
			return Action{}, fmt.Errorf("call %d: %s must follow its JSON object", len(action.Calls)+1, hermesShut)
		}
		action.Calls = append(action.Calls, call)
		if after = trimLeft(after); after == "" {
			return action, nil
		}
		if rest, ok = strings.CutPrefix(after, hermesOpen); !ok {
			return Action{}, fmt.Errorf("%q follows call %d: text goes before the first call", Excerpt(after), len(action.Calls))
		}
	}
}

func formatHermes(call rollout.Call, spec Spec) string {
	return hermesOpen + "\n" + writeCall(call, spec, "arguments") + "\n" + hermesShut
}

var errNotUTF8 = errors.New("the turn is not valid UTF-8")

// answered is the action of a turn that is its answer.
func answered(text string) (Action, error) {
	answer := strings.TrimSpace(text)
	if answer == "" {
		return Action{}, errors.New("the turn holds neither a call nor an answer")
	}
	return Action{Answer: answer, Answered: true}, nil
}

// The tags around thinking.
const (
	thinkOpen = "<think>"
	thinkShut = "</think>"
)

// withoutThinking cuts off the thinking with which a turn begins: a <think> block, or several, with white
// space around them; or, where the prompt has opened the block, all text up to a </think> that neither
// <think> nor the mark of a call precedes. Thinking without an end is an error, because what was meant to
// follow is missing. Elsewhere the tags are text like any other.
func withoutThinking(text, callMark string) (string, error) {
	before, after, shut := strings.Cut(text, thinkShut)
	if shut && !strings.Contains(before, thinkOpen) && !strings.Contains(before, callMark) {
		text = after
	}
	for {
		rest, ok := strings.CutPrefix(trimLeft(text), thinkOpen)
		if !ok {
			return text, nil
		}
		if _, text, ok = strings.Cut(rest, thinkShut); !ok {
			return "", fmt.Errorf("%s has no %s", thinkOpen, thinkShut)
		}
	}
}

// trimLeft cuts off JSON's white space.
func trimLeft(text string) string { return strings.TrimLeft(text, " \t\r\n") }
