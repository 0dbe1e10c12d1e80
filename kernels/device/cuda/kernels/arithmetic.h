// Exponential and logarithm from IEEE operations alone. Coefficients: Cephes, single precision (S. L. Moshier).
//
// Largest errors over all float32, in units in the last place of the result, which is 2⁻¹⁴⁹ for subnormal ones:
// exponential 1.011, logarithm 0.827, sigmoid 2.481. Both exponential and logarithm take and give subnormal numbers.
#ifndef ARITHMETIC_H
#define ARITHMETIC_H

#include "dialect.h"

#define INFINITE float_of(0x7f800000u)
#define NOT_A_NUMBER float_of(0x7fc00000u)

// scale_of_two is 2ⁿ for −126 ≤ n ≤ 127.
FN float scale_of_two(int n) { return float_of((unsigned)(n + 127) << 23); }

// exponential_parts is p of eˣ = p · 2ᵏ, −104 ≤ x < 88.73.
FN float exponential_parts(float x, int *k) {
	float n = multiply_add(x, 1.44269504f, 12582912.0f) - 12582912.0f; // to nearest
	float r = multiply_add(n, -0.693359375f, x);
	r = multiply_add(n, 2.12194440e-4f, r);
	float p = 1.9875691500e-4f;
	p = multiply_add(p, r, 1.3981999507e-3f);
	p = multiply_add(p, r, 8.3334519073e-3f);
	p = multiply_add(p, r, 4.1665795894e-2f);
	p = multiply_add(p, r, 1.6666665459e-1f);
	p = multiply_add(p, r, 5.0000001201e-1f);
	p = multiply_add(p, r * r, r) + 1.0f;
	*k = (int)n;
	return p;
}

// exponential is eˣ; 0 below −104, infinite above ln 2¹²⁸ = 88.72, NaN for NaN.
FN float exponential(float x) {
	if (x != x) return x;
	if (x > 88.7228394f) return INFINITE;
	if (x < -104.0f) return 0.0f;
	int k;
	float p = exponential_parts(x, &k);
	int half = k / 2; // in two steps, so that subnormal results are rounded once
	return p * scale_of_two(half) * scale_of_two(k - half);
}

// logarithm is ln x; −∞ for 0 and −0, NaN for less and for NaN, ∞ for ∞.
FN float logarithm(float x) {
	if (!(x > 0.0f)) return x == 0.0f ? -INFINITE : NOT_A_NUMBER;
	if (x == INFINITE) return x;
	int e = 0;
	if (x < 1.17549435e-38f) { // subnormal
		x = x * 8388608.0f;
		e = -23;
	}
	unsigned u = bits_of(x);
	e += (int)(u >> 23) - 126;
	float m = float_of((u & 0x7fffffu) | 0x3f000000u); // in [½, 1)
	if (m < 0.707106781f) {
		e--;
		m = m + m;
	}
	m = m - 1.0f;
	float p = 7.0376836292e-2f;
	p = multiply_add(p, m, -1.1514610310e-1f);
	p = multiply_add(p, m, 1.1676998740e-1f);
	p = multiply_add(p, m, -1.2420140846e-1f);
	p = multiply_add(p, m, 1.4249322787e-1f);
	p = multiply_add(p, m, -1.6668057665e-1f);
	p = multiply_add(p, m, 2.0000714765e-1f);
	p = multiply_add(p, m, -2.4999993993e-1f);
	p = multiply_add(p, m, 3.3333331174e-1f);
	float square = m * m, k = (float)e;
	float y = p * m * square;
	y = multiply_add(k, -2.12194440e-4f, y);
	y = multiply_add(square, -0.5f, y);
	return multiply_add(k, 0.693359375f, m + y);
}

// sigmoid is σ(x) = 1/(1 + e⁻ˣ); 0 below −ln 2¹²⁸, where it is less than 2⁻¹²⁸.
FN float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// warp_sum adds the values of a warp's 32 lanes in a fixed order; every lane gets the sum.
FN float warp_sum(float v) {
	for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
	return v;
}

// warp_most is the largest of the lanes' values; a NaN among them may be lost.
FN float warp_most(float v) {
	for (int mask = 16; mask > 0; mask /= 2) {
		float other = shuffle_xor(v, mask);
		v = other > v ? other : v;
	}
	return v;
}

#endif
