package kernels

// OwnBound is the objective's upper clip bound and whether a sequence's own, the batch's clip_high, may take its
// place.
func (p Program) OwnBound() (high float64, ok bool) {
	switch o := p.Objective.(type) {
	case Clip:
		return o.ClipHigh, true
	case ClipKeep:
		return o.ClipHigh, true
	case ClipCov:
		return o.ClipHigh, true
	}
	return 0, false
}
