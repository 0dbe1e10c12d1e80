package kernels

// IPO fits the margin per token to a target. With z = mean_t (log π − log π_ref) over the sampled tokens of
// a sequence,
//
//	L = (z_chosen − z_rejected − 1/(2·Beta))²
//
// averaged over pairs. IPO, arXiv 2310.12036, eq. 17; the mean per token as in AReaL.
type IPO struct {
	// Beta is the strength of the pull towards the reference policy. Default 0.1.
	Beta float64 `yaml:"beta" json:"beta"`
}

// Reads are the streams the objective needs.
func (IPO) Reads() Stream { return ReadsReference | ReadsPairs }

// UsesRatio is false.
func (IPO) UsesRatio() bool { return false }

// Scope is the whole update.
func (IPO) Scope() Scope { return WholeUpdate }

// Validate reports a beta that is not positive.
func (i IPO) Validate() error { return positive("beta", i.Beta) }
