package render

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Encode writes the tokenizer as a Hugging Face tokenizer.json. Equal tokenizers give equal bytes:
// the vocabulary stands in the order of ids.
func (t *Tokenizer) Encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [")
	separator := "\n"
	for id, name := range t.spellings {
		token := t.added[id]
		if token == nil {
			continue
		}
		quoted, err := quote(name)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, `%s    {"id": %d, "content": %s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": %t, "special": %t}`,
			separator, id, quoted, token.Normalized, token.Special)
		separator = ",\n"
	}
	fmt.Fprintf(&b, `
  ],
  "normalizer": %s,
  "pre_tokenizer": %s,
  "post_processor": %s,
  "decoder": %s,
  "model": {
    "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
    "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": %t,
    "vocab": {`, orNull(t.normalizer), t.preTokenizer, orNull(t.postProcessor), t.decoder, t.ignoreMerges)
	separator = "\n"
	for id, spelling := range t.spellings {
		if t.added[id] != nil {
			continue
		}
		quoted, err := quote(spell(spelling))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s      %s: %d", separator, quoted, id)
		separator = ",\n"
	}
	b.WriteString("\n    },\n    \"merges\": [")
	separator = "\n"
	for _, m := range t.merges {
		left, err := quote(spell(t.spellings[m.left]))
		if err != nil {
			return nil, err
		}
		right, err := quote(spell(t.spellings[m.right]))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s      [%s, %s]", separator, left, right)
		separator = ",\n"
	}
	b.WriteString("\n    ]\n  }\n}\n")
	return b.Bytes(), nil
}

func orNull(part json.RawMessage) json.RawMessage {
	if isNull(part) {
		return json.RawMessage("null")
	}
	return part
}

// trainedLayout is that of the tokenizers [Train] makes: Llama 3's pattern, no normalizer and no framing.
func trainedLayout() layout {
	pattern, err := quote(llama3Regex)
	if err != nil {
		panic(err) // a string is always JSON
	}
	return layout{
		split: splitLlama3,
		preTokenizer: json.RawMessage(fmt.Sprintf(`{"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": %s}, "behavior": "Isolated", "invert": false},
    {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
  ]}`, pattern)),
		decoder: json.RawMessage(`{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}`),
	}
}

// quote writes a JSON string without escaping <, > and &, as other tools write it.
func quote(s string) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		return "", fmt.Errorf("tokenizer.json: %w", err)
	}
	return string(bytes.TrimRight(b.Bytes(), "\n")), nil
}
