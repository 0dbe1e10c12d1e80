package render

import (
	"encoding/json"
	"fmt"
	"slices"
)

// decodeLayout reads the parts of a tokenizer.json that say how text is cut and framed.
func decodeLayout(d document) (layout, error) {
	parts := layout{normalizer: d.Normalizer, preTokenizer: d.PreTokenizer, postProcessor: d.PostProcessor, decoder: d.Decoder}
	if !isNull(d.Normalizer) {
		if kind := typeOf(d.Normalizer); kind != "NFC" {
			return layout{}, fmt.Errorf("normalizer: %s is not supported, only NFC and null", kind)
		}
		var part struct {
			Type string `json:"type"`
		}
		if err := strict(d.Normalizer, &part); err != nil {
			return layout{}, fmt.Errorf("normalizer: %w", err)
		}
		parts.composes = true
	}
	var err error
	if parts.split, err = decodePreTokenizer(d.PreTokenizer); err != nil {
		return layout{}, err
	}
	if err := checkByteLevel("decoder", d.Decoder, nil); err != nil {
		return layout{}, err
	}
	return parts, nil
}

// decodePreTokenizer recognises ByteLevel alone (GPT-2) and Split before ByteLevel (Llama 3, Qwen).
func decodePreTokenizer(raw json.RawMessage) (split, error) {
	switch kind := typeOf(raw); kind {
	case "ByteLevel":
		yes := true
		return splitGPT2, checkByteLevel("pre_tokenizer", raw, &yes)
	case "Sequence":
	default:
		return 0, fmt.Errorf("pre_tokenizer: %s is not supported, only ByteLevel and Sequence[Split, ByteLevel]", kind)
	}
	var sequence struct {
		Type          string            `json:"type"`
		Pretokenizers []json.RawMessage `json:"pretokenizers"`
	}
	if err := strict(raw, &sequence); err != nil {
		return 0, fmt.Errorf("pre_tokenizer: %w", err)
	}
	if n := len(sequence.Pretokenizers); n != 2 {
		return 0, fmt.Errorf("pre_tokenizer.pretokenizers: %d entries, want 2 (Split, ByteLevel)", n)
	}
	found, err := decodeSplit("pre_tokenizer.pretokenizers[0]", sequence.Pretokenizers[0])
	if err != nil {
		return 0, err
	}
	no := false
	return found, checkByteLevel("pre_tokenizer.pretokenizers[1]", sequence.Pretokenizers[1], &no)
}

func decodeSplit(at string, raw json.RawMessage) (split, error) {
	if kind := typeOf(raw); kind != "Split" {
		return 0, fmt.Errorf("%s: %s is not supported, only Split", at, kind)
	}
	var part struct {
		Type    string `json:"type"`
		Pattern struct {
			Regex  string
			String *string
		} `json:"pattern"`
		Behavior string `json:"behavior"`
		Invert   bool   `json:"invert"`
	}
	if err := strict(raw, &part); err != nil {
		return 0, fmt.Errorf("%s: %w", at, err)
	}
	known := []split{splitLlama3, splitQwen2, splitGPT2}
	found := slices.IndexFunc(known, func(p split) bool { return p.regex() == part.Pattern.Regex })
	switch {
	case part.Pattern.String != nil:
		return 0, fmt.Errorf("%s.pattern: String is not supported, only Regex", at)
	case found < 0:
		return 0, fmt.Errorf("%s.pattern: the regex %q is not supported, only Llama 3's %q, Qwen2's %q and GPT-2's %q",
			at, part.Pattern.Regex, llama3Regex, qwen2Regex, gpt2Regex)
	case part.Behavior != "Isolated":
		return 0, fmt.Errorf("%s.behavior: %q is not supported, only Isolated", at, part.Behavior)
	case part.Invert:
		return 0, fmt.Errorf("%s.invert: true is not supported", at)
	}
	return known[found], nil
}

// checkByteLevel checks a ByteLevel part. Its flags matter only in a pre-tokenizer: there useRegex is
// what use_regex must be, and add_prefix_space must be false, since a text would not come back as it
// went in; elsewhere useRegex is nil.
func checkByteLevel(at string, raw json.RawMessage, useRegex *bool) error {
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
	if useRegex == nil {
		return nil
	}
	if part.AddPrefixSpace {
		return fmt.Errorf("%s.add_prefix_space: true is not supported, because text would not round-trip", at)
	}
	if part.UseRegex != *useRegex {
		return fmt.Errorf("%s.use_regex: %t is not supported here", at, part.UseRegex)
	}
	return nil
}

// framePiece is one element of a TemplateProcessing: a special token, or the text as sequence A.
type framePiece struct {
	SpecialToken *struct {
		ID     string `json:"id"`
		TypeID int    `json:"type_id"`
	}
	Sequence *struct {
		ID     string `json:"id"`
		TypeID int    `json:"type_id"`
	}
}

// frame reads the post-processor into before and after. It runs last because it refers to tokens.
func (t *Tokenizer) frame() error {
	if isNull(t.postProcessor) {
		return nil
	}
	if typeOf(t.postProcessor) != "Sequence" {
		return t.framePart("post_processor", t.postProcessor)
	}
	var sequence struct {
		Type       string            `json:"type"`
		Processors []json.RawMessage `json:"processors"`
	}
	if err := strict(t.postProcessor, &sequence); err != nil {
		return fmt.Errorf("post_processor: %w", err)
	}
	for i, part := range sequence.Processors {
		if err := t.framePart(fmt.Sprintf("post_processor.processors[%d]", i), part); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tokenizer) framePart(at string, raw json.RawMessage) error {
	switch kind := typeOf(raw); kind {
	case "ByteLevel": // moves offsets, which nobody asks for here; ids stay
		return checkByteLevel(at, raw, nil)
	case "TemplateProcessing":
	default:
		return fmt.Errorf("%s: %s is not supported, only ByteLevel, TemplateProcessing and Sequence", at, kind)
	}
	var part struct {
		Type          string          `json:"type"`
		Single        []framePiece    `json:"single"`
		Pair          json.RawMessage `json:"pair"` // for two texts, which are never encoded together
		SpecialTokens map[string]struct {
			ID     string   `json:"id"`
			IDs    []int64  `json:"ids"`
			Tokens []string `json:"tokens"`
		} `json:"special_tokens"`
	}
	if err := strict(raw, &part); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	var before, after []int32
	seen := false
	for i, piece := range part.Single {
		here := fmt.Sprintf("%s.single[%d]", at, i)
		switch {
		case (piece.Sequence == nil) == (piece.SpecialToken == nil):
			return fmt.Errorf("%s: want either a SpecialToken or a Sequence", here)
		case piece.Sequence != nil && (piece.Sequence.ID != "A" || seen):
			return fmt.Errorf("%s: sequence %q is not supported, only A, once", here, piece.Sequence.ID)
		case piece.Sequence != nil:
			seen = true
			continue
		}
		named, ok := part.SpecialTokens[piece.SpecialToken.ID]
		if !ok {
			return fmt.Errorf("%s: %q is not in special_tokens", here, piece.SpecialToken.ID)
		}
		for j, id := range named.IDs {
			if id < 0 || id >= int64(len(t.spellings)) {
				return fmt.Errorf("%s.special_tokens[%q].ids[%d]: %d is outside the vocabulary of %d", at, piece.SpecialToken.ID, j, id, len(t.spellings))
			}
			if seen {
				after = append(after, int32(id))
			} else {
				before = append(before, int32(id))
			}
		}
	}
	if !seen {
		return fmt.Errorf("%s.single: sequence A is missing", at)
	}
	t.before, t.after = append(before, t.before...), append(t.after, after...)
	return nil
}
