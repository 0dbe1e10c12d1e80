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
	// Generate samples until a stop token, the token limit or an error.
	Generate(ctx context.Context, request Request) (Result, error)
	// Release forgets what is cached for a sequence. Releasing an unknown sequence does nothing.
	Release(sequence string)
}

// Request asks for the next turn of one sequence.
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
	// Temperature divides the logits; 0 means greedy, whose log-probabilities are those at temperature 1.
	Temperature float64
	// Seed determines the sampled tokens together with the context and the weights.
	Seed uint64
}

// FinishReason says why a generation ended.
type FinishReason string

const (
	FinishStop   FinishReason = "stop"   // a stop token was sampled
	FinishLength FinishReason = "length" // MaxTokens came first, or the engine's context was full
)

// Result is one sampled turn. All slices have the same length.
type Result struct {
	Tokens []int32
	// LogProbs are after temperature and before truncation, in nats.
	LogProbs []float32
	// Entropies are of the distribution LogProbs come from, in nats.
	Entropies []float32
	// Versions are the policy versions that sampled each token.
	Versions []rollout.Version
	Finish   FinishReason
}
