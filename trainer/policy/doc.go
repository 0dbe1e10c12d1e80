// Package policy is the policy network: decoder-only transformers of the families Llama, Qwen2 and
// Qwen3 over a device's operations, with their hand-derived gradient.
//
// [New] makes a network from a [Config], [LoadFolder] reads a Hugging Face checkpoint. A learner calls
// [Model.Score] for log-probabilities and [Model.Accumulate] for gradients, both over packed sequences
// without padding. It changes weights by an optimizer's step, which may write what products read of them too ([Model.Forms],
// [Model.Rejoin]), or calls [Model.Refresh] afterwards. [Model.Share] gives the weights of a moment to a
// [Network], whose [Network.Extend] is one pass of decoding over a paged cache; package decode schedules such passes.
// Where the device can record, a pass of one new row of each sequence is recorded when several of its kind were met, and replayed
// from then on: see [Queued].
//
// The network is x ← x + Wo·attention(norm(x)), x ← x + Wd·(silu(Wg·h) ⊙ Wu·h) with h = norm(x),
// repeated, then a norm and logits against the embedding or a matrix of its own. norm is RMSNorm,
// queries and keys are rotated by position (RoPE), several query heads share one key/value head, and
// families differ in whether queries and keys are normalised per head and where there is a bias. LoRA
// adapters and a value head are options.
//
// Passes compute in float32 or, on a device that supports it, in bf16 (Options.Compute). Activations, cached keys
// and values, and what products read of the weights then have that type; weights, gradients, statistics and
// scores stay float32, and so does what is saved. Options.Stored keeps matrices in bf16 too, for products to read as they are.
//
// On an exact device the bits of a token's log-probability depend on the weights, on the compute type and on the
// tokens before it in its sequence, and on nothing else: every row is computed in a fixed order whatever shares the batch,
// from a cache or not, by any number of threads. So what decoding reports is what Score computes later,
// to the last bit.
//
// The package knows nothing of rewards or optimizers, and of hardware only what package device says.
package policy
