// Package algos turns groups of trajectories into token-aligned streams: it is where credit is given.
//
// A [Method] is a composition of named parts, one package per kind of part: outcome and turnreward
// give rewards, shape edits them, filter drops what must not be trained, credit spreads rewards over
// turns, advantage compares and mixes. [Method.Streams] runs them in that order; it is a pure function
// of the groups. [Presets] are the methods that come with the program and [Tables] list every part.
//
// A new part is one file with one struct: its exported fields are its settings, its yaml tags their
// names, and a row in its package's Table its name, equation, citation and defaults. The package
// refuses to know of log-probabilities and gradients: the loss is a [kernels.Program] that the method
// only carries.
package algos
