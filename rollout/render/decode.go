package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// document is the part of tokenizer.json this package understands; any other field is an error.
type document struct {
	Version       string          `json:"version"`
	Truncation    json.RawMessage `json:"truncation"`
	Padding       json.RawMessage `json:"padding"`
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Model         json.RawMessage `json:"model"`
}

type addedToken struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

type bpeModel struct {
	Type         string           `json:"type"`
	Dropout      *float64         `json:"dropout"`
	UnkToken     *string          `json:"unk_token"`
	Prefix       *string          `json:"continuing_subword_prefix"`
	Suffix       *string          `json:"end_of_word_suffix"`
	FuseUnk      bool             `json:"fuse_unk"`
	ByteFallback bool             `json:"byte_fallback"`
	IgnoreMerges bool             `json:"ignore_merges"`
	Vocab        map[string]int64 `json:"vocab"`
	Merges       []mergeSpelling  `json:"merges"`
}

// mergeSpelling is one merge, written ["a","b"] today and "a b" in older files.
type mergeSpelling [2]string

func (m *mergeSpelling) UnmarshalJSON(data []byte) error {
	var both []string
	var line string
	if json.Unmarshal(data, &line) == nil {
		both = strings.Split(line, " ")
	} else if err := json.Unmarshal(data, &both); err != nil {
		return fmt.Errorf("a merge is two strings or one string with a space, not %s", data)
	}
	if len(both) != 2 {
		return fmt.Errorf("merge %s joins %d tokens, want 2", data, len(both))
	}
	m[0], m[1] = both[0], both[1]
	return nil
}

// DecodeTokenizer reads a tokenizer.json. It accepts byte-level BPE with the split pattern of GPT-2,
// Llama 3 or Qwen 2 and 3, and rejects everything else by name, because a tokenizer that is nearly
// right trains a policy on text nobody wrote. Errors name the file, the place in it and what stands
// there.
func DecodeTokenizer(data []byte) (*Tokenizer, error) {
	t, err := decodeTokenizer(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	return t, nil
}

func decodeTokenizer(data []byte) (*Tokenizer, error) {
	var d document
	if err := strict(data, &d); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		name string
		raw  json.RawMessage
	}{{"truncation", d.Truncation}, {"padding", d.Padding}} {
		if !isNull(part.raw) {
			return nil, fmt.Errorf("%s: %s is not supported, only null", part.name, typeOf(part.raw))
		}
	}
	parts, err := decodeLayout(d)
	if err != nil {
		return nil, err
	}
	if kind := typeOf(d.Model); kind != "BPE" && kind != untyped { // GPT-2's file predates the field
		return nil, fmt.Errorf("model: %s is not supported, only BPE", kind)
	}
	var model bpeModel
	if err := strict(d.Model, &model); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := model.check(); err != nil {
		return nil, fmt.Errorf("model.%w", err)
	}
	parts.ignoreMerges = model.IgnoreMerges
	return assemble(model, d.AddedTokens, parts)
}

// check rejects the variants of BPE that merge or spell differently.
func (m bpeModel) check() error {
	switch {
	case m.Dropout != nil && *m.Dropout != 0:
		return fmt.Errorf("dropout: %g is not supported, only null", *m.Dropout)
	case m.UnkToken != nil:
		return fmt.Errorf("unk_token: %q is not supported: byte-level text has no unknown tokens", *m.UnkToken)
	case m.Prefix != nil && *m.Prefix != "":
		return fmt.Errorf("continuing_subword_prefix: %q is not supported, only null", *m.Prefix)
	case m.Suffix != nil && *m.Suffix != "":
		return fmt.Errorf("end_of_word_suffix: %q is not supported, only null", *m.Suffix)
	case m.ByteFallback:
		return fmt.Errorf("byte_fallback: true is not supported")
	}
	return nil
}

// assemble builds the tokenizer and checks that ids are dense and merges refer to tokens.
func assemble(model bpeModel, added []addedToken, parts layout) (*Tokenizer, error) {
	names, err := checkAdded(added)
	if err != nil {
		return nil, err
	}
	total := len(names)
	ordinary := make([]string, 0, len(model.Vocab))
	for spelled, id := range model.Vocab {
		if special, ok := names[spelled]; ok { // files may list an added token in both places
			if special != id {
				return nil, fmt.Errorf("model.vocab: %q has id %d, added_tokens says %d", spelled, id, special)
			}
			continue
		}
		ordinary = append(ordinary, spelled)
		total++
	}
	slices.Sort(ordinary) // so that of several mistakes always the same one is reported
	spellings, tokens := make([]string, total), make([]*addedToken, total)
	place := func(at, name, spelling string, id int64) error {
		if id < 0 || id >= int64(total) {
			return fmt.Errorf("%s: %q has id %d, want ids 0 to %d without gaps", at, name, id, total-1)
		}
		if spellings[id] != "" {
			return fmt.Errorf("%s: %q has id %d, which another token has too", at, name, id)
		}
		spellings[id] = spelling
		return nil
	}
	for i := range added {
		if err := place("added_tokens", added[i].Content, added[i].Content, added[i].ID); err != nil {
			return nil, err
		}
		tokens[added[i].ID] = &added[i]
	}
	for _, spelled := range ordinary {
		raw, err := unspell(spelled)
		if err == nil && raw == "" {
			err = fmt.Errorf("a token is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("model.vocab: %q: %w", spelled, err)
		}
		if err := place("model.vocab", spelled, raw, model.Vocab[spelled]); err != nil {
			return nil, err
		}
	}
	merges, err := assembleMerges(model, names)
	if err != nil {
		return nil, err
	}
	t, err := newTokenizer(spellings, tokens, merges, parts)
	if err != nil {
		return nil, err
	}
	return t, t.frame()
}

// checkAdded rejects the kinds of added tokens whose matching reaches beyond their own text, and
// returns the id of each.
func checkAdded(added []addedToken) (map[string]int64, error) {
	names := make(map[string]int64, len(added))
	for i, token := range added {
		for _, flag := range []struct {
			name string
			set  bool
		}{{"single_word", token.SingleWord}, {"lstrip", token.LStrip}, {"rstrip", token.RStrip}} {
			if flag.set {
				return nil, fmt.Errorf("added_tokens[%d] %q: %s: true is not supported", i, token.Content, flag.name)
			}
		}
		if token.Content == "" {
			return nil, fmt.Errorf("added_tokens[%d]: content is empty", i)
		}
		if _, twice := names[token.Content]; twice {
			return nil, fmt.Errorf("added_tokens[%d]: %q is there twice", i, token.Content)
		}
		names[token.Content] = token.ID
	}
	return names, nil
}

func assembleMerges(model bpeModel, specials map[string]int64) ([]merge, error) {
	merges := make([]merge, len(model.Merges))
	for i, m := range model.Merges {
		var ids [3]int32
		for j, spelled := range []string{m[0], m[1], m[0] + m[1]} {
			id, ok := model.Vocab[spelled]
			if _, isSpecial := specials[spelled]; !ok || isSpecial {
				return nil, fmt.Errorf("model.merges[%d]: %q is not an ordinary token of model.vocab", i, spelled)
			}
			ids[j] = int32(id)
		}
		merges[i] = merge{pair{ids[0], ids[1]}, ids[2]}
	}
	return merges, nil
}

// strict decodes one JSON value and rejects unknown fields and trailing data.
func strict(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fmt.Errorf("data follows the JSON value")
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// untyped is what typeOf calls a part without the field.
const untyped = "a part without a type"

// typeOf names a part by its "type" for errors: "null" when absent, [untyped] when it has none.
func typeOf(raw json.RawMessage) string {
	if isNull(raw) {
		return "null"
	}
	var part struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw, &part) != nil || part.Type == "" {
		return untyped
	}
	return part.Type
}
