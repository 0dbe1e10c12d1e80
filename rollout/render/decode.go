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

// DecodeTokenizer reads a tokenizer.json. It accepts byte-level BPE with the Llama-3 split pattern
// and special added tokens, and rejects everything else by name, because a tokenizer that is nearly
// right trains a policy on text nobody wrote.
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
	}{{"truncation", d.Truncation}, {"padding", d.Padding}, {"normalizer", d.Normalizer}} {
		if !isNull(part.raw) {
			return nil, fmt.Errorf("%s: %s is not supported, only null", part.name, typeOf(part.raw))
		}
	}
	if err := checkPreTokenizer(d.PreTokenizer); err != nil {
		return nil, err
	}
	if !isNull(d.PostProcessor) {
		if err := checkByteLevel("post_processor", d.PostProcessor, nil); err != nil {
			return nil, err
		}
	}
	if err := checkByteLevel("decoder", d.Decoder, nil); err != nil {
		return nil, err
	}
	if kind := typeOf(d.Model); kind != "BPE" {
		return nil, fmt.Errorf("model: %s is not supported, only BPE", kind)
	}
	var model bpeModel
	if err := strict(d.Model, &model); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := model.check(); err != nil {
		return nil, fmt.Errorf("model.%w", err)
	}
	return assemble(model, d.AddedTokens)
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

func checkPreTokenizer(raw json.RawMessage) error {
	if kind := typeOf(raw); kind != "Sequence" {
		return fmt.Errorf("pre_tokenizer: %s is not supported, only Sequence[Split, ByteLevel]", kind)
	}
	var sequence struct {
		Type          string            `json:"type"`
		Pretokenizers []json.RawMessage `json:"pretokenizers"`
	}
	if err := strict(raw, &sequence); err != nil {
		return fmt.Errorf("pre_tokenizer: %w", err)
	}
	if n := len(sequence.Pretokenizers); n != 2 {
		return fmt.Errorf("pre_tokenizer.pretokenizers: %d entries, want 2 (Split, ByteLevel)", n)
	}
	const at = "pre_tokenizer.pretokenizers[0]"
	if kind := typeOf(sequence.Pretokenizers[0]); kind != "Split" {
		return fmt.Errorf("%s: %s is not supported, only Split", at, kind)
	}
	var split struct {
		Type    string `json:"type"`
		Pattern struct {
			Regex  string
			String *string
		} `json:"pattern"`
		Behavior string `json:"behavior"`
		Invert   bool   `json:"invert"`
	}
	if err := strict(sequence.Pretokenizers[0], &split); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	switch {
	case split.Pattern.String != nil:
		return fmt.Errorf("%s.pattern: String is not supported, only Regex", at)
	case split.Pattern.Regex != splitPattern:
		return fmt.Errorf("%s.pattern: the regex %q is not supported, only %q", at, split.Pattern.Regex, splitPattern)
	case split.Behavior != "Isolated":
		return fmt.Errorf("%s.behavior: %q is not supported, only Isolated", at, split.Behavior)
	case split.Invert:
		return fmt.Errorf("%s.invert: true is not supported", at)
	}
	no := false
	return checkByteLevel("pre_tokenizer.pretokenizers[1]", sequence.Pretokenizers[1], &no)
}

// checkByteLevel checks a ByteLevel part. Its flags matter only in a pre-tokenizer; flags is what
// add_prefix_space and use_regex must be there, nil elsewhere.
func checkByteLevel(at string, raw json.RawMessage, flags *bool) error {
	if kind := typeOf(raw); kind != "ByteLevel" {
		return fmt.Errorf("%s: %s is not supported, only ByteLevel", at, kind)
	}
	part := struct {
		Type           string `json:"type"`
		AddPrefixSpace bool   `json:"add_prefix_space"`
		TrimOffsets    bool   `json:"trim_offsets"`
		UseRegex       bool   `json:"use_regex"`
	}{UseRegex: true} // the format's default
	if err := strict(raw, &part); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if flags == nil {
		return nil
	}
	if part.AddPrefixSpace != *flags {
		return fmt.Errorf("%s.add_prefix_space: %t is not supported", at, part.AddPrefixSpace)
	}
	if part.UseRegex != *flags {
		return fmt.Errorf("%s.use_regex: %t is not supported", at, part.UseRegex)
	}
	return nil
}

// assemble builds the tokenizer and checks that ids are dense and merges refer to tokens.
func assemble(model bpeModel, added []addedToken) (*Tokenizer, error) {
	names := make(map[string]int64, len(added))
	for i, token := range added {
		switch {
		case !token.Special:
			return nil, fmt.Errorf("added_tokens[%d] %q: special is false; only special added tokens are supported", i, token.Content)
		case token.SingleWord || token.LStrip || token.RStrip || token.Normalized:
			return nil, fmt.Errorf("added_tokens[%d] %q: single_word, lstrip, rstrip and normalized must be false", i, token.Content)
		case token.Content == "":
			return nil, fmt.Errorf("added_tokens[%d]: content is empty", i)
		}
		if _, twice := names[token.Content]; twice {
			return nil, fmt.Errorf("added_tokens[%d]: %q is there twice", i, token.Content)
		}
		names[token.Content] = token.ID
	}
	total := len(names)
	ordinary := make([]string, 0, len(model.Vocab))
	for spelled, id := range model.Vocab {
		if special, ok := names[spelled]; ok { // files may list a special token in both places
			if special != id {
				return nil, fmt.Errorf("model.vocab: %q has id %d, added_tokens says %d", spelled, id, special)
			}
			continue
		}
		ordinary = append(ordinary, spelled)
		total++
	}
	slices.Sort(ordinary) // so that of several mistakes always the same one is reported
	spellings, special, taken := make([]string, total), make([]bool, total), make([]bool, total)
	place := func(at, name, spelling string, id int64, isSpecial bool) error {
		if id < 0 || id >= int64(total) {
			return fmt.Errorf("%s: %q has id %d, want ids 0 to %d without gaps", at, name, id, total-1)
		}
		if taken[id] {
			return fmt.Errorf("%s: %q has id %d, which another token has too", at, name, id)
		}
		spellings[id], special[id], taken[id] = spelling, isSpecial, true
		return nil
	}
	for _, token := range added {
		if err := place("added_tokens", token.Content, token.Content, token.ID, true); err != nil {
			return nil, err
		}
	}
	for _, spelled := range ordinary {
		raw, err := unspell(spelled)
		if err == nil && raw == "" {
			err = fmt.Errorf("a token is empty")
		}
		if err == nil {
			err = place("model.vocab", spelled, raw, model.Vocab[spelled], false)
		} else {
			err = fmt.Errorf("model.vocab: %q: %w", spelled, err)
		}
		if err != nil {
			return nil, err
		}
	}
	merges, err := assembleMerges(model, names)
	if err != nil {
		return nil, err
	}
	t, err := newTokenizer(spellings, special, merges)
	if err != nil {
		return nil, err
	}
	t.ignoreMerges = model.IgnoreMerges
	return t, nil
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

// typeOf names a part by its "type" for errors: "null" when absent, "a part without a type" when it
// has none.
func typeOf(raw json.RawMessage) string {
	if isNull(raw) {
		return "null"
	}
	var part struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw, &part) != nil || part.Type == "" {
		return "a part without a type"
	}
	return part.Type
}
