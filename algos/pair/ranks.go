package pair

// Ranks is true: it gives scores to rank by, not pairs.
func (Rank) Ranks() bool { return true }
