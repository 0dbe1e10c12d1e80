package kernels

// Divergence is an estimator of KL(π‖reference) from the two log-probabilities of a token. With a plus it has the
// value of the estimator and the gradient of k2, which is that of the true divergence.
type Divergence string

const (
	KLK1      Divergence = "k1"   // −log r, where r is reference over current: unbiased, either sign
	KLK2      Divergence = "k2"   // (log r)²/2: biased, never negative
	KLK3      Divergence = "k3"   // r − 1 − log r: unbiased, never negative
	KLAbs     Divergence = "abs"  // |log r|
	KLK1Plus  Divergence = "k1+"  // k1 with k2's gradient
	KLK3Plus  Divergence = "k3+"  // k3 with k2's gradient
	KLAbsPlus Divergence = "abs+" // abs with k2's gradient
)

// Divergences lists every estimator.
var Divergences = []Divergence{KLK1, KLK2, KLK3, KLAbs, KLK1Plus, KLK3Plus, KLAbsPlus}

// KL adds Coef times an estimate of KL(π‖reference), aggregated like the objective and not masked with it. With
// d = log π − log π_ref limited to ±Clamp:
//
//	k1 = d    k2 = d²/2    k3 = e^−d + d − 1, limited to ±Bound    abs = |d|
//
// k1 and k2 and abs are not limited, and neither is the gradient d of the estimators with a plus; where a limit of k3 holds
// its gradient is 0. Schulman, "Approximating KL divergence"; limits as in verl's core_algos.py.
type KL struct {
	// Estimator of the divergence. Default k3.
	Estimator Divergence `yaml:"estimator" json:"estimator"`
	// Coef multiplies it. Default 0.001.
	Coef float64 `yaml:"coef" json:"coef"`
	// Clamp limits the log-ratio inside k3; 0 turns it off. Default 20.
	Clamp float64 `yaml:"clamp" json:"clamp"`
	// Bound limits k3; 0 turns it off. Default 10.
	Bound float64 `yaml:"bound" json:"bound"`
}

// NewKL returns KL with its defaults.
func NewKL() KL { return KL{Estimator: KLK3, Coef: 0.001, Clamp: LogRatioBound, Bound: 10} }

// Reads is the reference policy.
func (KL) Reads() Stream { return ReadsReference }

// Validate reports settings that are unknown or out of range.
func (k KL) Validate() error {
	if err := oneOf("estimator", k.Estimator, Divergences); err != nil {
		return err
	}
	if err := notNegative("coef", k.Coef); err != nil {
		return err
	}
	if err := notNegative("clamp", k.Clamp); err != nil {
		return err
	}
	return notNegative("bound", k.Bound)
}
