package kernels

// TOPR reinforces what succeeded as it is and what failed by no more than its ratio. With R the
// sequence's outcome and ρ the ratio at the Program's granularity (sequence-product in the paper),
//
//	L = −sg[w]·A·log π,  w = 1 where R ≥ 0, clip(ρ, 0, 1) where R < 0
//
// TOPR, arXiv 2503.14286, eq. 8.
type TOPR struct{}

// Reads are the streams the objective needs.
func (TOPR) Reads() Stream { return ReadsAdvantages | ReadsOutcomes }

// UsesRatio is true.
func (TOPR) UsesRatio() bool { return true }

// Scope is one sequence.
func (TOPR) Scope() Scope { return OneSequence }
