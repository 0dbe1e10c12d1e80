package render

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func encoded(t testing.TB) string {
	t.Helper()
	data, err := tokenizer(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEncodeDecode(t *testing.T) {
	data := encoded(t)
	decoded, err := DecodeTokenizer([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	again, err := decoded.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != data {
		t.Error("decoding and encoding again gave other bytes")
	}
	texts, _, _ := corpus()
	for _, text := range append(texts[:100], "  é\xff\n\n<|end|>") {
		if got, want := decoded.Prompt(text), tokenizer(t).Prompt(text); !slices.Equal(got, want) {
			t.Fatalf("%q encodes as %v after a round trip, want %v", text, got, want)
		}
	}
}

func TestDecodeReadsOlderMerges(t *testing.T) {
	data := encoded(t)
	older := strings.NewReplacer(`["r", "i"]`, `"r i"`).Replace(data)
	if older == data {
		t.Fatal("the corpus no longer teaches the merge r i; choose another")
	}
	tok, err := DecodeTokenizer([]byte(older))
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := tok.Encode(); string(again) != data {
		t.Error("a merge written as one string was read differently")
	}
}

func TestDecodeIgnoreMerges(t *testing.T) {
	tok, err := Train([]string{"abcabc abc"}, 263)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := tok.Encode()
	// The token "xyz" takes the id of "abc", which no merge reaches any more.
	changed := strings.NewReplacer(`"abc": `, `"xyz": `, `"ignore_merges": false`, `"ignore_merges": true`,
		",\n      [\"ab\", \"c\"]", "", `["a", "bc"]`, ``).Replace(string(data))
	with, err := DecodeTokenizer([]byte(changed))
	if err != nil {
		t.Fatalf("%v\n%s", err, changed[len(changed)-200:])
	}
	if ids := with.Tokens("xyz"); len(ids) != 1 {
		t.Errorf("a piece that is a token takes %d tokens with ignore_merges, want 1", len(ids))
	}
	without, err := DecodeTokenizer([]byte(strings.Replace(changed, `"ignore_merges": true`, `"ignore_merges": false`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if ids := without.Tokens("xyz"); len(ids) != 3 {
		t.Errorf("without ignore_merges and without a merge it takes %d tokens, want 3", len(ids))
	}
}

func TestDecodeRejects(t *testing.T) {
	data := encoded(t)
	for _, test := range []struct{ name, old, new, want string }{
		{"normalizer", `"normalizer": null`, `"normalizer": {"type": "NFKC"}`, "tokenizer.json: normalizer: NFKC is not supported"},
		{"truncation", `"truncation": null`, `"truncation": {"max_length": 5}`, "truncation: a part without a type is not supported"},
		{"model", `"type": "BPE"`, `"type": "Unigram"`, "model: Unigram is not supported, only BPE"},
		{"unknown field", `"version"`, `"flavour": 1, "version"`, `unknown field "flavour"`},
		{"unknown model field", `"dropout"`, `"colour": 1, "dropout"`, `model: json: unknown field "colour"`},
		{"dropout", `"dropout": null`, `"dropout": 0.1`, "model.dropout: 0.1 is not supported"},
		{"unk", `"unk_token": null`, `"unk_token": "<unk>"`, `model.unk_token: "<unk>" is not supported`},
		{"prefix", `"continuing_subword_prefix": null`, `"continuing_subword_prefix": "##"`, `continuing_subword_prefix: "##"`},
		{"suffix", `"end_of_word_suffix": null`, `"end_of_word_suffix": "</w>"`, `end_of_word_suffix: "</w>"`},
		{"byte fallback", `"byte_fallback": false`, `"byte_fallback": true`, "byte_fallback: true"},
		{"pre-tokenizer", `"type": "Sequence"`, `"type": "Whitespace"`, "pre_tokenizer: Whitespace is not supported"},
		{"split", `"type": "Split"`, `"type": "Digits"`, "pre_tokenizer.pretokenizers[0]: Digits is not supported"},
		{"pattern", `{1,3}`, `{1,2}`, "pattern: the regex"},
		{"behavior", `"Isolated"`, `"Removed"`, `behavior: "Removed"`},
		{"invert", `"invert": false`, `"invert": true`, `invert: true`},
		{"prefix space", `"ByteLevel", "add_prefix_space": false`, `"ByteLevel", "add_prefix_space": true`, "add_prefix_space: true is not supported"},
		{"normalizer field", `"normalizer": null`, `"normalizer": {"type": "NFC", "form": 1}`, `normalizer: json: unknown field "form"`},
		{"use regex", `"use_regex": false`, `"use_regex": true`, "use_regex: true is not supported"},
		{"decoder", `"decoder": {"type": "ByteLevel"`, `"decoder": {"type": "Metaspace"`, "decoder: Metaspace is not supported"},
		{"post-processor", `"post_processor": null`, `"post_processor": {"type": "BertProcessing"}`, "post_processor: BertProcessing is not supported"},
		{"template without text", `"post_processor": null`, `"post_processor": {"type": "TemplateProcessing", "single": []}`, "post_processor.single: sequence A is missing"},
		{"template of a pair", `"post_processor": null`, `"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}]}`, `post_processor.single[0]: sequence "B" is not supported`},
		{"template with a stranger", `"post_processor": null`, `"post_processor": {"type": "Sequence", "processors": [{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}]}]}`,
			`post_processor.processors[0].single[0]: "<s>" is not in special_tokens`},
		{"template with a strange id", `"post_processor": null`, `"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [9999], "tokens": ["<s>"]}}}`,
			`special_tokens["<s>"].ids[0]: 9999 is outside the vocabulary`},
		{"lstrip", `"lstrip": false`, `"lstrip": true`, `added_tokens[0] "<|user|>": lstrip: true is not supported`},
		{"rstrip", `"rstrip": false`, `"rstrip": true`, `added_tokens[0] "<|user|>": rstrip: true is not supported`},
		{"single word", `"single_word": false`, `"single_word": true`, `added_tokens[0] "<|user|>": single_word: true is not supported`},
		{"double special", `"<|tool|>"`, `"<|user|>"`, `"<|user|>" is there twice`},
		{"missing byte", `"!": 33`, `"!!!": 33`, "lacks byte 0x21"},
		{"id twice", `"!": 33`, `"!": 34`, "which another token has too"},
		{"id gap", `"!": 33`, `"!": 100000`, "without gaps"},
		{"alphabet", `"!": 33`, `"！": 33`, `'！' is not in the byte-level alphabet`},
		{"merge of nothing", `["r", "i"]`, `["hhh", "i"]`, `"hhh" is not an ordinary token`},
		{"merge of one", `["r", "i"]`, `["r"]`, `joins 1 tokens, want 2`},
		{"merge twice", `["r", "i"]`, `["r", "i"], ["r", "i"]`, `repeats`},
		{"trailing data", "\n  }\n}\n", "\n  }\n}\n}", "data follows"},
		{"truncated", "\n  }\n}\n", "\n", "unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(data, test.old) {
				t.Fatalf("the file has no %q to change", test.old)
			}
			_, err := DecodeTokenizer([]byte(strings.Replace(data, test.old, test.new, 1)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestSaveFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "policy")
	if err := tokenizer(t).SaveFolder(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"tokenizer.json":        `"type": "BPE"`,
		"tokenizer_config.json": `"eos_token": "<|end|>"`,
		"chat_template.jinja":   `<|assistant|>`,
	} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(data), want) {
			t.Errorf("%s lacks %q", name, want)
		}
	}
	blocked := filepath.Join(dir, "tokenizer.json")
	if err := tokenizer(t).SaveFolder(blocked); err == nil || !strings.Contains(err.Error(), blocked) {
		t.Errorf("saving into a file: got error %v, want one that names %s", err, blocked)
	}
}

func FuzzDecodeTokenizer(f *testing.F) {
	small, err := Train([]string{"ab ab"}, 262)
	if err != nil {
		f.Fatal(err)
	}
	data, err := small.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{},"merges":["a b",[]]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := DecodeTokenizer(data)
		if err != nil {
			return
		}
		again, err := tok.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeTokenizer(again); err != nil {
			t.Errorf("what Encode wrote is refused: %v", err)
		}
		if got := tok.Text(tok.Tokens("ab\xff ab")); got != "ab\xff ab" {
			t.Errorf("round trip gave %q", got)
		}
	})
}
