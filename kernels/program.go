// Package kernels is arithmetic on flat arrays: the declarative loss [Program], the
// struct-of-arrays [Batch] it runs on, and what an evaluation returns.
//
// kernels/graph compiles a Program into a gorgonia expression graph and differentiates it;
// kernels/ref is the independent float64 oracle; kernels/device is what a transformer needs from
// hardware. Nothing here knows of tasks, rewards or methods.
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

// Anchor is the policy in the denominator of the ratio.
type Anchor string

const (
	AnchorProximal Anchor = "proximal" // the trainer's log-probabilities at step start
	AnchorBehavior Anchor = "behavior" // the engine's log-probabilities
)

// Objective is the per-token surrogate.
type Objective string

const (
	ObjectiveClip      Objective = "clip"      // PPO's clipped surrogate, with dual clip when DualClip > 0
	ObjectiveReinforce Objective = "reinforce" // −A·log π
)

// Aggregation turns token losses into one scalar. Denominators are global: they come from [Totals].
type Aggregation string

const (
	TokenMean            Aggregation = "token-mean"          // mean over all tokens of the step
	SequenceMeanTokenSum Aggregation = "seq-mean-token-sum"  // mean over sequences of sum over tokens
	SequenceMeanTokenAvg Aggregation = "seq-mean-token-mean" // mean over sequences of mean over tokens
	SequenceSumConst     Aggregation = "seq-sum-const"       // sum over tokens, divided by AggregateConst
	StepMean             Aggregation = "step-mean"           // mean over sequences of mean over turns of mean over tokens
)

// Divergence is an estimator of KL(π‖reference) from the two log-probabilities of a token.
type Divergence string

const (
	KLNone Divergence = "none" // no divergence term
	KLK1   Divergence = "k1"   // −log r, where r is reference over current: unbiased, either sign
	KLK2   Divergence = "k2"   // (log r)²/2: biased, never negative
	KLK3   Divergence = "k3"   // r − 1 − log r: unbiased, never negative
)

// Program is a loss: what is computed from a batch of token streams. It is a plain comparable value
// and prints as its settings.
type Program struct {
	// Ratio is the granularity of the ratio.
	Ratio Ratio `yaml:"ratio" json:"ratio"`
	// Anchor is the policy the ratio divides by.
	Anchor Anchor `yaml:"anchor" json:"anchor"`
	// Objective is the per-token surrogate.
	Objective Objective `yaml:"objective" json:"objective"`
	// ClipLow and ClipHigh bound the ratio to [1−ClipLow, 1+ClipHigh].
	ClipLow  float64 `yaml:"clip_low" json:"clip_low"`
	ClipHigh float64 `yaml:"clip_high" json:"clip_high"`
	// DualClip bounds the loss of a token with negative advantage to −A·DualClip; 0 turns it off, else > 1.
	DualClip float64 `yaml:"dual_clip" json:"dual_clip"`
	// Aggregate turns token losses into the scalar.
	Aggregate Aggregation `yaml:"aggregate" json:"aggregate"`
	// AggregateConst is the divisor of seq-sum-const; unused otherwise.
	AggregateConst float64 `yaml:"aggregate_const" json:"aggregate_const"`
	// KL is the estimator of the divergence from the reference policy added to the loss.
	KL Divergence `yaml:"kl" json:"kl"`
	// KLCoef multiplies it.
	KLCoef float64 `yaml:"kl_coef" json:"kl_coef"`
	// EntropyCoef multiplies the entropy bonus, which is subtracted from the loss.
	EntropyCoef float64 `yaml:"entropy_coef" json:"entropy_coef"`
}

// LogRatioBound clamps a log-ratio before exponentiation, as every trainer compared in the
// reference vectors that guards against overflow does.
const LogRatioBound = 20.0
