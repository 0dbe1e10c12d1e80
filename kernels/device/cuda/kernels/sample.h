// What the kernels of sampling have in common: how a row's token is chosen, and how likely tokens are.
#ifndef SAMPLE_H
#define SAMPLE_H

#include "head.h"

// A block that chooses a token has up to ROW_THREADS threads.
enum { ROW_THREADS = 512, ROW_WARPS = ROW_THREADS / 32, LANES = 32 };

// UNITS is what the weight of the likeliest token, 1, counts as: fewer than 2²³ tokens fit. Lighter ones than 2⁻⁴⁰ are never drawn:
// than 2⁻⁴⁰ times the likeliest of their part where nothing is cut.
#define UNITS 1099511627776.0f

// FARTHEST is the logarithm of a weight that counts for no unit, whatever rounding does: such tokens are passed over, since no
// choice depends on them.
#define FARTHEST 28.0f

// Tokens that count are sorted into bins by the logarithm of their weight: a half wide from 0 to −8, 4/3 from there to −28.
enum { BINS = 32 };

// What a part of a row counts for in each bin, at the row's scale.
struct bins {
	long long amounts[BINS]; // in units
	int counts[BINS];        // of tokens
};

// How a row's token is chosen; the words of sample.go.
struct sampling {
	double uniform;
	float inverse, top_p, min_p;
	int top_k, greedy, unused;
};

// A row on its way to a token.
struct row {
	const float *logits;
	const struct part *parts;
	const struct bins *bins; // of each part, where something is cut
	int vocabulary, count;
	struct distribution d;
};

// A border is the last token kept: of tokens with its key those with ids up to its own stay.
struct border {
	unsigned key;
	int id;
};

// cuts reports whether anything may be cut.
FN int cuts(struct sampling how) { return !how.greedy && (how.top_k > 0 || how.top_p < 1.0f || how.min_p > 0.0f); }

// key is a logit as a number that is larger for larger logits and the same for both zeros.
FN unsigned key(float logit) {
	unsigned u = bits_of(logit + 0.0f);
	return u >> 31 ? ~u : u | 0x80000000u;
}

// logit_of is a logit with the key.
FN float logit_of(unsigned key) { return float_of(key >> 31 ? key & 0x7fffffffu : ~key); }

FN int kept(struct border b, unsigned k, int id) { return k > b.key || (k == b.key && id <= b.id); }

// near_exponential is exponential(t), to the bit, for −80 ≤ t ≤ 0, where it is neither subnormal nor infinite.
FN float near_exponential(float t) {
	int k;
	float p = exponential_parts(t, &k);
	return p * scale_of_two(k);
}

// weight is that of a token in a bin.
FN float weight(struct row r, float logit) { return near_exponential(centered(logit, r.d.top, r.d.scale)); }
FN long long units(float w) { return (long long)(w * UNITS); }

// bin_of is the bin of a token with the logarithm t of its weight, which is never above 0; BINS where it counts for nothing. It
// does not fall as logits do, so that a bin has all tokens between its likeliest and its least likely.
FN int bin_of(float t) {
	float x = -t;
	if (!(x <= FARTHEST)) return BINS;
	return x < 8.0f ? (int)(2.0f * x) : 16 + (int)((x - 8.0f) * 0.75f);
}

// edge is where a bin begins: the largest −t, and BINS the end of the last.
FN float edge(int bin) { return bin < 16 ? 0.5f * (float)bin : 8.0f + (float)(bin - 16) / 0.75f; }

FN int warp_sum_int(int v) {
	for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor_int(v, mask);
	return v;
}

FN unsigned warp_or(unsigned v) {
	for (int mask = 16; mask > 0; mask /= 2) v |= (unsigned)shuffle_xor_int((int)v, mask);
	return v;
}

FN long long shuffle_xor_long(long long v, int mask) {
	unsigned low = (unsigned)shuffle_xor_int((int)v, mask), high = (unsigned)shuffle_xor_int((int)(v >> 32), mask);
	return (long long)((unsigned long long)high << 32 | low);
}

FN long long warp_sum_long(long long v) {
	for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor_long(v, mask);
	return v;
}

#endif
