package render

import (
	"fmt"
	"os"
	"path/filepath"
)

// tokenizerConfig is what Hugging Face's loader wants to know beside tokenizer.json. No beginning
// token is added and decoding must not tidy spaces away: text round-trips exactly.
const tokenizerConfig = `{
  "tokenizer_class": "PreTrainedTokenizerFast",
  "eos_token": "<|end|>",
  "pad_token": "<|pad|>",
  "clean_up_tokenization_spaces": false,
  "add_prefix_space": false
}
`

// chatTemplate renders a conversation as an episode whose turns all ended with <|end|>. Other roles
// than user, assistant and tool are an error, because the policy never saw one.
const chatTemplate = `{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- '<|user|>' + message['content'] -}}
{%- elif message['role'] == 'assistant' -%}
{{- '<|assistant|>' + message['content'] + '<|end|>' -}}
{%- elif message['role'] == 'tool' -%}
{{- '<|tool|>' + message['content'] -}}
{%- else -%}
{{- raise_exception('role ' + message['role'] + ' is unknown: use user, assistant or tool') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>' -}}
{%- endif -%}
`

// SaveFolder writes the tokenizer in Hugging Face layout into an existing or new folder:
// tokenizer.json, tokenizer_config.json and chat_template.jinja, the last rendering what
// [Tokenizer.Prompt] and [Tokenizer.Observation] render. Files already there are overwritten. A tokenizer
// without the five tokens of [Markers] is an error: a checkpoint keeps its own files.
func (t *Tokenizer) SaveFolder(dir string) error {
	if err := t.checkMarkers(); err != nil {
		return fmt.Errorf("save tokenizer: %w", err)
	}
	encoded, err := t.Encode()
	if err != nil {
		return err
	}
	return saveFiles(dir, []savedFile{
		{tokenizerFile, encoded},
		{configFile, []byte(tokenizerConfig)},
		{templateFile, []byte(chatTemplate)},
	})
}

// savedFile is a file of a folder.
type savedFile struct {
	name string
	data []byte
}

func saveFiles(dir string, files []savedFile) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save tokenizer: %w", err)
	}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(dir, file.name), file.data, 0o600); err != nil {
			return fmt.Errorf("save tokenizer: %w", err)
		}
	}
	return nil
}
