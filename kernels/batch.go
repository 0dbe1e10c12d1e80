package kernels

// Float is an element type of a batch: float64 for commands that must agree with reference vectors
// to 1e-6, float32 in training.
type Float interface{ ~float32 | ~float64 }

// Batch is token streams of several sequences laid end to end. A token stream has one value per token
// (len = Offsets[len(Offsets)-1]), a sequence stream one per sequence; nil means the stream is absent,
// which is an error when the Program needs it.
type Batch[T Float] struct {
	// Offsets bound the sequences: sequence i is [Offsets[i], Offsets[i+1]). len = sequences + 1.
	Offsets []int32
	// Sampled is true at tokens that take part in the loss. Values elsewhere are ignored, NaN included.
	Sampled []bool
	// Turn is the index of a token's turn within its sequence, −1 where Sampled is false.
	Turn []int32

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
	// Values are the value head's current outputs, also differentiated.
	Values []T
	// OldValues are the value head's outputs at step start.
	OldValues []T
	// Returns are the targets of Values.
	Returns []T
	// Advantages are constants.
	Advantages []T
	// LossWeights multiply the objective; nil means 1.
	LossWeights []T
	// CEWeights weigh auxiliary imitation; ReferenceKLWeights a divergence from the reference policy.
	CEWeights, ReferenceKLWeights []T
	// Versions is the policy version that sampled each token.
	Versions []int32
	// Version is the current policy's version; of meaning beside Versions.
	Version int32

	// Pair joins a chosen and a rejected sequence, which have the same number ≥ 0; −1 is unpaired.
	// Chosen says which is which. A sequence stream each.
	Pair   []int32
	Chosen []bool
	// Group numbers the sequences that are ranked against each other by RankScores; nil means that all
	// are. A sequence stream each.
	Group      []int32
	RankScores []T
	// Outcomes are the sequences' outcome rewards. A sequence stream.
	Outcomes []T
	// ClipHigh is each sequence's own upper clip bound, in the place of ClipHigh of clip, clip_keep and clip_cov; nil
	// means the Program's. A sequence stream.
	ClipHigh []T
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
	// LossWeight, CEWeight and ReferenceKLWeight sum the streams of those names over sampled tokens; without
	// loss weights LossWeight is Tokens.
	LossWeight, CEWeight, ReferenceKLWeight float64
}

// Count returns the totals of one batch.
func Count[T Float](b Batch[T]) Totals {
	var totals Totals
	for i := 0; i < b.Sequences(); i++ {
		tokens := 0
		for t := b.Offsets[i]; t < b.Offsets[i+1]; t++ {
			if !b.Sampled[t] {
				continue
			}
			tokens++
			if b.LossWeights != nil {
				totals.LossWeight += float64(b.LossWeights[t])
			}
			if b.CEWeights != nil {
				totals.CEWeight += float64(b.CEWeights[t])
			}
			if b.ReferenceKLWeights != nil {
				totals.ReferenceKLWeight += float64(b.ReferenceKLWeights[t])
			}
		}
		totals.Tokens += tokens
		if tokens > 0 {
			totals.Sequences++
		}
	}
	if b.LossWeights == nil {
		totals.LossWeight = float64(totals.Tokens)
	}
	return totals
}

// Add returns the sum of two totals.
func (t Totals) Add(other Totals) Totals {
	return Totals{
		Tokens: t.Tokens + other.Tokens, Sequences: t.Sequences + other.Sequences, LossWeight: t.LossWeight + other.LossWeight,
		CEWeight: t.CEWeight + other.CEWeight, ReferenceKLWeight: t.ReferenceKLWeight + other.ReferenceKLWeight,
	}
}

// Result is one evaluation of a Program on a batch.
type Result[T Float] struct {
	// Loss is this batch's share of the scalar loss: shares of micro-batches add up.
	Loss float64
	// DLogProbs is dLoss/dLogProbs. len = tokens, 0 where Sampled is false.
	DLogProbs []T
	// DEntropy is dLoss/dEntropy; nil when the Program does not use the entropy. len = tokens.
	DEntropy []T
	// DValues is dLoss/dValues; nil when the Program has no critic. len = tokens.
	DValues []T
	// Metrics describe the batch.
	Metrics Metrics
}

// Metrics are sums over the sampled tokens of a batch, so that micro-batches add up.
type Metrics struct {
	// Tokens counts sampled tokens.
	Tokens float64 `json:"tokens"`
	// Kept counts tokens that no mask and no off-policy part rejects.
	Kept float64 `json:"kept"`
	// Clipped counts tokens, rejected ones included, that a bound of the objective changes the loss of: beyond the clip
	// bounds on the side that the advantage makes matter (clip, clip_keep, clip_cov), weighted by a bound (cispo, topr), with
	// a limited log-ratio (gmpo), dropped (dppo, distill). 0 for the others, and where the advantage is 0.
	Clipped float64 `json:"clipped"`
	// RatioSum sums the ratios; with ratio one it is Tokens.
	RatioSum float64 `json:"ratio_sum"`
	// WeightSum sums the off-policy weights of the kept tokens; equal to Kept when no part weighs.
	WeightSum float64 `json:"weight_sum"`
	// BehaviorK3Sum sums the k3 estimate of KL(behavior‖current); 0 when Behavior is absent.
	BehaviorK3Sum float64 `json:"behavior_k3_sum"`
	// ReferenceKLSum sums the Program's divergence from the reference policy: the estimate of kl, plus that of
	// reference_kl times its weights.
	ReferenceKLSum float64 `json:"reference_kl_sum"`
	// EntropySum sums the entropies; 0 when Entropy is absent.
	EntropySum float64 `json:"entropy_sum"`
	// ValueErrorSum sums (v − G)²; 0 when the Program has no critic.
	ValueErrorSum float64 `json:"value_error_sum"`
	// Pairs counts the pairs of sequences that the objective compares (for rank, those with different scores); Ordered
	// those whose better sequence has the larger margin.
	Pairs   float64 `json:"pairs"`
	Ordered float64 `json:"ordered"`
}

// Add accumulates another batch's sums.
func (m *Metrics) Add(other Metrics) {
	m.Tokens += other.Tokens
	m.Kept += other.Kept
	m.Clipped += other.Clipped
	m.RatioSum += other.RatioSum
	m.WeightSum += other.WeightSum
	m.BehaviorK3Sum += other.BehaviorK3Sum
	m.ReferenceKLSum += other.ReferenceKLSum
	m.EntropySum += other.EntropySum
	m.ValueErrorSum += other.ValueErrorSum
	m.Pairs += other.Pairs
	m.Ordered += other.Ordered
}
