// Package device says what a transformer needs from hardware: memory, and some thirty fused
// operations on it, in the words of a transformer.
//
// A [Buffer] is a run of elements in a device's memory, a [Rows] a matrix inside one. Sequences are
// packed without padding: the tokens of all sequences of a pass are the rows of its matrices, one
// after the other, and an [Offsets] says where each sequence begins.
//
// Networks compute in F32 or BF16, the compute type: every matrix of rows that one operation reads or writes has
// that type. Gradients, what an optimizer keeps, the weights of norms, biases, reciprocal roots, rotations, logits and all
// that is said of a token's distribution are float32 in both, and so are sums; other parameters are float32, or BF16 where
// products read them as they are.
//
// Operations queue work and return nothing, but for those that bring numbers back. Shapes that do not fit are a
// programmer's error and panic before anything is computed. A device that fails while it computes (out of memory, fallen off the bus) keeps its first
// error, does nothing more, and returns that error from Sync and from everything that brings numbers
// back to the host.
//
// A row of a result depends on its own inputs alone: not on the other rows of the pass, on how rows are
// cut into passes, on the cache or on how many cores compute. A device that offers a mode without
// this says so by its name. Package devicetest holds every device to it, and to a float64 oracle.
package device
