// Package decode samples from a policy network: many requests at once, over keys and values that are
// kept in pages and shared by everything that begins alike.
//
// [New] starts an [Engine], [Engine.Load] gives it weights, and any number of goroutines call
// [Engine.Generate], which implements sampler.Sampler. Requests join the running batch between two
// passes and leave it when they are done (continuous batching). A prompt that was computed before, by
// the same sequence, another member of its group or a branch of it, is not computed again.
//
// On an exact device, what a request yields depends on its tokens, its seed, its settings and the weights, and on
// nothing else: not on what shares the batch, on which of its pages were found computed, on whether it had to
// give them back in between, or on threads. That rests on the network, whose rows do not depend on
// each other. Whether a pass is queued operation by operation or replayed from a recording changes nothing on any device.
//
// On a device that computes while its host does something else, a pass is queued before the choices of the pass before it are known:
// the device feeds them to it, and the host's work between two passes, which is to read choices, look for stops and plan, is done
// while the device computes. A sequence that has ended has a row in the pass behind, whose choice nobody takes.
//
// Decisions and arithmetic are apart. The page pool and the schedule decide, without goroutines, clock
// or device; a batch turns their decisions into passes; the engine is a mailbox around it.
//
// The package does not know text (stop strings are matched on the bytes it is told a token stands
// for), and it does not know what the samples are for.
package decode
