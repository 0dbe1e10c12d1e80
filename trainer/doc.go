// Package trainer turns token streams into the next policy version.
//
// A [Learner] owns the policy network and its optimizer. It is blind to methods: it reads
// [Sequence] values, which carry one advantage per token, and a loss program, and makes optimizer
// updates. Supervised imitation is the same path with an advantage of one and no ratio.
package trainer
