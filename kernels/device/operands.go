package device

// Offsets says where the sequences of packed rows begin: sequence i is rows Host[i] … Host[i+1]−1.
type Offsets struct {
	// Host starts with 0 and never decreases. len = sequences + 1.
	Host []int32
	// Device holds the same numbers on the device; type I32.
	Device Buffer
}

// Sequences is the number of sequences.
func (o Offsets) Sequences() int { return max(0, len(o.Host)-1) }

// Rows is the number of rows of all sequences.
func (o Offsets) Rows() int {
	if len(o.Host) == 0 {
		return 0
	}
	return int(o.Host[len(o.Host)-1])
}

// Heads are the heads of packed rows on their way to attention.
type Heads struct {
	// X holds the heads side by side: head h of row i begins at X's row i, column h·Dim.
	X    Rows
	Rows int
	// Count is the number of heads, Dim their width, which is even.
	Count, Dim int
	// Positions is the position of each row in its sequence; type I32.
	Positions Buffer
	// Cos and Sin hold Dim/2 numbers for each position: the rotation of the pair (x[j], x[j+Dim/2]).
	Cos, Sin Buffer
	// Weight is the scale of the RMSNorm of each head before its rotation, Dim wide; absent when the
	// family has none.
	Weight Buffer
	// Roots receives the norms' reciprocal roots, rows × Count; absent without Weight.
	Roots Buffer
	Eps   float32
}

// Attended are the operands of attention over packed rows.
type Attended struct {
	// Q has Heads heads side by side in each row, K and V have KVHeads; query head h reads key head
	// h·KVHeads/Heads.
	Q, K, V        Rows
	Offsets        Offsets
	Heads, KVHeads int
	Dim            int
	Scale          float32
	// Kept is what Attend leaves for AttendBack of the same operands: rows × KeptWidth numbers, F32. Absent where
	// KeptWidth is 0, and where no AttendBack follows: then Attend keeps nothing.
	Kept Buffer
}

// PageTokens is the number of positions of one page.
const PageTokens = 32

// PageShape is the size of a cache.
type PageShape struct {
	// DType is the compute type of the keys and values.
	DType                DType
	Layers, KVHeads, Dim int
	// Pages is the number of pages, each of PageTokens positions in every layer.
	Pages int
}

// Bytes is the size of one page in all layers, keys and values.
func (s PageShape) Bytes() int64 {
	return 2 * int64(s.DType.Size()) * int64(s.Layers) * int64(s.KVHeads) * int64(s.Dim) * PageTokens
}

// Pages is a cache's memory. The order of elements within a page is the device's own.
type Pages interface {
	// Shape is what the cache was made with.
	Shape() PageShape
}

// Scored are the operands of the fused head.
type Scored struct {
	// X are the normalised hidden rows of Head's type, Head the matrix [vocabulary × hidden].
	X    Rows
	Rows int
	Head Weights
	// Matrix is what Head was made from; ScoreBack may need it.
	Matrix Buffer
	// Targets is the token whose log-probability is wanted in each row; type I32.
	Targets            Buffer
	InverseTemperature float32
	// LogProbs and Entropies receive one number a row, in nats.
	LogProbs, Entropies Buffer
	// Known tells ScoreBack that LogProbs and Entropies hold what Score has written for these rows and weights, so that a
	// device need not sum their logits again. Without it ScoreBack does not look at them.
	Known bool
}

// Sampling says how one row's token is chosen. The distribution is softmax(logits/Temperature), cut to
// the TopK likeliest tokens, then to the fewest likeliest tokens with a share of at least TopP, then
// to tokens at least MinP times as likely as the likeliest; each cut sees the result of the one before.
type Sampling struct {
	// Temperature divides the logits; 0 chooses the likeliest token, the first of equals.
	Temperature float32
	// TopK is the most tokens kept; 0 keeps all. Of equally likely tokens at the border, the smaller id stays.
	TopK int
	// TopP is the share kept, in (0, 1]; 1 keeps all.
	TopP float32
	// MinP is the least share of the likeliest token's probability, in [0, 1]; 0 keeps all.
	MinP float32
	// Uniform is the random number in [0, 1) at which the distribution's inverse is read, in order of
	// token ids.
	Uniform float64
}

// Draws are choices of tokens: how they are made, and which were made last. The zero Draws is ready for
// PlaceSampling. Where it keeps them on the device does not change while the vocabulary stays and rows do not become
// more than they ever were: what was recorded of Draw and of readers of Tokens may be replayed after another
// PlaceSampling of as many rows.
type Draws struct {
	// How says how each row's token is chosen; PlaceSampling copies it. len = rows.
	How []Sampling
	// Vocabulary is the number of logits of a row.
	Vocabulary int
	// Tokens are the tokens that Draw chose, for a Gather of the next pass to read; len = rows, type I32. A row without
	// a distribution has token 0 here, which every table has: the next pass runs, and Drawn tells.
	Tokens Buffer
	// Memory is the device's own, behind Tokens and what else it keeps.
	Memory Buffer
	// Chosen is where a device whose memory is the host's keeps the choices; nil on others.
	Chosen []Sampled
	// Fetched is the device's own: choices on their way to the host. See [Ahead].
	Fetched Memory
}

// Rows is the number of rows that have been placed.
func (d *Draws) Rows() int { return len(d.How) }

// Sampled is one row's choice.
type Sampled struct {
	// Token is −1, and the numbers are NaN, where the row has no distribution: where logits are not numbers,
	// or the largest is infinite. Weights have diverged then.
	Token int32
	// LogProb is after temperature and before any cut: what Score returns for the token at the same
	// temperature, to the last bit. At temperature 0 it is that at temperature 1.
	LogProb float32
	// SamplingLogProb is after temperature and cuts: of the distribution the token was drawn from. 0 at
	// temperature 0.
	SamplingLogProb float32
	// UntemperedLogProb is at temperature 1 and before any cut, with the bits of Score.
	UntemperedLogProb float32
	// Entropy is of the distribution of LogProb, in nats.
	Entropy float32
}

// AdamWStep is one step of AdamW on a tensor (Loshchilov and Hutter, arXiv 1711.05101):
//
//	m = β1·m + (1−β1)·g,  v = β2·v + (1−β2)·g²
//	w = (1−η·λ)·w − η·(m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + ε)
type AdamWStep struct {
	Param, Grad, M, V                                Buffer
	LearningRate, Beta1, Beta2, Epsilon, WeightDecay float32
	// BiasCorrection1 and 2 are 1−β1ᵗ and 1−β2ᵗ.
	BiasCorrection1, BiasCorrection2 float32
}
