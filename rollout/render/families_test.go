package render

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Checkpoints of the families are gigabytes and their vocabularies megabytes. The fixtures are small
// vocabularies, learned from families/corpus.txt, in files that have every other part as the families
// publish it. With this flag TestMakeFamilies writes them; testdata/families.mjs then writes what Hugging
// Face's implementation for JavaScript makes of them.
var makeFamilies = flag.Bool("make-families", false, "write testdata/families/*/tokenizer.json")

// family is what distinguishes the tokenizer.json of one family from the others.
type family struct {
	name                                            string
	split                                           split
	vocabulary                                      int
	added                                           []addedToken
	addedInVocabulary, mergeStrings                 bool
	model, normalizer, pre, postProcessor, decoding string
}

func families() []family {
	special := func(names string) (tokens []addedToken) {
		for _, name := range strings.Fields(names) {
			tokens = append(tokens, addedToken{Content: name, Special: true})
		}
		return tokens
	}
	ordinary := func(names string) (tokens []addedToken) {
		for _, name := range strings.Fields(names) {
			tokens = append(tokens, addedToken{Content: name})
		}
		return tokens
	}
	llama := "<|begin_of_text|> <|end_of_text|> <|reserved_special_token_0|> <|reserved_special_token_1|> <|finetune_right_pad_id|> " +
		"<|reserved_special_token_2|> <|start_header_id|> <|end_header_id|> <|eom_id|> <|eot_id|> <|python_tag|>"
	for i := 3; i < 60; i++ {
		llama += fmt.Sprintf(" <|reserved_special_token_%d|>", i)
	}
	return []family{
		{
			name: "gpt2", split: splitGPT2, vocabulary: 1800, mergeStrings: true, addedInVocabulary: true,
			added:         []addedToken{{Content: "<|endoftext|>", Normalized: true, Special: true}},
			model:         `"dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false`,
			normalizer:    `null`,
			pre:           `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true}`,
			postProcessor: `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false}`,
			decoding:      `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true}`,
		},
		{
			name: "llama3", split: splitLlama3, vocabulary: 1800, mergeStrings: true, added: special(llama),
			model:      `"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":true`,
			normalizer: `null`,
			pre: `{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":` + quoted(llama3Regex) + `},"behavior":"Isolated","invert":false},` +
				`{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}`,
			postProcessor: `{"type":"Sequence","processors":[{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true},` +
				`{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|begin_of_text|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],` +
				`"pair":[{"SpecialToken":{"id":"<|begin_of_text|>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"<|begin_of_text|>","type_id":1}},{"Sequence":{"id":"B","type_id":1}}],` +
				`"special_tokens":{"<|begin_of_text|>":{"id":"<|begin_of_text|>","ids":[FIRST],"tokens":["<|begin_of_text|>"]}}}]}`,
			decoding: `{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}`,
		},
		{
			name: "qwen3", split: splitQwen2, vocabulary: 1800,
			added: append(special("<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|> <|quad_end|> "+
				"<|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"),
				ordinary("<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> <tool_response> </tool_response> <think> </think>")...),
			model:      `"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":"","end_of_word_suffix":"","fuse_unk":false,"byte_fallback":false,"ignore_merges":false`,
			normalizer: `{"type":"NFC"}`,
			pre: `{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":` + quoted(qwen2Regex) + `},"behavior":"Isolated","invert":false},` +
				`{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}]}`,
			postProcessor: `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}`,
			decoding:      `{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}`,
		},
	}
}

func quoted(s string) string {
	text, err := quote(s)
	if err != nil {
		panic(err)
	}
	return text
}

// document writes the family's tokenizer.json with a vocabulary learned from the corpus, read twice so
// that every pair occurs again. No merge reaches the last twenty tokens: only ignore_merges does.
func (f family) document(corpus string) []byte {
	spellings, merges := learn(strings.SplitAfter(corpus+corpus, "\n"), f.split, f.vocabulary)
	merges = merges[:max(0, len(merges)-20)]
	first := len(spellings)
	var b bytes.Buffer
	b.WriteString(`{"version":"1.0","truncation":null,"padding":null,"added_tokens":[`)
	for i, token := range f.added {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `{"id":%d,"content":%s,"single_word":false,"lstrip":false,"rstrip":false,"normalized":%t,"special":%t}`,
			first+i, quoted(token.Content), token.Normalized, token.Special)
	}
	fmt.Fprintf(&b, "],\n\"normalizer\":%s,\n\"pre_tokenizer\":%s,\n\"post_processor\":%s,\n\"decoder\":%s,\n\"model\":{%s,\n\"vocab\":{",
		f.normalizer, f.pre, strings.Replace(f.postProcessor, "FIRST", fmt.Sprint(first), 1), f.decoding, f.model)
	for id, spelling := range spellings {
		if id > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "%s:%d", quoted(spell(spelling)), id)
	}
	if f.addedInVocabulary {
		for i, token := range f.added {
			fmt.Fprintf(&b, ",%s:%d", quoted(token.Content), first+i)
		}
	}
	b.WriteString("},\n\"merges\":[")
	for i, m := range merges {
		left, right := spell(spellings[m.left]), spell(spellings[m.right])
		if i > 0 {
			b.WriteString(",")
		}
		if f.mergeStrings {
			b.WriteString(quoted(left + " " + right))
		} else {
			b.WriteString("[" + quoted(left) + "," + quoted(right) + "]")
		}
	}
	b.WriteString("]}}\n")
	return b.Bytes()
}

func TestMakeFamilies(t *testing.T) {
	if !*makeFamilies {
		t.Skip("-make-families is not set")
	}
	corpus, err := os.ReadFile("testdata/families/corpus.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families() {
		if err := os.WriteFile(familyFile(f.name, "tokenizer.json"), f.document(string(corpus)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func familyFile(name, file string) string { return filepath.Join("testdata", "families", name, file) }

func familyTokenizer(t testing.TB, name string) *Tokenizer {
	t.Helper()
	data, err := os.ReadFile(familyFile(name, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := DecodeTokenizer(data)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func readJSON(t testing.TB, file string, into any) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// encodings.json of each family holds what Hugging Face's implementation for JavaScript makes of the
// family's tokenizer.json; testdata/families.mjs wrote it.
func TestFamiliesAgreeWithAnIndependentImplementation(t *testing.T) {
	for _, f := range families() {
		t.Run(f.name, func(t *testing.T) {
			tok := familyTokenizer(t, f.name)
			var cases []struct {
				Text   string  `json:"text"`
				IDs    []int32 `json:"ids"`
				Framed []int32 `json:"framed"`
			}
			readJSON(t, familyFile(f.name, "encodings.json"), &cases)
			if len(cases) < 200 {
				t.Fatalf("the fixture has %d cases, want at least 200", len(cases))
			}
			for _, c := range cases {
				if got := tok.MarkupTokens(c.Text, Bare); !slices.Equal(got, c.IDs) {
					t.Errorf("%q encodes as\n     %v, want\n     %v", c.Text, got, c.IDs)
				}
				if got := tok.MarkupTokens(c.Text, Framed); !slices.Equal(got, c.Framed) {
					t.Errorf("%q encodes framed as\n     %v, want\n     %v", c.Text, got, c.Framed)
				}
			}
		})
	}
}

// TestNormalizedAddedTokens: such a token is looked for in what the normalizer made of the text, any other
// in the text as it is.
func TestNormalizedAddedTokens(t *testing.T) {
	data, err := os.ReadFile(familyFile("qwen3", "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	const old = `{"id":1800,"content":"<|endoftext|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}`
	for normalized, want := range map[bool]string{true: "a|<\u00e9>|b", false: "a<\u00e9>b"} {
		changed := strings.Replace(string(data), old, strings.NewReplacer("<|endoftext|>", "<\u00e9>", `"normalized":false`, fmt.Sprintf(`"normalized":%t`, normalized)).Replace(old), 1)
		if changed == string(data) {
			t.Fatal("the file has another first added token; change the test")
		}
		tok, err := DecodeTokenizer([]byte(changed))
		if err != nil {
			t.Fatal(err)
		}
		const text = "a<e\u0301>b" // composed, it holds the token
		ids := tok.MarkupTokens(text, Bare)
		if got := addedIDs(tok, ids); (len(got) == 1) != normalized {
			t.Errorf("normalized %t: the added tokens are %q, want those of %s", normalized, tok.Text(got), want)
		}
		if got := tok.Text(ids); got != "a<\u00e9>b" {
			t.Errorf("the text came back as %q", got)
		}
		if got := addedIDs(tok, tok.appendMarkup(nil, tok.shield(text), unshield)); len(got) > 0 {
			t.Errorf("normalized %t: shielded text has the added tokens %q", normalized, tok.Text(got))
		}
		again, err := tok.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeTokenizer(again); err != nil {
			t.Errorf("what Encode wrote is refused: %v", err)
		}
	}
}

// TestTokenBytes: the bytes of all tokens of a text are the text, though single ones cut characters.
func TestTokenBytes(t *testing.T) {
	tok := familyTokenizer(t, "llama3")
	ids := tok.MarkupTokens("\u4e11\u9ede<|eot_id|>", Bare) // characters the corpus lacks
	var spelled []byte
	cut := false
	for _, id := range ids {
		cut = cut || !utf8.Valid(tok.TokenBytes(id))
		spelled = append(spelled, tok.TokenBytes(id)...)
	}
	if string(spelled) != "\u4e11\u9ede<|eot_id|>" || !cut {
		t.Errorf("the tokens spell %q, cutting characters: %t", spelled, cut)
	}
	for _, id := range []int32{-1, int32(tok.VocabSize())} {
		if got := tok.TokenBytes(id); got != nil {
			t.Errorf("id %d, outside the vocabulary, has the bytes %q", id, got)
		}
	}
}
