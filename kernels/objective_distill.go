package kernels

// Distill moves the policy towards the reference policy: the advantage is sg[log π_ref − log π],
//
//	L = −keep·sg[log π_ref − log π]·ρ,  keep = 0 where π − π_anchor < −DropBelow
//
// prime-rl trainer/rl/loss.py, ref_kl.
type Distill struct {
	// DropBelow is how far a token's probability may fall before it is dropped. Default 0.2.
	DropBelow float64 `yaml:"drop_below" json:"drop_below"`
}

// Reads are the streams the objective needs.
func (Distill) Reads() Stream { return ReadsReference }

// UsesRatio is true.
func (Distill) UsesRatio() bool { return true }

// Scope is one sequence.
func (Distill) Scope() Scope { return OneSequence }

// Validate reports a bound that is negative.
func (d Distill) Validate() error { return notNegative("drop_below", d.DropBelow) }
