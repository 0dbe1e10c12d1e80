// Package cpu is the transformer arithmetic of a machine's processor, in float32.
//
// A row of a result never depends on the other rows of the batch, on padding or on the number of
// threads: every sum runs in a fixed order. That is what makes log-probabilities of the sampler and
// the learner agree to the last bit.
package cpu

// Gemm computes C = op(A)·op(B), or C += op(A)·op(B) when accumulate is true. op(A) is m×k, op(B) is
// k×n and C is m×n, all row-major with leading dimensions lda, ldb and ldc of the matrices as stored.
// Each element of C is one chain of fused multiply-adds over k in ascending order.
func Gemm(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, accumulate bool) {
	for i := 0; i < m; i++ {
		for j := 0; j < n; j++ {
			var sum float32
			if accumulate {
				sum = c[i*ldc+j]
			}
			for p := 0; p < k; p++ {
				x, y := i*lda+p, p*ldb+j
				if transA {
					x = p*lda + i
				}
				if transB {
					y = j*ldb + p
				}
				sum += a[x] * b[y]
			}
			c[i*ldc+j] = sum
		}
	}
}
