package kernels

// TIS weighs a token by how much likelier the trainer finds it than the sampler did:
//
//	token: w = min(e^x, Cap)    sequence: w = min(e^{Σ x}, Cap)    sequence-geometric: w = min(e^{mean x}, Cap)
//
// verl rollout_corr_helper.py.
type TIS struct {
	// Level is what one weight belongs to. Default token.
	Level CorrectionLevel `yaml:"level" json:"level"`
	// Cap bounds the weight from above. Default 2.
	Cap float64 `yaml:"cap" json:"cap"`
	// Normalize divides the weights by their mean over the update. Default none.
	Normalize Normalization `yaml:"normalize" json:"normalize"`
}

// Normalization says over what weights have mean 1.
type Normalization string

const (
	NormalizeNone      Normalization = "none"      // not divided
	NormalizeTokens    Normalization = "tokens"    // by the mean over all of the update's sampled tokens
	NormalizeSequences Normalization = "sequences" // by the mean over its sequences, of each one's first sampled token
)

// Normalizations lists every normalisation.
var Normalizations = []Normalization{NormalizeNone, NormalizeTokens, NormalizeSequences}

// Scope is the whole update when weights are normalised.
func (c TIS) Scope() Scope {
	if c.Normalize == NormalizeTokens || c.Normalize == NormalizeSequences {
		return WholeUpdate
	}
	return OneSequence
}

// Weighs is true.
func (TIS) Weighs() bool { return true }

// Validate reports settings that are unknown or out of range.
func (c TIS) Validate() error {
	if err := oneOf("level", c.Level, CorrectionLevels); err != nil {
		return err
	}
	if err := oneOf("normalize", c.Normalize, Normalizations); err != nil {
		return err
	}
	return positive("cap", c.Cap)
}
