// Package cublaslt is a narrow door to NVIDIA's cuBLASLt: it computes the three matrix products of a
// transformer on row-major matrices in a GPU's memory. It opens the library at run time, so that one build
// serves machines with and without it, and it shows none of the library's types.
//
//	library, err := cublaslt.Open("")        // *Absent says what was tried and what to do
//	handle, err := library.NewHandle()       // with the device's context current
//	m := cublaslt.NewMultiplier(handle, workspace, 32<<20)
//	err = m.Product(stream, y, x, w, shape, false)
//
// It queues work and does not wait for it, allocates no device memory, and falls back on nothing: a product
// that the library has no algorithm for is a [*NoAlgorithm], and the caller computes it otherwise.
//
// # Rows and columns
//
// The library counts columns first. A row-major matrix [r × c] with stride s is, byte for byte, the
// column-major matrix [c × r] with leading dimension s: its transpose. So nothing is copied or told to be
// row-major; each product is asked for transposed, D = op(A)·op(B):
//
//	y[rows×out]  = x·Wᵀ    yᵀ  = W·xᵀ     A = W stored [in×out], transposed   B = x  stored [in×rows]
//	dx[rows×in]  = dy·W    dxᵀ = Wᵀ·dyᵀ   A = W stored [in×out]               B = dy stored [out×rows]
//	dW[out×in]  += dyᵀ·x   dWᵀ += xᵀ·dy   A = x stored [in×rows]              B = dy stored [out×rows], transposed
//
// # Arithmetic
//
// Products of float32 are asked for with CUBLAS_COMPUTE_32F_PEDANTIC. cublas_api.h says of the plain
// CUBLAS_COMPUTE_32F that it guarantees the precision of what is stored and takes what the hardware has for
// the rest; that type is open to the library's switches for TF32 and for float32 put together from bfloat16.
// Of the pedantic one it says that it ensures standard arithmetic: no operand is ever shortened to TF32.
// Products of bfloat16 are asked for with CUBLAS_COMPUTE_32F, which is tensor cores with float32 sums; the
// pedantic type would keep them off the tensor cores. Both scale and add in float32.
//
// # The same bits from run to run
//
// NVIDIA promises equal bits from run to run for one version of the library on GPUs of one architecture with
// as many multiprocessors, as long as the same algorithm runs. What could differ is taken away:
//   - A sum that is split over blocks may be put together only from partial sums in the workspace, in a step
//     of its own and in float32 (CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE), or it is not split. Excluded are
//     INPLACE, where blocks add to the output as they arrive, and OUTPUT_TYPE, which rounds partial sums
//     to bfloat16.
//   - The workspace is the caller's and serves one stream, so the library never chooses by what is free.
//   - The algorithm is the heuristic's first usable answer, a function of types, shape, strides and the
//     alignment of the addresses. An address counts as aligned to at most 256 bytes, which every allocation
//     of the driver is, so the alignment is that of the offset within an allocation and does not change
//     with where the driver puts it.
//
// A row's bits do depend on how many rows are computed together: another number of rows is another algorithm.
package cublaslt
