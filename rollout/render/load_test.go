package render

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadFolder(t *testing.T) {
	dir := checkpoints[2].write(t)
	folder, err := LoadFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if folder.BOS != "<|begin_of_text|>" || folder.EOSToken != "<|eot_id|>" || folder.Pad != "" {
		t.Errorf("bos %q, eos %q, pad %q", folder.BOS, folder.EOSToken, folder.Pad)
	}
	if got := folder.Tokenizer.Text(folder.EOS); got != "<|end_of_text|><|eom_id|><|eot_id|>" {
		t.Errorf("a sequence ends with %s", got)
	}
	if err := folder.Tokenizer.SaveFolder(t.TempDir()); err == nil || !strings.Contains(err.Error(), "special token <|user|> is missing") {
		t.Errorf("saving a checkpoint's tokenizer as one of ours: got %v", err)
	}
}

// TestTemplateThatWins puts templates in both places and in lists.
func TestTemplateThatWins(t *testing.T) {
	const body = `{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}`
	named := func(name string) string { return `{"name": "` + name + `", "template": "` + name + body + `"}` }
	for _, test := range []struct {
		name, config, file string
		tools              bool
		want               string // what the prompt begins with, or the error
	}{
		{"config alone", `{"chat_template": "alone` + body + `"}`, "", false, "alone"},
		{"file wins", `{"chat_template": "config` + body + `"}`, "file" + strings.ReplaceAll(body, `\n`, "\n"), false, "file"},
		{"default of several", `{"chat_template": [` + named("tool_use") + `,` + named("default") + `]}`, "", false, "default"},
		{"tool_use with tools", `{"chat_template": [` + named("default") + `,` + named("tool_use") + `]}`, "", true, "tool_use"},
		{"default with tools", `{"chat_template": [` + named("default") + `]}`, "", true, "default"},
		{"no default", `{"chat_template": [` + named("rag") + `]}`, "", false, `tokenizer_config.json: chat_template: none of ["rag"] is named default`},
		{"none", `{}`, "", false, "no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := checkpoint{"qwen3", "qwen3", test.config, `{}`}.write(t)
			if err := os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			if test.file == "" {
				if err := os.Remove(filepath.Join(dir, "chat_template.jinja")); err != nil {
					t.Fatal(err)
				}
			}
			folder, err := LoadFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			config := ChatConfig{Now: noon}
			if test.tools {
				config.Tools = append(config.Tools, weatherTool)
			}
			chat, err := folder.NewChat(config)
			if err != nil {
				if err.Error() != test.want {
					t.Errorf("got error %v, want %s", err, test.want)
				}
				return
			}
			conversation, err := chat.Begin("q")
			if err != nil {
				t.Fatal(err)
			}
			if got := chat.tokenizer.Text(conversation.Prompt()); !strings.HasPrefix(got, test.want+"<|im_start|>user\nq") {
				t.Errorf("the prompt is %q, want the template %q", got, test.want)
			}
		})
	}
}

func TestLoadFolderRejects(t *testing.T) {
	for _, test := range []struct{ name, file, data, want string }{
		{"no tokenizer", "tokenizer.json", "", "tokenizer.json"},
		{"bad tokenizer", "tokenizer.json", `{"flavour": 1}`, `tokenizer.json: json: unknown field "flavour"`},
		{"bad config", "tokenizer_config.json", `{`, "tokenizer_config.json: unexpected end of JSON input"},
		{"prefix space", "tokenizer_config.json", `{"add_prefix_space": true}`, "tokenizer_config.json: add_prefix_space: true is not supported"},
		{"strange eos", "tokenizer_config.json", `{"eos_token": "</s>"}`, `tokenizer_config.json: eos_token: tokenizer.json has no added token "</s>"`},
		{"shapeless eos", "tokenizer_config.json", `{"eos_token": 7}`, "a token is a string or an object with content, not 7"},
		{"shapeless template", "tokenizer_config.json", `{"chat_template": 7}`, "chat_template is neither a string nor a list"},
		{"nameless template", "tokenizer_config.json", `{"chat_template": [{"template": "x"}]}`, "chat_template[0]: name or template is missing"},
		{"unknown added token", "tokenizer_config.json", `{"added_tokens_decoder": {"3": {"content": "<|im_end|>"}}}`, `added_tokens_decoder[3]: tokenizer.json has no added token "<|im_end|>" with this id`},
		{"keyless added token", "tokenizer_config.json", `{"added_tokens_decoder": {"x": {"content": "<|im_end|>"}}}`, `added_tokens_decoder: the key "x" is no id`},
		{"eos text", "generation_config.json", `{"eos_token_id": "x"}`, `generation_config.json: eos_token_id: want a number or a list of numbers, not "x"`},
		{"eos outside", "generation_config.json", `{"eos_token_id": [1, 99999]}`, "generation_config.json: eos_token_id: 99999 is outside the vocabulary of 1826 tokens in tokenizer.json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := checkpoints[1].write(t)
			if err := os.Remove(filepath.Join(dir, test.file)); err != nil {
				t.Fatal(err)
			}
			if test.data != "" {
				if err := os.WriteFile(filepath.Join(dir, test.file), []byte(test.data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := LoadFolder(dir)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got error %v, want one with the folder and %q", err, test.want)
			}
		})
	}
}

func TestGenerationConfigWithoutEOS(t *testing.T) {
	for _, generation := range []string{`{}`, `{"eos_token_id": null}`} {
		folder, err := LoadFolder(checkpoint{"qwen3", "qwen3", `{"eos_token": "<|endoftext|>"}`, generation}.write(t))
		if err != nil {
			t.Fatal(err)
		}
		chat, err := folder.NewChat(ChatConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if got := chat.tokenizer.Text(chat.Stops()); got != "<|im_end|><|endoftext|>" {
			t.Errorf("turns stop at %s, want the template's end and the eos_token", got)
		}
	}
}

// TestTemplatesThatCannotBeContinued are refused before any episode.
func TestTemplatesThatCannotBeContinued(t *testing.T) {
	folder, err := LoadFolder(checkpoints[1].write(t))
	if err != nil {
		t.Fatal(err)
	}
	const opens = `{% if add_generation_prompt %}<|im_start|>assistant{% endif %}`
	for _, test := range []struct{ name, template, want string }{
		{"no generation prompt", `{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}`, "it ignores add_generation_prompt"},
		{"turns not shown", `{% for m in messages if m.role != 'assistant' %}{{ m.content }}<|im_end|>{% endfor %}` + opens, "it shows the text of an assistant's turn 0 times, want once"},
		{"turns shown twice", `{% for m in messages %}{{ m.content }}{{ m.content }}<|im_end|>{% endfor %}` + opens, "it shows the text of an assistant's turn 2 times, want once"},
		{"earlier turns alone", `{% for m in messages %}{% if m.role != 'assistant' or loop.last %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}` + opens, "it does not show the text of the assistant's last turn"},
		{"text ends a turn", `{% for m in messages %}{{ m.content }} and then <|im_end|>{% endfor %}` + opens, `it writes " and then`},
		{"nothing ends a turn", `{% for m in messages %}{% if m.role == 'tool' %}{% else %}{{ m.content }}{% endif %}{% endfor %}{% if messages[-1].role == 'user' and add_generation_prompt %}!{% endif %}`, "it writes nothing after the turn"},
		{"two ends", `{% for m in messages %}{{ m.content }}{% if loop.index == 2 %}<|im_end|>{% else %}<|endoftext|>{% endif %}{% endfor %}` + opens, "it ends one turn with <|im_end|> and another with <|endoftext|>"},
		{"replies not shown", `{% for m in messages if m.role != 'tool' %}{{ m.content }}<|im_end|>{% endfor %}` + opens, `it does not show the reply "reply 1" after the turn`},
		{"a role it refuses", `{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}{{ m.content }}<|im_end|>{% endfor %}` + opens, "1 messages of role tool: test.jinja: unable to execute template"},
		{"syntax", `{% for m in messages %}`, "Unexpected EOF"},
		{"an open tag", "a\n{% if x", "line 2: {% is not closed with %}"},
		{"a filter", `a{{ x |urlize }}`, "test.jinja: line 1: the filter urlize is not supported"},
		{"a test", "a\n{{- x is not escaped }}", "test.jinja: line 2: the test escaped is not supported"},
		{"an operator", "\n\n{{ 2 ** 3 }}", "test.jinja: line 3: the operator ** is not supported"},
		{"a block", `{% include 'x' %}`, "'include' not found"},
		{"raw", `{% raw %}{{ x }}{% endraw %}`, "'raw' not found"},
		{"the mark", "a" + shieldMark, "the template holds the noncharacter"},
		{"a method", `{{ 'x'.nope() }}`, "unknown method 'nope'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder.templates = []templateSource{{"default", "test.jinja", test.template}}
			_, err := folder.NewChat(ChatConfig{Now: noon})
			if err == nil || !strings.HasPrefix(err.Error(), "test.jinja: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
	for _, config := range []ChatConfig{{Replies: []string{RoleSystem}}, {Tools: []json.RawMessage{json.RawMessage(`{`)}}, {Variables: []Variable{{"x", json.RawMessage(`{`)}}}} {
		folder.templates = []templateSource{{"default", "test.jinja", `{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}` + opens}}
		if _, err := folder.NewChat(config); err == nil {
			t.Errorf("the configuration %+v is accepted", config)
		}
	}
}

func TestStrftimeNow(t *testing.T) {
	for format, want := range map[string]string{"%d %b %Y": "21 Nov 2026", "%Y-%m-%d %H:%M:%S %%": "2026-11-21 12:00:00 %", "%A %B %j": "Saturday November 325"} {
		if got, err := strftime(noon, format); err != nil || got != want {
			t.Errorf("%s is %q (%v), want %q", format, got, err, want)
		}
	}
	for _, format := range []string{"%Q", "%"} {
		if _, err := strftime(noon, format); err == nil {
			t.Errorf("%q is accepted", format)
		}
	}
}

func TestNoFolder(t *testing.T) {
	if _, err := LoadFolder(filepath.Join(t.TempDir(), "nowhere")); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("got %v", err)
	}
}
