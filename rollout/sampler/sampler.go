// Package sampler defines how a rollout worker asks a policy for the tokens of a turn, whatever
// engine is behind: the built-in decoder, or a serving engine over the network.
package sampler

import (
	"context"

	"github.com/turnwise-rl/turnwise/rollout"
)

// Sampler continues token sequences. Methods may be called by many goroutines at once; the result
// of one request never depends on the others.
type Sampler interface {
	// Generate samples until a stop token or string, the token limit or an error.
	Generate(ctx context.Context, request Request) (Result, error)
	// Release forgets what is cached for a sequence. Releasing an unknown sequence does nothing.
	Release(sequence string)
}

// Request asks for the next turn of one sequence. The distribution that a token is drawn from is
// softmax(logits/Temperature), cut to the TopK likeliest tokens, then to the fewest likeliest tokens
// with a share of at least TopP, then to tokens at least MinP times as likely as the likeliest; each
// cut sees the result of the one before. The zero values of TopK, TopP and MinP cut nothing.
type Request struct {
	// Sequence names the growing context so that an engine can keep its cache between turns. The
	// tokens of a later request of the same sequence extend those of the earlier one.
	Sequence string
	// Tokens is the whole context so far; not empty.
	Tokens []int32
	// MaxTokens bounds the sampled tokens, the stop token included; positive.
	MaxTokens int
	// Stop are the token ids that end the turn; the stop token is part of the result.
	Stop []int32
	// StopStrings end the turn as soon as the text of the sampled tokens, without the context, holds one
	// of them, wherever tokens begin and end in it. None is empty. The token that completes one is part
	// of the result, whole.
	StopStrings []string
	// Temperature divides the logits; 0 means greedy, whose log-probabilities are those at temperature 1.
	Temperature float64
	// TopK is the most tokens kept; 0 keeps all. Of equally likely ones at the border, smaller ids stay.
	TopK int
	// TopP is the share of probability kept, in (0, 1]; 0, like 1, keeps all.
	TopP float64
	// MinP is the least share of the likeliest token's probability, in [0, 1]; 0 keeps all.
	MinP float64
	// Seed determines the sampled tokens together with the context and the weights.
	Seed uint64
}

// FinishReason says why a generation ended.
type FinishReason string

const (
	FinishStop   FinishReason = "stop"   // a stop token was sampled, or a stop string was completed
	FinishLength FinishReason = "length" // MaxTokens came first, or the engine's context was full
	FinishAbort  FinishReason = "abort"  // the request was aborted; the result holds what was sampled before
)

// Result is one sampled turn. All slices have the same length, one entry for each sampled token; a nil
// SamplingLogProbs or UntemperedLogProbs means that the engine does not report it.
type Result struct {
	Tokens []int32
	// LogProbs are after temperature and before truncation, in nats.
	LogProbs []float32
	// SamplingLogProbs are of the distribution that the token was drawn from, after temperature and
	// truncation, in nats; 0 for a greedy choice, which is certain.
	SamplingLogProbs []float32
	// UntemperedLogProbs are at temperature 1 and before truncation, in nats.
	UntemperedLogProbs []float32
	// Entropies are of the distribution LogProbs come from, in nats.
	Entropies []float32
	// Versions are the policy versions that sampled each token.
	Versions []rollout.Version
	Finish   FinishReason
	// StopString is the stop string that ended the turn; empty when something else did. Of several that
	// the same token completes it is the one that ends first, and of those the longest.
	StopString string
	// StopBeyond is the number of bytes of the last token's text that follow StopString.
	StopBeyond int
}
