// Package trainer turns token streams into the next policy version.
//
// A [Learner] owns the policy network and its optimizer. It is blind to methods: it reads [Sequence] values,
// which carry the streams that credit gave, and a loss program, and makes optimizer updates. Policy gradients,
// critics, preference pairs, ranks and imitation go the same way: the network scores tokens, the program is
// evaluated and differentiated, the derivatives go back. [Learner.Annotate] writes what credit itself reads of
// the networks.
package trainer
