package kernels

// DRO fits the log-ratio to the advantage, without importance weights. With d = log π − log π_anchor,
//
//	L = −A·log π + Beta/2·d²
//
// d is not limited, as nothing is exponentiated. DRO, arXiv 2405.19107; verl core_algos.py.
type DRO struct {
	// Beta weighs the penalty. Default 0.05.
	Beta float64 `yaml:"beta" json:"beta"`
}

// Reads are the streams the objective needs.
func (DRO) Reads() Stream { return ReadsAdvantages }

// UsesRatio is true.
func (DRO) UsesRatio() bool { return true }

// Scope is one sequence.
func (DRO) Scope() Scope { return OneSequence }

// Validate reports a beta that is not positive.
func (d DRO) Validate() error { return positive("beta", d.Beta) }
