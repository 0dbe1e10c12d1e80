package kernels

// ValueLoss is how far a value is from its target.
type ValueLoss string

const (
	ValueSquared ValueLoss = "squared" // e²/2
	ValueHuber   ValueLoss = "huber"   // e²/2 up to Delta, Delta·(|e| − Delta/2) beyond
)

// ValueLosses lists every value loss.
var ValueLosses = []ValueLoss{ValueSquared, ValueHuber}

// Value adds the critic's loss, averaged over the update's sampled tokens whatever the aggregation:
//
//	Coef·½·max((v − G)², (clip(v, v_old ± Clip) − G)²)
//
// v is the value head's output, v_old the one at step start, G the return. Without Clip only the first. PPO2; verl
// core_algos.py, compute_value_loss; Huber as in AReaL.
type Value struct {
	// Coef multiplies it. Default 0.5.
	Coef float64 `yaml:"coef" json:"coef"`
	// Clip bounds the change of a value since the step began; 0 turns it off. Default 0.2.
	Clip float64 `yaml:"clip" json:"clip"`
	// Loss is the distance. Default squared.
	Loss ValueLoss `yaml:"loss" json:"loss"`
	// Delta is where Huber's loss becomes linear; unused otherwise. Default 10.
	Delta float64 `yaml:"delta" json:"delta"`
}

// NewValue returns Value with its defaults.
func NewValue() Value { return Value{Coef: 0.5, Clip: 0.2, Loss: ValueSquared, Delta: 10} }

// Reads are the values, old and new, and their targets.
func (v Value) Reads() Stream {
	if v.Clip > 0 {
		return ReadsValues | ReadsOldValues | ReadsReturns
	}
	return ReadsValues | ReadsReturns
}

// Validate reports settings that are unknown or out of range.
func (v Value) Validate() error {
	if err := oneOf("loss", v.Loss, ValueLosses); err != nil {
		return err
	}
	if err := notNegative("coef", v.Coef); err != nil {
		return err
	}
	if err := notNegative("clip", v.Clip); err != nil {
		return err
	}
	return positive("delta", v.Delta)
}
