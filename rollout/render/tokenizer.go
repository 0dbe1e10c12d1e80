package render

import (
	"fmt"
	"strings"
	"sync"
)

// Names of the special tokens that structure an episode. Every tokenizer has all five.
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
	// spellings are the raw bytes of each token, or the name of a special one. Index = id.
	spellings []string
	// special marks the ids plain text never produces. len = len(spellings).
	special []bool
	// specials maps the names of special tokens to ids.
	specials map[string]int32
	// bytes is the id of each single byte.
	bytes [256]int32
	// whole maps the bytes of each ordinary token to its id.
	whole map[string]int32
	// merges are the merge rules in order of rank; ranks finds them by pair.
	merges []merge
	ranks  map[pair]merged
	// ignoreMerges makes a piece that is a token by itself that token, whatever the merges say.
	ignoreMerges bool

	user, assistant, tool, end int32

	cacheLock sync.RWMutex
	cache     map[string][]int32
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

// newTokenizer finishes a tokenizer whose spellings, special marks and merges are known and
// consistent: it indexes them and checks that every byte and every structural token is there.
func newTokenizer(spellings []string, special []bool, merges []merge) (*Tokenizer, error) {
	t := &Tokenizer{
		spellings: spellings, special: special, merges: merges,
		specials: make(map[string]int32),
		whole:    make(map[string]int32, len(spellings)),
		ranks:    make(map[pair]merged, len(merges)),
		cache:    make(map[string][]int32),
	}
	for id, spelling := range spellings {
		index := t.whole
		if special[id] {
			index = t.specials
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
	for _, name := range specialNames {
		if _, ok := t.specials[name]; !ok {
			return nil, fmt.Errorf("special token %s is missing: episodes need %s", name, strings.Join(specialNames, " "))
		}
	}
	t.user, t.assistant = t.specials[UserToken], t.specials[AssistantToken]
	t.tool, t.end = t.specials[ToolToken], t.specials[EndToken]
	return t, nil
}

// VocabSize is the number of token ids; every id is below it.
func (t *Tokenizer) VocabSize() int { return len(t.spellings) }

// Special returns the id of a special token, for example [PadToken], and whether it exists.
func (t *Tokenizer) Special(name string) (int32, bool) {
	id, ok := t.specials[name]
	return id, ok
}

// Text returns what the ids spell, special tokens as their names. Ids of tokens that hold part of a
// character give that part's bytes. An id outside the vocabulary, which a policy with a padded
// embedding can sample, shows as <|unknown:ID|>.
func (t *Tokenizer) Text(ids []int32) string { return t.text(ids, true) }

// PlainText is [Tokenizer.Text] with special tokens left out.
func (t *Tokenizer) PlainText(ids []int32) string { return t.text(ids, false) }

func (t *Tokenizer) text(ids []int32, specials bool) string {
	var b strings.Builder
	for _, id := range ids {
		switch {
		case id < 0 || int(id) >= len(t.spellings):
			fmt.Fprintf(&b, "<|unknown:%d|>", id)
		case specials || !t.special[id]:
			b.WriteString(t.spellings[id])
		}
	}
	return b.String()
}

// Tokens returns the ids of a text. It never returns a special token: "<|end|>" in a text is seven
// ordinary characters. The empty text has no tokens.
func (t *Tokenizer) Tokens(text string) []int32 {
	return t.appendTokens(make([]int32, 0, len(text)/3+1), text)
}

func (t *Tokenizer) appendTokens(ids []int32, text string) []int32 {
	for len(text) > 0 {
		n := nextPiece(text)
		ids = t.appendPiece(ids, text[:n])
		text = text[n:]
	}
	return ids
}
