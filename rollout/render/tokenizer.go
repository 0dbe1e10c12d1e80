package render

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Names of the special tokens that structure an episode of [Markers].
const (
	UserToken      = "<|user|>"
	AssistantToken = "<|assistant|>"
	ToolToken      = "<|tool|>"
	EndToken       = "<|end|>"
	PadToken       = "<|pad|>"
)

// specialNames is the order in which [Train] appends the special tokens to the vocabulary.
var specialNames = []string{UserToken, AssistantToken, ToolToken, EndToken, PadToken}

// Tokenizer maps text to token ids and back. It is immutable apart from a cache of its own, so any
// number of goroutines may use one.
type Tokenizer struct {
	// spellings are the raw bytes of each token, or the name of an added one. Index = id.
	spellings []string
	// added tells what added_tokens says of the id; nil for the ordinary tokens. len = len(spellings).
	added []*addedToken
	// names maps what an added token spells to its id.
	names map[string]int32
	// bytes is the id of each single byte.
	bytes [256]int32
	// whole maps the bytes of each ordinary token to its id.
	whole map[string]int32
	// merges are the merge rules in order of rank; ranks finds them by pair.
	merges []merge
	ranks  map[pair]merged
	layout

	// raw finds added tokens in a text as it is, normalized in what the normalizer made of it.
	raw, normalized matcher

	cacheLock sync.RWMutex
	cache     map[string][]int32
}

// layout is everything of a tokenizer.json that is not vocabulary.
type layout struct {
	split split
	// composes says that text is brought to Unicode's form NFC first.
	composes bool
	// ignoreMerges makes a piece that is a token by itself that token, whatever the merges say.
	ignoreMerges bool
	// before and after are the ids with which the post-processor frames a text.
	before, after []int32
	// The parts as JSON, written back as they were read.
	normalizer, preTokenizer, postProcessor, decoder json.RawMessage
}

// pair is two neighbouring token ids.
type pair struct{ left, right int32 }

// merge is one rule: the pair becomes the token id.
type merge struct {
	pair
	id int32
}

// merged is what a pair becomes, and its rank: smaller ranks merge first.
type merged struct{ rank, id int32 }

// newTokenizer finishes a tokenizer whose spellings, added tokens and merges are known and
// consistent: it indexes them and checks that every byte is there.
func newTokenizer(spellings []string, added []*addedToken, merges []merge, layout layout) (*Tokenizer, error) {
	t := &Tokenizer{
		spellings: spellings, added: added, merges: merges, layout: layout,
		names: make(map[string]int32),
		whole: make(map[string]int32, len(spellings)),
		ranks: make(map[pair]merged, len(merges)),
		cache: make(map[string][]int32),
	}
	for id, spelling := range spellings {
		index := t.whole
		if added[id] != nil {
			index = t.names
		}
		if earlier, twice := index[spelling]; twice {
			return nil, fmt.Errorf("token %q has two ids, %d and %d", spelling, earlier, id)
		}
		index[spelling] = int32(id)
	}
	for b := range 256 {
		id, ok := t.whole[string([]byte{byte(b)})]
		if !ok {
			return nil, fmt.Errorf("vocabulary lacks byte 0x%02x (written %q): a byte-level tokenizer has a token for each of the 256 bytes", b, byteToRune[b])
		}
		t.bytes[b] = id
	}
	for rank, m := range merges {
		if earlier, twice := t.ranks[m.pair]; twice {
			return nil, fmt.Errorf("merges[%d] repeats merges[%d]", rank, earlier.rank)
		}
		t.ranks[m.pair] = merged{rank: int32(rank), id: m.id}
	}
	t.index()
	return t, nil
}

// index prepares the search for added tokens.
func (t *Tokenizer) index() {
	raw, normalized := map[string]int32{}, map[string]int32{}
	for id, token := range t.added {
		switch {
		case token == nil:
		case token.Normalized:
			normalized[t.normalize(token.Content)] = int32(id)
		default:
			raw[token.Content] = int32(id)
		}
	}
	t.raw, t.normalized = newMatcher(raw), newMatcher(normalized)
}

// VocabSize is the number of token ids; every id is below it.
func (t *Tokenizer) VocabSize() int { return len(t.spellings) }

// Special returns the id of an added token, for example [PadToken], and whether it exists.
func (t *Tokenizer) Special(name string) (int32, bool) {
	id, ok := t.names[name]
	return id, ok
}

// Composes reports whether the tokenizer brings text to Unicode's form NFC, as Qwen's do. Such a
// tokenizer does not give back the text it was given: it gives back the NFC of it.
func (t *Tokenizer) Composes() bool { return t.composes }

// Text returns what the ids spell, added tokens as their names. Ids of tokens that hold part of a
// character give that part's bytes. An id outside the vocabulary, which a policy with a padded
// embedding can sample, shows as <|unknown:ID|>.
func (t *Tokenizer) Text(ids []int32) string { return t.text(ids, true) }

// PlainText is [Tokenizer.Text] with special tokens left out. Added tokens that are not special, such
// as Qwen's <tool_call>, stay.
func (t *Tokenizer) PlainText(ids []int32) string { return t.text(ids, false) }

func (t *Tokenizer) text(ids []int32, specials bool) string {
	var b strings.Builder
	for _, id := range ids {
		switch {
		case id < 0 || int(id) >= len(t.spellings):
			fmt.Fprintf(&b, "<|unknown:%d|>", id)
		case specials || t.added[id] == nil || !t.added[id].Special:
			b.WriteString(t.spellings[id])
		}
	}
	return b.String()
}

// TokenBytes returns the exact bytes a token stands for, which may be part of a character; for an
// added token the bytes of its name. An id outside the vocabulary has none.
func (t *Tokenizer) TokenBytes(id int32) []byte {
	if id < 0 || int(id) >= len(t.spellings) {
		return nil
	}
	return []byte(t.spellings[id])
}

// Tokens returns the ids of a text. It never returns an added token: "<|end|>" in a text is seven
// ordinary characters. The empty text has no tokens.
func (t *Tokenizer) Tokens(text string) []int32 {
	return t.appendTokens(make([]int32, 0, len(text)/3+1), text)
}

func (t *Tokenizer) appendTokens(ids []int32, text string) []int32 {
	return t.appendPieces(ids, t.normalize(text))
}

// appendPieces appends the ids of a text that needs no normalizing.
func (t *Tokenizer) appendPieces(ids []int32, text string) []int32 {
	for len(text) > 0 {
		n := t.split.next(text)
		ids = t.appendPiece(ids, text[:n])
		text = text[n:]
	}
	return ids
}

// Framing says whether [Tokenizer.MarkupTokens] adds what the post-processor of tokenizer.json adds
// around a text, for example Llama 3's <|begin_of_text|>.
type Framing bool

const (
	// Bare adds nothing: right for rendered chat templates, which write such tokens themselves.
	Bare Framing = false
	// Framed is Hugging Face's add_special_tokens=True: right for a text that begins a sequence.
	Framed Framing = true
)

// MarkupTokens returns the ids of a text in which added tokens are markup: text that spells one
// becomes its id, as Hugging Face's encode does. It is for text whose author is trusted to write
// special tokens, never for what a user or a tool said; [Tokenizer.Tokens] is for those.
func (t *Tokenizer) MarkupTokens(text string, framing Framing) []int32 {
	ids := make([]int32, 0, len(text)/3+1+len(t.before)+len(t.after))
	if framing == Framed {
		ids = append(ids, t.before...)
	}
	ids = t.appendMarkup(ids, text, func(plain string) string { return plain })
	if framing == Framed {
		ids = append(ids, t.after...)
	}
	return ids
}

// appendMarkup finds the added tokens of a text and appends their ids and those of the text between
// them, which reveal sees before it is normalized.
func (t *Tokenizer) appendMarkup(ids []int32, text string, reveal func(string) string) []int32 {
	t.raw.cut(text, func(plain string, id int32) {
		if id != none {
			ids = append(ids, id)
			return
		}
		if t.normalized.empty() {
			ids = t.appendTokens(ids, reveal(plain))
			return
		}
		t.normalized.cut(t.normalize(plain), func(plain string, id int32) {
			if id != none {
				ids = append(ids, id)
				return
			}
			ids = t.appendPieces(ids, t.normalize(reveal(plain)))
		})
	})
	return slices.Clip(ids)
}
