// What an update of parameters needs: AdamW, and sums and searches over whole tensors.
#include "optimizer.h"

#define STRIDE ((long long)BLOCKS * THREADS)

// The elements that a thread goes through, with the grid's stride.
#define EACH(i, n) for (long long i = (long long)BLOCK * THREADS + THREAD; i < (n); i += STRIDE)

// The same, four of them at a time, which are read before any is written. READ_OF is that of the last for those behind it.
#define EACH_FOUR_OF(i, n) for (long long i = (long long)BLOCK * THREADS + THREAD; i < (n); i += 4 * STRIDE)
#define AT(i, k) (i + (k) * STRIDE)
#define READ_OF(i, k) (AT(i, k) < a.n ? AT(i, k) : a.n - 1)

struct adamw_args {
	float *param;
	const float *grad;
	float *m, *v;
	long long n;
	float beta1, rest1, beta2, rest2; // rest is 1 − beta
	float keep, step, scale, epsilon; // 1 − η·λ, η/(1−β1ᵗ), 1/√(1−β2ᵗ)
};

KERNEL(adamw, 256) {
	EACH(i, a.n) {
		float g = a.grad[i], w = a.param[i];
		float m = multiply_add(a.beta1, a.m[i], a.rest1 * g);
		float v = multiply_add(a.beta2, a.v[i], a.rest2 * g * g);
		a.m[i] = m;
		a.v[i] = v;
		a.param[i] = multiply_add(a.keep, w, -(a.step * m / multiply_add(a.scale, root(v), a.epsilon)));
	}
}

#define SCALE(TYPE)                                                                      \
	struct scale_##TYPE##_args { TYPE *x; long long n; float factor; int padding; }; \
	KERNEL(scale_##TYPE, 256) {                                                      \
		EACH_FOUR_OF(i, a.n) {                                                   \
			float x[4];                                                      \
			FOUR(k) x[k] = load_##TYPE(a.x + READ_OF(i, k)) * a.factor;      \
			FOUR(k) if (AT(i, k) < a.n) store_##TYPE(a.x + AT(i, k), x[k]);  \
		}                                                                        \
	}
SCALE(f32)
SCALE(bf16)

struct add_scaled_args {
	float *dst;
	const float *src;
	long long n;
	float factor;
	int padding;
};

KERNEL(add_scaled, 256) {
	EACH_FOUR_OF(i, a.n) {
		float v[4];
		FOUR(k) v[k] = multiply_add(a.factor, a.src[READ_OF(i, k)], a.dst[READ_OF(i, k)]);
		FOUR(k) if (AT(i, k) < a.n) a.dst[AT(i, k)] = v[k];
	}
}

struct sum_squares_args {
	double *sums;
	const float *x;
	long long n;
};

// sum_squares: a block adds the squares of 4096 elements.
KERNEL(sum_squares, 256) {
	SHARED double sums[256];
	long long first = 4096LL * BLOCK + THREAD;
	double sum = 0.0;
	float v[16];
	UNROLL for (int k = 0; k < 16; k++) v[k] = a.x[first + 256 * k < a.n ? first + 256 * k : a.n - 1];
	UNROLL for (int k = 0; k < 16; k++)
		if (first + 256 * k < a.n) sum = multiply_add_double((double)v[k], (double)v[k], sum);
	sum = block_sum_double(sum, sums);
	if (THREAD == 0) a.sums[BLOCK] = sum;
}

struct sum_doubles_args {
	double *x; // the sum takes the place of the first
	long long n;
};

// sum_doubles: one block adds all.
KERNEL(sum_doubles, 256) {
	SHARED double sums[256];
	double sum = 0.0;
	for (long long i = THREAD; i < a.n; i += 256) sum += a.x[i];
	sum = block_sum_double(sum, sums);
	if (THREAD == 0) a.x[0] = sum;
}

struct first_not_finite_args {
	long long *first;
	const float *x;
	long long n;
};

// first_not_finite: a block finds the first among its elements that is infinite or not a number; n when there is none.
KERNEL(first_not_finite, 256) {
	SHARED long long numbers[256];
	long long first = a.n;
	EACH_FOUR_OF(i, a.n) {
		unsigned bits[4];
		FOUR(k) bits[k] = bits_of(a.x[READ_OF(i, k)]);
		FOUR(k) if ((bits[k] & 0x7f800000u) == 0x7f800000u && AT(i, k) < first) first = AT(i, k);
	}
	first = block_least(first, numbers);
	if (THREAD == 0) a.first[BLOCK] = first;
}

struct least_number_args {
	long long *x; // the least takes the place of the first
	int n, padding;
};

KERNEL(least_number, 256) {
	SHARED long long numbers[256];
	long long least = a.x[0];
	for (int i = THREAD; i < a.n; i += 256)
		if (a.x[i] < least) least = a.x[i];
	least = block_least(least, numbers);
	if (THREAD == 0) a.x[0] = least;
}
