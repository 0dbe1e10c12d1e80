package render

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nikolalohinski/gonja/v2/exec"
)

// noon is the time the fixtures' templates are told.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func asWritten(text string, _ bool) string { return text }

func fixtureTemplate(t testing.TB, name string) *Template {
	t.Helper()
	source, err := os.ReadFile("testdata/templates/" + name + ".jinja")
	if err != nil {
		t.Fatal(err)
	}
	template, err := ParseTemplate(name+".jinja", string(source), noon)
	if err != nil {
		t.Fatal(err)
	}
	return template
}

// conversation is one case of testdata/templates/conversations.json.
type conversation struct {
	Name     string
	Messages []struct {
		Role, Content    string
		ReasoningContent string `json:"reasoning_content"`
		Name             string
		ToolCalls        []struct {
			Function struct {
				Name      string
				Arguments json.RawMessage
			}
		} `json:"tool_calls"`
	}
	Tools               []json.RawMessage
	AddGenerationPrompt bool `json:"add_generation_prompt"`
	Variables           map[string]json.RawMessage
}

func (c conversation) scene(special ...Variable) scene {
	s := scene{tools: c.Tools, addGenerationPrompt: c.AddGenerationPrompt, special: special}
	for _, m := range c.Messages {
		message := Message{Role: m.Role, Content: m.Content, ReasoningContent: m.ReasoningContent, Name: m.Name}
		for _, call := range m.ToolCalls {
			message.ToolCalls = append(message.ToolCalls, ToolCall{Name: call.Function.Name, Arguments: call.Function.Arguments})
		}
		s.messages = append(s.messages, message)
	}
	for name, value := range c.Variables {
		s.variables = append(s.variables, Variable{Name: name, Value: value})
	}
	return s
}

// testdata/templates/renderings.json holds what Jinja2 renders; testdata/templates.py wrote it and
// templates.mjs confirmed it with a second implementation.
func TestTemplatesRenderAsJinja2Does(t *testing.T) {
	var conversations []conversation
	readJSON(t, "testdata/templates/conversations.json", &conversations)
	byName := map[string]conversation{}
	for _, c := range conversations {
		byName[c.Name] = c
	}
	var renderings []struct{ Template, Conversation, Text, Error string }
	readJSON(t, "testdata/templates/renderings.json", &renderings)
	if len(renderings) < 70 {
		t.Fatalf("the fixture has %d renderings, want at least 70", len(renderings))
	}
	for _, r := range renderings {
		t.Run(r.Template+"/"+r.Conversation, func(t *testing.T) {
			special := []Variable{{Name: "eos_token", Value: json.RawMessage(`"<|im_end|>"`)}}
			if strings.HasPrefix(r.Template, "llama") {
				special = []Variable{{Name: "bos_token", Value: json.RawMessage(`"<|begin_of_text|>"`)}, {Name: "eos_token", Value: json.RawMessage(`"<|eot_id|>"`)}}
			}
			got, err := fixtureTemplate(t, r.Template).render(byName[r.Conversation].scene(special...), asWritten)
			if r.Error != "" {
				if err == nil || !strings.Contains(err.Error(), r.Error) {
					t.Errorf("got error %v, want one with %q", err, r.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != r.Text {
				t.Errorf("renders\n%q, want\n%q", got, r.Text)
			}
		})
	}
}

// testdata/templates/dumps.json holds what Python's json.dumps writes.
func TestToJSONWritesWhatPythonWrites(t *testing.T) {
	var cases []struct{ JSON, Line, Two, Four, Zero string }
	readJSON(t, "testdata/templates/dumps.json", &cases)
	for _, c := range cases {
		value, err := decodeValue(json.RawMessage(c.JSON), func(s string) string { return s })
		if err != nil {
			t.Fatal(err)
		}
		for indent, want := range map[int]string{-1: c.Line, 2: c.Two, 4: c.Four, 0: c.Zero} {
			var b strings.Builder
			if err := writeJSON(&b, exec.AsValue(value), indent, 0); err != nil {
				t.Fatal(err)
			}
			if b.String() != want {
				t.Errorf("%s with indent %d is\n%s, want\n%s", c.JSON, indent, b.String(), want)
			}
		}
	}
}
