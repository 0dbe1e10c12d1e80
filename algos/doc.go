// Package algos turns groups of trajectories into token-aligned streams: it is where credit is given.
//
// A [Method] is a composition of named parts, one package per kind of part: outcome and turnreward
// give rewards, shape edits them, filter drops what must not be trained, credit spreads rewards over
// turns or tokens, advantage compares, mixes and transforms, mask keeps out of the loss what stays in
// comparisons, weight gives the loss weights and bounds of its own, and pair makes preferences.
// [Method.Streams] runs them in that order; it is a pure function of the groups. [Method.Explain] does the
// same and tells what every part changed; [Method.Reads] says what must be on trajectories before.
// Statistics, returns and whitening run over whole batches on the [kernels.Arithmetic] that the caller
// passes. [Presets] are the methods that come with the program and [Tables] list every part.
//
// A new part is one file with one struct: its exported fields are its settings, its yaml tags their
// names, and a row in its package's Table its name, equation, citation and defaults. The package
// refuses to know of log-probabilities and gradients: the loss is a [kernels.Program] that the method
// only carries.
package algos
