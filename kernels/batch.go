package kernels

// Float is an element type of a batch: float64 for commands that must agree with reference vectors
// to 1e-6, float32 in training.
type Float interface{ ~float32 | ~float64 }

// Batch is token streams of several sequences laid end to end. Every stream has one value per token
// (len = Offsets[len(Offsets)-1]); nil means the stream is absent, which is an error when the
// Program needs it.
type Batch[T Float] struct {
	// Offsets bound the sequences: sequence i is [Offsets[i], Offsets[i+1]). len = sequences + 1.
	Offsets []int32
	// LogProbs are the current policy's log-probabilities, the variable being differentiated.
	LogProbs []T
	// Proximal are the trainer's log-probabilities at step start.
	Proximal []T
	// Behavior are the sampling engine's log-probabilities.
	Behavior []T
	// Reference are the frozen reference policy's log-probabilities.
	Reference []T
	// Entropy is the current policy's entropy at each token, also differentiated.
	Entropy []T
	// Advantages are constants.
	Advantages []T
	// LossWeights multiply the policy loss; nil means 1.
	LossWeights []T
	// Sampled is true at tokens that take part in the loss. Values elsewhere are ignored, NaN included.
	Sampled []bool
	// Turn is the index of a token's turn within its sequence, −1 where Sampled is false.
	Turn []int32
}

// Tokens is the number of tokens of all sequences.
func (b Batch[T]) Tokens() int {
	if len(b.Offsets) == 0 {
		return 0
	}
	return int(b.Offsets[len(b.Offsets)-1])
}

// Sequences is the number of sequences.
func (b Batch[T]) Sequences() int { return max(0, len(b.Offsets)-1) }

// Totals are the denominators of a whole update, counted before it is cut into micro-batches so
// that cutting does not change the loss.
type Totals struct {
	// Tokens counts sampled tokens.
	Tokens int
	// Sequences counts sequences with at least one sampled token.
	Sequences int
}

// Count returns the totals of one batch.
func Count[T Float](b Batch[T]) Totals {
	var totals Totals
	for i := 0; i < b.Sequences(); i++ {
		tokens := 0
		for t := b.Offsets[i]; t < b.Offsets[i+1]; t++ {
			if b.Sampled[t] {
				tokens++
			}
		}
		totals.Tokens += tokens
		if tokens > 0 {
			totals.Sequences++
		}
	}
	return totals
}

// Add returns the sum of two totals.
func (t Totals) Add(other Totals) Totals {
	return Totals{Tokens: t.Tokens + other.Tokens, Sequences: t.Sequences + other.Sequences}
}

// Result is one evaluation of a Program on a batch.
type Result[T Float] struct {
	// Loss is this batch's share of the scalar loss: shares of micro-batches add up.
	Loss float64
	// DLogProbs is dLoss/dLogProbs. len = tokens, 0 where Sampled is false.
	DLogProbs []T
	// DEntropy is dLoss/dEntropy; nil when the Program does not use the entropy. len = tokens.
	DEntropy []T
	// Metrics describe the batch.
	Metrics Metrics
}

// Metrics are sums over the sampled tokens of a batch, so that micro-batches add up.
type Metrics struct {
	// Tokens counts sampled tokens.
	Tokens float64 `json:"tokens"`
	// Clipped counts tokens whose surrogate is clipped.
	Clipped float64 `json:"clipped"`
	// RatioSum sums the ratios.
	RatioSum float64 `json:"ratio_sum"`
	// BehaviorK3Sum sums the k3 estimate of KL(behavior‖current); 0 when Behavior is absent.
	BehaviorK3Sum float64 `json:"behavior_k3_sum"`
	// ReferenceKLSum sums the Program's divergence from the reference policy.
	ReferenceKLSum float64 `json:"reference_kl_sum"`
	// EntropySum sums the entropies; 0 when Entropy is absent.
	EntropySum float64 `json:"entropy_sum"`
}

// Add accumulates another batch's sums.
func (m *Metrics) Add(other Metrics) {
	m.Tokens += other.Tokens
	m.Clipped += other.Clipped
	m.RatioSum += other.RatioSum
	m.BehaviorK3Sum += other.BehaviorK3Sum
	m.ReferenceKLSum += other.ReferenceKLSum
	m.EntropySum += other.EntropySum
}
