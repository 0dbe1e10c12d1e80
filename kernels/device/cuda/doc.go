// Package cuda is NVIDIA GPUs as devices. The driver and cuBLASLt are opened at run time, kernels are PTX that is
// part of the binary and compiled by the driver when a device is opened, or, in the fast mode, when what is seldom needed first
// is: one build runs with and without a GPU.
//
// A device is opened in one of two modes. An exact one keeps the promise of package device: a row of a result
// depends on its own inputs alone, products are chains of multiply-adds in ascending order. A fast one multiplies
// by cuBLASLt, which chooses by shape: results depend on how rows are cut into passes, and are the same from run to
// run. In BF16 it has other kernels for attention, norms, rotations, gates and the head, too: those in files named fast_*, some of
// them for tensor cores. Everything else is the same kernels in both.
//
// A device has one stream for all its work. Methods queue work and return; uploads are staged in page-locked memory. What is large
// comes to the host in a stream of its own, piece by piece, and a call that waits for the device leaves it to others meanwhile. Work that the host would
// queue over and over again can be recorded and replayed by one call; see [Graph]. The first error of the
// driver is kept, as a [*device.Failure]: nothing is queued afterwards, and Sync and whatever brings numbers back
// return it, this time and always. Two errors end nothing: memory that is lacking is a [*device.OutOfMemory], and a number on the device that cannot be,
// such as an index outside of its table, is a [*Mistake]. Where the operation has no error to return, such a one is kept until
// Sync or a download returns it, and what is called until then does nothing. What was being computed is lost, the device is well.
//
// Memory that was freed is handed out again without asking the driver; see package arena. Mistakes that the host can see, such as a
// buffer that was freed or is another device's, panic.
//
// Package emulator has a driver that computes on the host, on which tests run all of this without a GPU: the kernels' sources, or
// the PTX itself.
package cuda
