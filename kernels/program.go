// Package kernels is arithmetic on flat arrays: the declarative loss [Program], the
// struct-of-arrays [Batch] it runs on, what an evaluation returns, and the [Arithmetic] that credit
// needs over whole batches.
//
// kernels/graph compiles a Program into a gorgonia expression graph and differentiates it;
// kernels/ref is the independent float64 oracle; kernels/device is what a transformer needs from
// hardware. Nothing here knows of tasks, rewards or methods.
//
// A Program is made of parts, one file each: an [Objective], [Correction] parts for what was sampled by
// another policy, [Mask] parts and [Regularizer] parts. The file of a part holds its settings, equation,
// source and limits; the tables list all parts by name.
package kernels

// Ratio is the granularity at which current and anchor log-probabilities are compared.
type Ratio string

const (
	RatioToken             Ratio = "token"              // each token by itself
	RatioTurn              Ratio = "turn"               // geometric mean over the turn's sampled tokens
	RatioSequenceGeometric Ratio = "sequence-geometric" // geometric mean over the sequence's sampled tokens
	RatioSequenceProduct   Ratio = "sequence-product"   // product over the sequence's sampled tokens
	RatioOne               Ratio = "one"                // no ratio: score-function gradient
)

// RatioGradient is where the gradient of a segment's ratio flows. A token's ratio knows no difference.
type RatioGradient string

const (
	GradientOwn     RatioGradient = "own"     // each token's loss moves that token alone, as in verl's GSPO
	GradientSegment RatioGradient = "segment" // through the mean or sum, to every token of the segment, as in AReaL
)

// Anchor is the policy in the denominator of the ratio; no gradient flows through it. The last two approximate the
// proximal policy, one version before the current one, from the policy that sampled a token. With v_b the token's
// version and v_θ the batch's:
//
//	α = clip((v_θ − 1 − v_b) / (v_θ − v_b), 0, 1), 0 where v_b ≥ v_θ
//	loglinear: log π_p = log μ + α·(log π − log μ)    linear: π_p = μ + α·(π − μ)
//
// areal/utils/functional/functional.py.
type Anchor string

const (
	AnchorProximal  Anchor = "proximal"  // the trainer's log-probabilities at step start
	AnchorBehavior  Anchor = "behavior"  // the engine's log-probabilities
	AnchorLogLinear Anchor = "loglinear" // between behavior and current in log-probability, by versions (AReaL)
	AnchorLinear    Anchor = "linear"    // between behavior and current in probability, by versions (AReaL)
)

// Aggregation turns token losses into one scalar. Denominators are global: they come from [Totals].
type Aggregation string

const (
	TokenMean            Aggregation = "token-mean"          // mean over all tokens of the update
	TokenSum             Aggregation = "token-sum"           // sum over all tokens
	WeightedMean         Aggregation = "weighted-mean"       // sum over all tokens, divided by the sum of their loss weights
	SequenceMeanTokenSum Aggregation = "seq-mean-token-sum"  // mean over sequences of sum over tokens
	SequenceMeanTokenAvg Aggregation = "seq-mean-token-mean" // mean over sequences of mean over tokens
	SequenceSumConst     Aggregation = "seq-sum-const"       // sum over tokens, divided by AggregateConst
	StepMean             Aggregation = "step-mean"           // mean over sequences of mean over turns of mean over tokens
)

// Rejected says what tokens that a mask or an off-policy rule rejects do to the denominators of the objective.
// Regularizers are not masked and count all sampled tokens either way.
type Rejected string

const (
	// RejectedStay counts rejected tokens in the denominators, so that rejection never inflates the
	// tokens that survive.
	RejectedStay Rejected = "stay"
	// RejectedLeave takes rejected tokens, and sequences without any other token, out of the denominators.
	RejectedLeave Rejected = "leave"
)

// Program is a loss: what is computed from a batch of token streams. It is a plain value that prints as
// its settings; two programs that print alike are the same loss.
//
//	Σ_t share_t·( keep_t·weight_t·w_t·L_t ) + Σ_j regularizer_j
//
// L is the objective, w the loss weight, keep the masks, weight the off-policy weights, share the
// aggregation. Keep and weight are detached. An objective of pairs or groups has no token losses: share, keep,
// weight and w do not enter it.
type Program struct {
	// Ratio is the granularity of the ratio.
	Ratio Ratio `yaml:"ratio" json:"ratio"`
	// RatioGradient is where the gradient of a segment's ratio flows. Default own.
	RatioGradient RatioGradient `yaml:"ratio_gradient" json:"ratio_gradient"`
	// Anchor is the policy the ratio divides by.
	Anchor Anchor `yaml:"anchor" json:"anchor"`
	// Objective is the loss of a token, a pair or a group of sequences.
	Objective Objective `yaml:"objective" json:"objective"`
	// OffPolicy weigh and reject what another policy sampled, in order. Default none.
	OffPolicy []Correction `yaml:"off_policy" json:"off_policy"`
	// Mask takes tokens out of the objective, in order. Default none.
	Mask []Mask `yaml:"mask" json:"mask"`
	// Rejected says what rejected tokens do to the denominators. Default stay.
	Rejected Rejected `yaml:"rejected" json:"rejected"`
	// Aggregate turns token losses into the scalar.
	Aggregate Aggregation `yaml:"aggregate" json:"aggregate"`
	// AggregateConst is the divisor of seq-sum-const; unused otherwise.
	AggregateConst float64 `yaml:"aggregate_const" json:"aggregate_const"`
	// Regularizers are added to the loss. Default none.
	Regularizers []Regularizer `yaml:"regularizers" json:"regularizers"`
}

// LogRatioBound clamps a log-ratio before exponentiation, as every trainer compared in the
// reference vectors that guards against overflow does.
const LogRatioBound = 20.0

// Objective is what a Program minimises.
type Objective interface {
	// Reads are the streams the objective needs beside the log-probabilities and those of the ratio.
	Reads() Stream
	// UsesRatio is false when the objective ignores the ratio; the Program's ratio is then one.
	UsesRatio() bool
	// Scope is which tokens have to be evaluated together.
	Scope() Scope
}

// Correction makes up for the difference between the policy that sampled and the one that trains. With
// the drift
//
//	x = log π_θ − log μ    (anchor behavior);    x = log π_p − log μ    (otherwise, π_p the anchor)
//
// limited to ±[LogRatioBound] and detached, it gives every token a weight; a weight of 0 rejects it. A sum of x over a
// sequence is limited to ±LogRatioBound again before it is exponentiated. Every correction looks at all sampled tokens,
// those that others reject included.
type Correction interface {
	// Scope is which tokens have to be evaluated together.
	Scope() Scope
	// Weighs is false when the weight is only ever 0 or 1.
	Weighs() bool
}

// Mask rejects tokens by what the current policy makes of them.
type Mask interface {
	// Reads are the streams the mask needs.
	Reads() Stream
	// Scope is which tokens have to be evaluated together.
	Scope() Scope
}

// Regularizer is a term of the loss beside the objective.
type Regularizer interface {
	// Reads are the streams the term needs.
	Reads() Stream
}

// Scope is which tokens have to be evaluated together for the loss to be right.
type Scope int

const (
	// OneSequence: the loss is a sum over sequences, whatever the micro-batches.
	OneSequence Scope = iota
	// WholeUpdate: pairs, ranks or quantiles join the sequences of an update, so that it is evaluated in
	// one piece.
	WholeUpdate
)

// Variant is one row of a table of parts: what a name in a method file stands for.
type Variant struct {
	// Name is the value of the part's `type` key.
	Name string
	// Doc says in one sentence what the part computes.
	Doc string
	// Cite is the source of the equation; "" for what needs none.
	Cite string
	// New returns the part, as a value, with its default settings.
	New func() any
}
