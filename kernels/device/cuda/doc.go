// Package cuda is NVIDIA GPUs as devices. The driver and cuBLASLt are opened at run time, kernels are PTX that is
// part of the binary and compiled by the driver when a device is opened: one build runs with and without a GPU.
//
// A device is opened in one of two modes. An exact one keeps the promise of package device: a row of a result
// depends on its own inputs alone, products are chains of multiply-adds in ascending order. A fast one multiplies
// by cuBLASLt, which chooses by shape: results depend on how rows are cut into passes, and are the same from run to
// run. Everything else is the same kernels in both.
//
// A device has one stream. Methods queue work and return; uploads are staged in page-locked memory. The first error of the
// driver is kept, as a [*device.Failure]: nothing is queued afterwards, and Sync and whatever brings numbers back
// return it. Memory that is lacking is a [*device.OutOfMemory] of the one allocation and ends nothing.
//
// Package emulator has a driver that computes on the host, on which tests run all of this without a GPU.
package cuda
