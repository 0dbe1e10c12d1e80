// One step of AdamW on all tensors of a network. Three launches: the squares of the gradients are summed, one block makes of
// the sums the factor that clips and the verdict whether anything may change, and the step is taken.
//
// Floor in bytes an element: 4 of the first launch; of the step 4 of the gradient, 8 of the weight, 16 of its moments and 2 of
// its form in bf16, or of a weight in bf16 4 for 10. Operations are some 30 an element, far from what costs time.
#include "optimizer.h"

// PIECE is how many elements of a tensor a block has: package cuda's pieceElements.
#define PIECE 16384

// The bits of a tensor's flags: package cuda's.
enum { DECAYS = 1, ALIGNED = 2, STORED_BF16 = 4, FORM_F32 = 8, FORM_BF16 = 16 };

struct tensor {
	void *param; // of float, or of bf16
	const float *grad;
	float *m, *v;
	void *form; // what products read of param, or nothing
	long long n;
	int flags, padding;
};

struct piece { int tensor, number; };

struct verdict {
	double norm;
	long long element; // of the tensor, where its first gradient is that is not finite
	int tensor;        // −1 when all gradients are finite; −2 when a kernel has complained before
	float factor;
};

// A piece's tensor, its first element and the number of its elements.
#define PIECE_OF(t, first, n, at)                                     \
	const struct piece own = a.pieces[at];                        \
	const struct tensor t = a.tensors[own.tensor];                \
	const long long first = (long long)own.number * PIECE;        \
	const int n = t.n - first < PIECE ? (int)(t.n - first) : PIECE

struct update_squares_args {
	double *sums;
	const struct tensor *tensors;
	const struct piece *pieces;
};

// update_squares: a block adds the squares of a piece, in an order that depends on its length alone.
KERNEL(update_squares, 256) {
	SHARED double sums[256];
	PIECE_OF(t, first, n, BLOCK);
	const float *grad = t.grad + first;
	double sum = 0.0;
	for (int from = 4 * THREAD; from < n; from += 4096) {
		four x[4];
		if ((t.flags & ALIGNED) && from + 3076 <= n) {
			FOUR(k) x[k] = *(const four *)(grad + from + 1024 * k);
		} else {
			FOUR(k) FOUR(e) x[k][e] = from + 1024 * k + e < n ? grad[from + 1024 * k + e] : 0.0f;
		}
		FOUR(k) FOUR(e) sum = multiply_add_double((double)x[k][e], (double)x[k][e], sum);
	}
	sum = block_sum_double(sum, sums);
	if (THREAD == 0) a.sums[BLOCK] = sum;
}

struct update_settle_args {
	struct verdict *verdict;
	const double *sums;
	const struct tensor *tensors;
	const struct piece *pieces;
	const int *status;
	double clip; // 0 is no bound
	int n, padding;
};

FN int endless(double v) { return v - v != 0.0; }

// first_of is the first element of a piece whose gradient is not finite.
FN long long first_of(const float *grad, int n, long long *numbers) {
	long long found = PIECE;
	for (int i = n - 1 - THREAD; i >= 0; i -= 256)
		if ((bits_of(grad[i]) & 0x7f800000u) == 0x7f800000u) found = i;
	block_least(found, numbers);
	barrier();
	return numbers[0];
}

// update_settle: one block. The squares of finite numbers have a finite sum, so that it has to look into one piece at most.
KERNEL(update_settle, 256) {
	SHARED double sums[256];
	SHARED long long numbers[256];
	double sum = 0.0;
	long long bad = a.n;
	UNROLL_BY(8) for (int i = THREAD; i < a.n; i += 256) {
		double v = a.sums[i];
		if (endless(v) && i < bad) bad = i;
		sum += v;
	}
	block_sum_double(sum, sums);
	block_least(bad, numbers);
	barrier();
	sum = sums[0];
	bad = numbers[0];
	barrier();
	struct verdict out;
	out.norm = root_double(sum);
	out.element = 0;
	out.tensor = a.status[0] != 0 ? -2 : -1;
	out.factor = a.clip > 0.0 && out.norm > a.clip ? (float)(a.clip / out.norm) : 1.0f;
	if (bad < a.n) {
		PIECE_OF(t, first, n, bad);
		out.element = first + first_of(t.grad + first, n, numbers);
		out.tensor = own.tensor;
	}
	if (THREAD == 0) *a.verdict = out;
}

// Philox4x32 with 10 rounds: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
FN void philox(unsigned word[4], unsigned long long seed) {
	unsigned low = (unsigned)seed, high = (unsigned)(seed >> 32);
	UNROLL for (int round = 0; round < 10; round++) {
		unsigned long long x = 0xd2511f53ull * word[0], y = 0xcd9e8d57ull * word[2];
		word[0] = (unsigned)(y >> 32) ^ word[1] ^ low;
		word[1] = (unsigned)y;
		word[2] = (unsigned)(x >> 32) ^ word[3] ^ high;
		word[3] = (unsigned)x;
		low += 0x9e3779b9u;
		high += 0xbb67ae85u;
	}
}

// stochastic is package device's StochasticBF16, as a float32.
FN float stochastic(float v, unsigned random) {
	unsigned bits = bits_of(v), up = bits + random;
	if ((bits & 0x7f800000u) == 0x7f800000u) return float_of((bits & 0x7fffffu ? bits | 0x400000u : bits) & 0xffff0000u);
	return float_of(((up & 0x7f800000u) == 0x7f800000u ? bits : up) & 0xffff0000u);
}

// Four elements of a piece of n, from a multiple of 4 on. all says that they exist and lie as whole reads want them; those that do
// not exist read as 0 and are not written.
FN four read_f32(const float *p, int at, int n, int all) {
	if (all) return *(const four *)(p + at);
	four v;
	FOUR(e) v[e] = at + e < n ? p[at + e] : 0.0f;
	return v;
}
FN void write_f32(float *p, int at, int n, int all, four v) {
	if (all) *(four *)(p + at) = v;
	else FOUR(e) if (at + e < n) p[at + e] = v[e];
}

typedef unsigned two_words __attribute__((vector_size(8), may_alias)); // 4 numbers of bf16

FN four read_bf16(const bf16 *p, int at, int n, int all) {
	four v;
	if (all) {
		two_words w = *(const two_words *)(p + at);
		FOUR(e) v[e] = float_of(e % 2 ? w[e / 2] & 0xffff0000u : w[e / 2] << 16);
	} else {
		FOUR(e) v[e] = at + e < n ? load_bf16(p + at + e) : 0.0f;
	}
	return v;
}
FN void write_bf16(bf16 *p, int at, int n, int all, four v) {
	if (all) {
		two_words w;
		w[0] = round_bf16(v[0]) | (unsigned)round_bf16(v[1]) << 16;
		w[1] = round_bf16(v[2]) | (unsigned)round_bf16(v[3]) << 16;
		*(two_words *)(p + at) = w;
	} else {
		FOUR(e) if (at + e < n) store_bf16(p + at + e, v[e]);
	}
}

struct update_step_args {
	const struct tensor *tensors;
	const struct piece *pieces;
	const struct verdict *verdict;
	unsigned long long seed;
	float beta1, rest1, beta2, rest2;
	float keep, step, scale, epsilon; // keep is 1 − η·λ; the rest is as in adamw_args
	unsigned number;
	int padding;
};

// update_step: a block takes the step of a piece.
KERNEL(update_step, 256) {
	if (a.verdict->tensor != -1) return;
	const float factor = a.verdict->factor;
	PIECE_OF(t, first, n, BLOCK);
	const float *grads = t.grad + first;
	float *ms = t.m + first, *vs = t.v + first;
	const float keep = t.flags & DECAYS ? a.keep : 1.0f;
	for (int at = 4 * THREAD; at < n; at += 1024) {
		const int all = (t.flags & ALIGNED) && at + 4 <= n;
		four g = read_f32(grads, at, n, all), m = read_f32(ms, at, n, all), v = read_f32(vs, at, n, all);
		four w = t.flags & STORED_BF16 ? read_bf16((const bf16 *)t.param + first, at, n, all) : read_f32((const float *)t.param + first, at, n, all);
		FOUR(e) {
			float slope = g[e] * factor;
			m[e] = multiply_add(a.beta1, m[e], a.rest1 * slope);
			v[e] = multiply_add(a.beta2, v[e], a.rest2 * slope * slope);
			w[e] = multiply_add(keep, w[e], -(a.step * m[e] / multiply_add(a.scale, root(v[e]), a.epsilon)));
		}
		write_f32(ms, at, n, all, m);
		write_f32(vs, at, n, all, v);
		if (t.flags & STORED_BF16) {
			unsigned long long block = (unsigned long long)(first + at) / 4;
			unsigned word[4] = {(unsigned)block, (unsigned)(block >> 32), (unsigned)own.tensor, a.number};
			philox(word, a.seed);
			FOUR(e) w[e] = stochastic(w[e], word[e] >> 16);
			write_bf16((bf16 *)t.param + first, at, n, all, w);
		} else {
			write_f32((float *)t.param + first, at, n, all, w);
		}
		if (t.flags & FORM_BF16) write_bf16((bf16 *)t.form + first, at, n, all, w);
		if (t.flags & FORM_F32) write_f32((float *)t.form + first, at, n, all, w);
	}
}
