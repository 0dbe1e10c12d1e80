package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

// Template is a Jinja chat template, set up as Hugging Face sets it up: trim_blocks and lstrip_blocks,
// loop controls, {% generation %} blocks, raise_exception, strftime_now and a tojson that writes what
// Python's json.dumps writes. Any number of goroutines may use one.
type Template struct {
	name     string
	template *exec.Template
}

// ParseTemplate reads a template; name is what errors call it, usually its file. now is the time
// strftime_now tells: a run passes one fixed time, so that a prompt's ids do not depend on the day.
//
// A template that uses a filter, test or block which is not here is an error at once.
func ParseTemplate(name, source string, now time.Time) (*Template, error) {
	template, err := parseTemplate(source, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Template{name: name, template: template}, nil
}

func parseTemplate(source string, now time.Time) (template *exec.Template, err error) {
	defer rescue(&err)
	if strings.Contains(source, shieldMark) {
		return nil, fmt.Errorf("the template holds the noncharacter %q, which is kept for internal use", shieldMark)
	}
	if source, err = plainSource(source); err != nil {
		return nil, err
	}
	settings := config.New()
	settings.KeepTrailingNewline = true
	if err := checkNames(source, settings); err != nil {
		return nil, err
	}
	template, err = exec.NewTemplate("chat template", settings, onlySource(source), environment(now))
	if cause := errors.Unwrap(err); cause != nil {
		return nil, cause // without the whole source, which the engine puts before it
	}
	return template, err
}

// Variable is a value of a template's own that a chat sets, for example enable_thinking.
type Variable struct {
	Name  string
	Value json.RawMessage
}

// scene is what a chat template renders.
type scene struct {
	messages            []Message
	tools               []json.RawMessage
	addGenerationPrompt bool
	special             []Variable // bos_token and its like, as strings
	variables           []Variable
}

// render renders a scene; write turns the strings of the scene into those the template sees.
func (t *Template) render(s scene, write func(text string, trusted bool) string) (text string, err error) {
	defer rescue(&err)
	trusted := func(text string) string { return write(text, true) }
	values := map[string]any{"add_generation_prompt": s.addGenerationPrompt}
	messages := make(sequence, len(s.messages))
	for i, message := range s.messages {
		if messages[i], err = message.value(write); err != nil {
			return "", fmt.Errorf("messages[%d]: %w", i, err)
		}
	}
	values["messages"] = messages
	if len(s.tools) > 0 {
		tools := make(sequence, len(s.tools))
		for i, tool := range s.tools {
			if tools[i], err = decodeValue(tool, trusted); err != nil {
				return "", fmt.Errorf("tools[%d]: %w", i, err)
			}
		}
		values["tools"] = tools
	}
	for _, variable := range append(s.special[:len(s.special):len(s.special)], s.variables...) {
		if values[variable.Name], err = decodeValue(variable.Value, trusted); err != nil {
			return "", fmt.Errorf("variable %s: %w", variable.Name, err)
		}
	}
	text, err = t.template.ExecuteToString(exec.NewContext(values))
	if err != nil {
		return "", fmt.Errorf("%s: %w", t.name, err)
	}
	return text, nil
}

// rescue turns a panic of the template engine, which a template can provoke, into an error.
func rescue(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("the template engine failed: %v", cause)
	}
}

// onlySource is a loader that knows one template: a chat template includes no files.
type onlySource string

func (s onlySource) Read(string) (io.Reader, error) { return strings.NewReader(string(s)), nil }

// Resolve refuses every other template.
func (s onlySource) Resolve(name string) (string, error) {
	return "", fmt.Errorf("template %q: a chat template includes no other", name)
}

// Inherit refuses every other template.
func (s onlySource) Inherit(string) (loaders.Loader, error) {
	return nil, errors.New("a chat template includes no other")
}
