package weight

// WritesCEWeights is true when the weights are those of the auxiliary cross-entropy.
func (w Imitate) WritesCEWeights() bool { return w.Stream == StreamCE }

// WritesReferenceKLWeights is true.
func (Distill) WritesReferenceKLWeights() bool { return true }

// BoundsClip is true.
func (TrustClip) BoundsClip() bool { return true }
