package tool

import (
	"fmt"
	"strings"

	"github.com/turnwise-rl/turnwise/rollout"
)

// FormatName names a [TurnFormat] in configs.
type FormatName string

// The formats, and the name that leaves the choice to the chat template.
const (
	Auto   FormatName = "auto"   // what the chat template asks for, see [Detect]
	Plain  FormatName = "plain"  // the form of [Parse]
	Hermes FormatName = "hermes" // <tool_call> blocks, as Qwen's templates ask for
	Llama3 FormatName = "llama3" // one JSON object, as Llama 3's templates ask for
)

// FormatNames lists what a config may say.
var FormatNames = []FormatName{Auto, Plain, Hermes, Llama3}

// TurnFormat is how a turn writes its calls or its answer. Reading is strict in every format: what is
// not of its form is an [Action] with a FormatError and a single call that is unparsable, and nothing
// is repaired or guessed.
type TurnFormat struct {
	Name FormatName
	// Parse reads a turn's text.
	Parse func(text string) Action
	// Call writes one call such that Parse reads it. specs tell the order of the arguments.
	Call func(call rollout.Call, spec Spec) string
	// Answer writes a final answer.
	Answer func(text string) string
	// join stands between the calls of one turn.
	join string
	// malformed writes a call that Parse does not read.
	malformed func(text string) string
	// spaced says that an observation begins with a space, as it does in [Plain].
	spaced bool
}

// Formats are the formats there are.
func Formats() []TurnFormat {
	return []TurnFormat{
		{Name: Plain, Parse: Parse, Call: Format, Answer: FormatAnswer, spaced: true},
		{Name: Hermes, Parse: parseHermes, Call: formatHermes, Answer: strings.TrimSpace, join: "\n",
			malformed: func(text string) string { return hermesOpen + "\n" + text + "\n" + hermesShut }},
		{Name: Llama3, Parse: parseLlama3, Call: formatLlama3, Answer: strings.TrimSpace, join: "\n",
			malformed: func(text string) string { return pythonTag + text }},
	}
}

// FindFormat returns the format of a name, and an error that lists the names; auto is none.
func FindFormat(name FormatName) (TurnFormat, error) {
	var known []string
	for _, format := range Formats() {
		if format.Name == name {
			return format, nil
		}
		known = append(known, string(format.Name))
	}
	return TurnFormat{}, fmt.Errorf("no tool format %q; known: %s", name, strings.Join(known, ", "))
}

// Detect tells from the text of a chat template which format it asks the policy for: hermes where it
// writes <tool_call> and a JSON key "arguments", llama3 where it writes the JSON keys "name" and
// "parameters". The quotes may be escaped. False means that it says neither.
func Detect(template string) (FormatName, bool) {
	key := func(name string) bool { return strings.Contains(template, `"`+name) }
	opens := strings.Contains(template, hermesOpen)
	switch {
	case opens && key("arguments"):
		return Hermes, true
	case !opens && key("name") && key("parameters"):
		return Llama3, true
	default:
		return "", false
	}
}

// Observation is how the policy reads the text that answers a call.
func (f TurnFormat) Observation(text string) string {
	if f.spaced {
		return text
	}
	return strings.TrimPrefix(text, " ")
}

// Script writes a scripted turn, given in the form of [Parse], in this format; in [Plain] as it stands. A
// turn that Parse does not read becomes a call that this format does not read: what a demonstration gets
// wrong stays wrong.
func (f TurnFormat) Script(turn string, specs []Spec) string {
	action := Parse(turn)
	switch {
	case f.Name == Plain:
		return turn
	case action.FormatError != "":
		return f.malformed(turn)
	case action.Answered:
		return f.Answer(action.Answer)
	}
	calls := make([]string, len(action.Calls))
	for i, call := range action.Calls {
		calls[i] = f.Call(call, find(specs, call.Name))
	}
	return strings.Join(calls, f.join)
}

// find returns the spec of a name; one without parameters when there is none.
func find(specs []Spec, name string) Spec {
	for _, spec := range specs {
		if spec.Name == name {
			return spec
		}
	}
	return Spec{Name: name}
}

// unparsable is the action of a turn that is not of its format.
func unparsable(err error) Action {
	return Action{
		Calls:       []rollout.Call{{Args: rollout.Args{}, Status: rollout.CallUnparsable}},
		FormatError: err.Error(),
	}
}
