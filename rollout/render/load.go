package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Folder is what a checkpoint in Hugging Face layout says of text.
type Folder struct {
	// Tokenizer is tokenizer.json.
	Tokenizer *Tokenizer
	// BOS, Pad and Unknown are the names of tokens that tokenizer_config.json gives; empty where it
	// gives none. EOSToken is its eos_token.
	BOS, EOSToken, Pad, Unknown string
	// EOS are the ids that end a sequence: those of generation_config.json where it has any, since
	// decoding goes by them, else the eos_token.
	EOS []int32

	templates []templateSource
}

// templateSource is a chat template and where it stands.
type templateSource struct{ name, file, text string }

// Names of the files of a folder.
const (
	tokenizerFile  = "tokenizer.json"
	configFile     = "tokenizer_config.json"
	generationFile = "generation_config.json"
	templateFile   = "chat_template.jinja"
)

// LoadFolder reads tokenizer.json and, where they exist, tokenizer_config.json, generation_config.json
// and chat_template.jinja of a checkpoint's folder. chat_template.jinja wins over the chat_template of
// tokenizer_config.json. Fields these files have besides are not for this package and pass unread, but a
// setting that would change ids and is not supported is an error.
func LoadFolder(dir string) (*Folder, error) {
	data, err := os.ReadFile(filepath.Join(dir, tokenizerFile))
	if err != nil {
		return nil, fmt.Errorf("load tokenizer: %w", err)
	}
	f := new(Folder)
	if f.Tokenizer, err = DecodeTokenizer(data); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	for _, part := range []struct {
		file string
		read func([]byte) error
	}{{configFile, f.readConfig}, {generationFile, f.readGeneration}, {templateFile, f.readTemplate}} {
		data, err := os.ReadFile(filepath.Join(dir, part.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = part.read(data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, part.file), err)
		}
	}
	return f, nil
}

// tokenName is a token as tokenizer_config.json writes it: a string, an AddedToken or null.
type tokenName string

func (n *tokenName) UnmarshalJSON(data []byte) error {
	var token struct{ Content *string }
	if json.Unmarshal(data, (*string)(n)) == nil {
		return nil
	}
	if err := json.Unmarshal(data, &token); err != nil || token.Content == nil {
		return fmt.Errorf("a token is a string or an object with content, not %.60s", data)
	}
	*n = tokenName(*token.Content)
	return nil
}

// templateList is a chat_template as tokenizer_config.json writes it: one template or a list of named ones.
type templateList []templateSource

func (l *templateList) UnmarshalJSON(data []byte) error {
	var single string
	if json.Unmarshal(data, &single) == nil {
		*l = templateList{{name: "default", file: configFile + ": chat_template", text: single}}
		return nil
	}
	var list []struct{ Name, Template string }
	if err := json.Unmarshal(data, &list); err != nil {
		return errors.New("chat_template is neither a string nor a list of objects with name and template")
	}
	for i, entry := range list {
		if entry.Name == "" || entry.Template == "" {
			return fmt.Errorf("chat_template[%d]: name or template is missing", i)
		}
		*l = append(*l, templateSource{entry.Name, fmt.Sprintf("%s: chat_template %q", configFile, entry.Name), entry.Template})
	}
	return nil
}

func (f *Folder) readConfig(data []byte) error {
	var c struct {
		BOS            *tokenName                          `json:"bos_token"`
		EOS            *tokenName                          `json:"eos_token"`
		Pad            *tokenName                          `json:"pad_token"`
		Unknown        *tokenName                          `json:"unk_token"`
		ChatTemplate   templateList                        `json:"chat_template"`
		AddPrefixSpace *bool                               `json:"add_prefix_space"`
		Added          map[string]struct{ Content string } `json:"added_tokens_decoder"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	if c.AddPrefixSpace != nil && *c.AddPrefixSpace {
		return errors.New("add_prefix_space: true is not supported, because text would not round-trip")
	}
	for key, token := range c.Added {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil {
			return fmt.Errorf("added_tokens_decoder: the key %q is no id", key)
		}
		if known, ok := f.Tokenizer.Special(token.Content); !ok || known != int32(id) {
			return fmt.Errorf("added_tokens_decoder[%s]: %s has no added token %q with this id", key, tokenizerFile, token.Content)
		}
	}
	for _, field := range []struct {
		name string
		from *tokenName
		to   *string
	}{{"bos_token", c.BOS, &f.BOS}, {"eos_token", c.EOS, &f.EOSToken}, {"pad_token", c.Pad, &f.Pad}, {"unk_token", c.Unknown, &f.Unknown}} {
		if field.from == nil {
			continue
		}
		*field.to = string(*field.from)
		if _, ok := f.Tokenizer.Special(*field.to); !ok {
			return fmt.Errorf("%s: %s has no added token %q", field.name, tokenizerFile, *field.to)
		}
	}
	if id, ok := f.Tokenizer.Special(f.EOSToken); ok {
		f.EOS = []int32{id}
	}
	f.templates = c.ChatTemplate
	return nil
}

func (f *Folder) readGeneration(data []byte) error {
	var c struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	if isNull(c.EOS) {
		return nil
	}
	var one int64
	var ids []int64
	if json.Unmarshal(c.EOS, &one) == nil {
		ids = []int64{one}
	} else if err := json.Unmarshal(c.EOS, &ids); err != nil {
		return fmt.Errorf("eos_token_id: want a number or a list of numbers, not %.60s", c.EOS)
	}
	f.EOS = nil
	for _, id := range ids {
		if id < 0 || id >= int64(f.Tokenizer.VocabSize()) {
			return fmt.Errorf("eos_token_id: %d is outside the vocabulary of %d tokens in %s", id, f.Tokenizer.VocabSize(), tokenizerFile)
		}
		f.EOS = append(f.EOS, int32(id))
	}
	return nil
}

func (f *Folder) readTemplate(data []byte) error {
	f.templates = []templateSource{{"default", templateFile, string(data)}}
	return nil
}

// template chooses as Hugging Face does: of several templates, tool_use where there are tools.
func (f *Folder) template(tools bool) (templateSource, error) {
	var names []string
	for _, want := range []string{"tool_use", "default"} {
		for _, t := range f.templates {
			if t.name == want && (tools || want != "tool_use") {
				return t, nil
			}
		}
	}
	for _, t := range f.templates {
		names = append(names, t.name)
	}
	if names == nil {
		return templateSource{}, fmt.Errorf("no chat template: neither %s nor chat_template in %s", templateFile, configFile)
	}
	slices.Sort(names)
	return templateSource{}, fmt.Errorf("%s: chat_template: none of %q is named default", configFile, names)
}

// specialVariables are the token names that templates may use.
func (f *Folder) specialVariables() []Variable {
	var variables []Variable
	for _, token := range []struct{ name, text string }{
		{"bos_token", f.BOS}, {"eos_token", f.EOSToken}, {"pad_token", f.Pad}, {"unk_token", f.Unknown},
	} {
		if token.text == "" {
			continue
		}
		quoted, err := quote(token.text)
		if err != nil {
			continue // quote fails on no string
		}
		variables = append(variables, Variable{token.name, json.RawMessage(quoted)})
	}
	return variables
}
