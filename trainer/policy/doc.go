// Package policy is the policy network: a decoder-only transformer of Qwen3's shape in float32, its
// hand-derived gradient, and the engine that samples from it.
//
// [New] makes a network from a [Config], [LoadFolder] reads one in Hugging Face layout. A learner
// calls [Model.Score] for log-probabilities and [Model.Accumulate] for gradients, both over packed
// sequences without padding; rollouts sample through [Engine], which implements sampler.Sampler.
//
// The network is x ← x + Wo·attention(norm(x)), x ← x + Wd·(silu(Wg·h) ⊙ Wu·h) with h = norm(x),
// repeated, then a norm and logits against the embedding (tied head). norm is RMSNorm, queries and
// keys are normalised per head and rotated by position (RoPE), and several query heads share one
// key/value head (Qwen3 technical report, arXiv 2505.09388).
//
// The bits of a token's log-probability depend on the weights and on the tokens before it in its
// sequence, and on nothing else: every row is computed in a fixed order whatever shares the batch,
// from the cache or not, by any number of threads. So what the engine reports while it samples is
// what Score computes later, to the last bit.
//
// The package knows nothing of rewards, advantages or optimizers.
package policy
