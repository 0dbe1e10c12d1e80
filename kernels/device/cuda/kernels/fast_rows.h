// Rows of BF16 that are read and written 16 bytes at a time, for kernels whose operands allow it: eight elements of a row,
// which are at a multiple of 16 bytes, as are eight numbers of float32 beside them.
#ifndef FAST_ROWS_H
#define FAST_ROWS_H

#include "arithmetic.h"
#include "tensor.h"

// eight are elements as they lie in memory, two in each word.
typedef unsigned eight __attribute__((vector_size(16), may_alias));

#define JOIN(x, y) x##y
#define JOINED(x, y) JOIN(x, y)
#define ENTRY(name, threads) KERNEL(name, threads)

#define EIGHT(i) UNROLL for (int i = 0; i < 8; i++)

FN eight read_eight(const bf16 *p) { return *(const eight *)p; }

// element is one of eight; i is a constant.
FN float element(eight v, int i) { return float_of(i & 1 ? v[i / 2] & 0xffff0000u : v[i / 2] << 16); }

// packed is v, of which the compiler is not told that: elements are taken out of it where they are used, instead of being kept in
// twice as many registers.
FN eight packed(eight v) {
#ifdef __CUDA__
	UNROLL for (int i = 0; i < 4; i++) {
		unsigned word = v[i];
		__asm__ volatile("" : "+r"(word));
		v[i] = word;
	}
#endif
	return v;
}

FN void write_eight(bf16 *p, const float v[8]) {
	eight r;
	UNROLL for (int i = 0; i < 4; i++) r[i] = pair_bf16(v[2 * i], v[2 * i + 1]);
	*(eight *)p = r;
}

// reciprocal is 1/x with a relative error of about 2⁻²³; 0 where x is infinite or 1/x below 2⁻¹²⁶.
#ifdef __CUDA__
FN float reciprocal(float x) { return __nvvm_rcp_approx_ftz_f(x); }
#else
FN float reciprocal(float x) { return 1.0f / x; }
#endif

// share_of_one is σ(x) = 1/(1 + 2^(−x·log₂ e)).
FN float share_of_one(float x) { return reciprocal(1.0f + power_of_two(x * -1.44269504f)); }

FN void read_numbers(float v[8], const float *p) {
	four low = *(const four *)p, high = *(const four *)(p + 4);
	UNROLL for (int i = 0; i < 4; i++) {
		v[i] = low[i];
		v[i + 4] = high[i];
	}
}

FN void write_numbers(float *p, const float v[8]) {
	four low, high;
	UNROLL for (int i = 0; i < 4; i++) {
		low[i] = v[i];
		high[i] = v[i + 4];
	}
	*(four *)p = low;
	*(four *)(p + 4) = high;
}

#endif
