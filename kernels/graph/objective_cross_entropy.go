package graph

// crossEntropy is L = −log π.
func crossEntropy(b *builder, in inputs) terms { return terms{loss: b.neg(in.logProbs)} }
