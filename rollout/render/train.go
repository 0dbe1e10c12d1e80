package render

import (
	"cmp"
	"fmt"
	"slices"
)

// Train learns a tokenizer from texts: starting from the 256 bytes it repeatedly joins the most
// frequent pair of neighbouring tokens until the vocabulary has vocabSize ids, the special tokens
// included. Equal counts are decided by the smaller left id, then the smaller right id, so equal
// corpora give equal tokenizers whatever the order of their texts. Training stops early, with a
// smaller vocabulary, when no pair occurs twice.
//
// Ids are the bytes 0–255, then the merges in the order they were learned, then the special tokens.
// vocabSize below 261 (the bytes and the special tokens) is an error.
func Train(corpus []string, vocabSize int) (*Tokenizer, error) {
	least := 256 + len(specialNames)
	if vocabSize < least {
		return nil, fmt.Errorf("train tokenizer: vocabulary size %d is below %d (256 bytes and %d special tokens)", vocabSize, least, len(specialNames))
	}
	spellings, merges := learn(corpus, splitLlama3, vocabSize-len(specialNames))
	added := make([]*addedToken, len(spellings), len(spellings)+len(specialNames))
	for _, name := range specialNames {
		added = append(added, &addedToken{ID: int64(len(spellings)), Content: name, Special: true})
		spellings = append(spellings, name)
	}
	return newTokenizer(spellings, added, merges, trainedLayout())
}

// learn returns the bytes and then the merged tokens, at most vocabSize of them, and the merges in the
// order they were learned.
func learn(corpus []string, cut split, vocabSize int) ([]string, []merge) {
	learner := newPairCounts(corpus, cut)
	spellings := make([]string, 256, vocabSize)
	ids := make(map[string]int32, vocabSize)
	for b := range 256 {
		spellings[b] = string([]byte{byte(b)})
		ids[spellings[b]] = int32(b)
	}
	var merges []merge
	for len(spellings) < vocabSize {
		best, ok := learner.mostFrequent()
		if !ok {
			break
		}
		joined := spellings[best.left] + spellings[best.right]
		id, known := ids[joined] // another pair may spell the same bytes
		if !known {
			id = int32(len(spellings))
			spellings, ids[joined] = append(spellings, joined), id
		}
		merges = append(merges, merge{best, id})
		learner.apply(best, id)
	}
	return spellings, merges
}

// pairCounts counts neighbouring tokens over the distinct pieces of a corpus.
type pairCounts struct {
	pieces [][]int32
	times  []int // how often each piece occurs in the corpus
	counts map[pair]int
	where  map[pair]map[int]struct{} // pieces that hold, or once held, the pair
}

func newPairCounts(corpus []string, cut split) *pairCounts {
	times := make(map[string]int)
	for _, text := range corpus {
		for len(text) > 0 {
			n := cut.next(text)
			times[text[:n]]++
			text = text[n:]
		}
	}
	distinct := make([]string, 0, len(times))
	for piece := range times {
		distinct = append(distinct, piece)
	}
	slices.Sort(distinct)
	c := &pairCounts{counts: make(map[pair]int), where: make(map[pair]map[int]struct{})}
	for i, piece := range distinct {
		ids := make([]int32, len(piece))
		for j := range ids {
			ids[j] = int32(piece[j])
		}
		c.pieces, c.times = append(c.pieces, ids), append(c.times, times[piece])
		c.count(i, +1)
	}
	return c
}

// count adds (or, with sign -1, removes) the pairs of one piece.
func (c *pairCounts) count(piece, sign int) {
	ids := c.pieces[piece]
	for j := 1; j < len(ids); j++ {
		p := pair{ids[j-1], ids[j]}
		c.counts[p] += sign * c.times[piece]
		if c.counts[p] == 0 {
			delete(c.counts, p)
		}
		if sign > 0 {
			if c.where[p] == nil {
				c.where[p] = make(map[int]struct{})
			}
			c.where[p][piece] = struct{}{}
		}
	}
}

// mostFrequent returns the pair to merge next and false when none occurs twice.
func (c *pairCounts) mostFrequent() (pair, bool) {
	best, most := pair{}, 1
	for p, n := range c.counts {
		if n > most || n == most && n > 1 && comparePairs(p, best) < 0 {
			best, most = p, n
		}
	}
	return best, most > 1
}

func comparePairs(a, b pair) int {
	return cmp.Or(cmp.Compare(a.left, b.left), cmp.Compare(a.right, b.right))
}

// apply joins every occurrence of the pair, left to right within a piece.
func (c *pairCounts) apply(p pair, id int32) {
	for piece := range c.where[p] {
		c.count(piece, -1)
		ids := c.pieces[piece]
		joined := ids[:0]
		for j := 0; j < len(ids); j++ {
			if j+1 < len(ids) && ids[j] == p.left && ids[j+1] == p.right {
				joined = append(joined, id)
				j++
				continue
			}
			joined = append(joined, ids[j])
		}
		c.pieces[piece] = joined
		c.count(piece, +1)
	}
	delete(c.where, p)
}
