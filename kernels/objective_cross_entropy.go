package kernels

// CrossEntropy imitates: L = −log π at every sampled token. Loss weights weigh tokens; with aggregate
// weighted-mean it is Σ w·(−log π) / Σ w.
type CrossEntropy struct{}

// Reads are the streams the objective needs.
func (CrossEntropy) Reads() Stream { return 0 }

// UsesRatio is false.
func (CrossEntropy) UsesRatio() bool { return false }

// Scope is one sequence.
func (CrossEntropy) Scope() Scope { return OneSequence }
