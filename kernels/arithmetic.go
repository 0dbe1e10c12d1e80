package kernels

// Arithmetic is what credit computes over whole batches: statistics of comparison sets, discounted
// returns, advantages of a critic, whitening. All in float64. kernels/graph computes it with the operations
// the losses are made of, kernels/ref one value after another.
type Arithmetic interface {
	// Moments returns each segment's mean and its mean squared deviation from it (the population variance).
	// Segment i is values[bounds[i]:bounds[i+1]], not empty.
	Moments(values []float64, bounds []int32) (mean, variance []float64, err error)
	// Returns are discounted sums of rewards to come, per sequence of tokens: with counted all true
	// G_t = r_t + discount·G_{t+1}. between says what tokens that are not counted do; results there are 0.
	Returns(r Scan, discount float64) ([]float64, error)
	// GAE returns δ_t + discount·lambda·A_{t+1} with δ_t = r_t + discount·v_{t+1} − v_t; 0 where not counted.
	// values has one entry per token. Schulman et al., arXiv 1506.02438, eq. 16.
	GAE(r Scan, values []float64, discount, lambda float64) ([]float64, error)
	// Whiten returns (x − mean)/√(var + epsilon) over counted values, var with n−1; 0 elsewhere. With fewer than two
	// counted values they stay as they are; with variance and epsilon 0 they are 0.
	Whiten(values []float64, counted []bool, epsilon float64) ([]float64, error)
}

// Scan is a reverse pass over token rewards.
type Scan struct {
	// Rewards has one entry per token.
	Rewards []float64
	// Bounds are the sequences: sequence i is [Bounds[i], Bounds[i+1]).
	Bounds []int32
	// Counted is true at the policy's tokens. len = tokens.
	Counted []bool
	// Between is what the other tokens do to a pass.
	Between Between
}

// Between is what happens to a reverse pass at tokens the policy did not sample.
type Between string

const (
	// BetweenSkip carries the next value and sum over them unchanged: no time passes (verl, NeMo, AReaL).
	BetweenSkip Between = "skip"
	// BetweenPlain treats them like any other token: time passes, and their rewards and values count (slime, ROLL;
	// SkyRL for GAE).
	BetweenPlain Between = "plain"
	// BetweenReset starts anew at them: nothing earned later reaches earlier turns (SkyRL for REINFORCE++).
	BetweenReset Between = "reset"
	// BetweenZero treats them like any other token with reward and value 0 (OpenRLHF).
	BetweenZero Between = "zero"
)

// Betweens lists every rule.
var Betweens = []Between{BetweenSkip, BetweenPlain, BetweenReset, BetweenZero}
