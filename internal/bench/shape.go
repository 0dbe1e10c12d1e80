package bench

import (
	"fmt"
	"math/rand/v2"
	"strconv"
)

// Shape is a policy network and a batch for it.
type Shape struct {
	Layers  int `json:"layers"`
	Hidden  int `json:"hidden"` // width of the residual stream
	Heads   int `json:"heads"`  // query heads, a multiple of KVHeads
	KVHeads int `json:"kv_heads"`
	HeadDim int `json:"head_dim"` // even: positions rotate pairs
	FFN     int `json:"ffn"`      // inner width of the feed-forward part
	Vocab   int `json:"vocab"`
	Batch   int `json:"batch"` // sequences at once
	// Seq is the tokens of a sequence; where the policy samples, the most that its context may hold.
	Seq int `json:"seq"`
}

// Tokens is how many tokens a batch has.
func (s Shape) Tokens() int { return s.Batch * s.Seq }

// Bounds of a shape: each keeps products of two far from overflow, and the batch what a machine may hold.
const (
	maxWidth  = 1 << 16
	maxLayers = 1 << 10
	maxVocab  = 1 << 20
	maxTokens = 1 << 22
)

func (s Shape) check() error {
	err := firstError(
		between("layers", s.Layers, 1, maxLayers), between("hidden", s.Hidden, 1, maxWidth),
		between("heads", s.Heads, 1, maxWidth), between("kv-heads", s.KVHeads, 1, maxWidth),
		between("head-dim", s.HeadDim, 2, maxWidth), between("ffn", s.FFN, 1, maxWidth),
		between("vocab", s.Vocab, 2, maxVocab), between("batch", s.Batch, 1, maxTokens),
		between("seq", s.Seq, 2, maxTokens),
	)
	switch {
	case err != nil:
		return err
	case s.Heads%s.KVHeads != 0:
		return SettingError{"heads", s.Heads, fmt.Sprintf("must be a multiple of --kv-heads %d", s.KVHeads)}
	case s.HeadDim%2 != 0:
		return SettingError{"head-dim", s.HeadDim, "must be even, because positions rotate pairs"}
	case s.Tokens() > maxTokens:
		return SettingError{"batch", s.Batch, fmt.Sprintf("times --seq must be at most %s tokens, is %s", number(maxTokens), number(s.Tokens()))}
	}
	return nil
}

// number is a count in digits.
func number(n int) string { return strconv.Itoa(n) }

// tokenSource is where random tokens come from; all sources yield the same.
func tokenSource() *rand.Rand { return rand.New(rand.NewPCG(1, 0x746f6b656e73)) }

// randomTokens are the next n ids, drawn evenly from the vocabulary.
func (s Shape) randomTokens(random *rand.Rand, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = random.Int32N(int32(s.Vocab))
	}
	return out
}
