// The distribution of a row of logits. Score, ScoreBack and Draw all read it through these functions, so they agree
// to the last bit. A row is summed in parts of fixed size, which are then merged: the bits depend on the row alone.
#ifndef HEAD_H
#define HEAD_H

#include "arithmetic.h"

// A block has PART_THREADS threads, or as many whole warps as a smaller vocabulary has tokens for: the others would add
// nothing.
enum { PART = 2048, PART_THREADS = 256, PART_EACH = PART / PART_THREADS, PART_WARPS = PART_THREADS / 32 };

// A part's largest logit m, Σ eᵗ and Σ t·eᵗ for t = scale·(logit − m).
struct part {
	float most, total, weighted;
};

// A row's largest logit, log Σ eᵗ for t = scale·(logit − top), which is never negative, and the entropy of the
// distribution. The last two are NaN where the row has none: where a logit is not a number or the largest is infinite.
struct distribution {
	float scale, top, log_total, entropy;
};

// centered is t of a logit.
FN float centered(float logit, float top, float scale) { return (logit - top) * scale; }

// log_prob is the log-probability of a token with the logit; never positive.
FN float log_prob(struct distribution d, float logit) { return centered(logit, d.top, d.scale) - d.log_total; }

// read_part reads a thread's logits of a part; −∞, which has no weight, behind the last.
FN void read_part(float *z, const float *logits, int first, int vocabulary) {
	UNROLL
	for (int i = 0; i < PART_EACH; i++) {
		int at = first + i * PART_THREADS + THREAD;
		z[i] = at < vocabulary ? logits[at] : -INFINITE;
	}
}

// part_most is the largest logit of a part that is a number. shared is for PART_WARPS numbers.
FN float part_most(const float *z, float *shared) {
	float m = -INFINITE;
	UNROLL
	for (int i = 0; i < PART_EACH; i++) m = z[i] > m ? z[i] : m;
	m = warp_most(m);
	if (LANE == 0) shared[WARP] = m;
	barrier();
	for (int i = 0; i < THREADS / 32; i++) m = shared[i] > m ? shared[i] : m;
	return m;
}

// sum_part writes the sums of a part at a scale. shared is for 2·PART_WARPS numbers that nothing else uses.
FN void sum_part(struct part *out, const float *z, float m, float scale, float *shared) {
	float center = m > -INFINITE ? m : 0.0f; // −∞ alone: nothing but tokens of probability 0
	float total = 0.0f, weighted = 0.0f;
	UNROLL
	for (int i = 0; i < PART_EACH; i++) {
		float t = centered(z[i], center, scale), e = exponential(t);
		total = total + e;
		if (e != 0.0f) weighted = multiply_add(t, e, weighted); // t may be −∞
	}
	total = warp_sum(total);
	weighted = warp_sum(weighted);
	if (LANE == 0) {
		shared[WARP] = total;
		shared[PART_WARPS + WARP] = weighted;
	}
	barrier();
	if (THREAD != 0) return;
	for (int i = 1; i < THREADS / 32; i++) {
		total = total + shared[i];
		weighted = weighted + shared[PART_WARPS + i];
	}
	out->most = m;
	out->total = total;
	out->weighted = weighted;
}

// merge makes a row's distribution of its parts. A whole warp calls it; every lane gets the result.
FN struct distribution merge(const struct part *parts, int count, float scale) {
	float top = -INFINITE, total = 0.0f, weighted = 0.0f;
	for (int i = LANE; i < count; i += 32) top = parts[i].most > top ? parts[i].most : top;
	top = warp_most(top);
	for (int i = LANE; i < count; i += 32) {
		float t = centered(parts[i].most, top, scale), e = exponential(t), share = parts[i].total * e;
		total = total + share;
		if (e != 0.0f) weighted = weighted + multiply_add(parts[i].weighted, e, t * share);
	}
	total = warp_sum(total);
	weighted = warp_sum(weighted);
	struct distribution d;
	d.scale = scale;
	d.top = top;
	d.log_total = logarithm(total);
	float h = d.log_total - weighted / total;
	d.entropy = h < 0.0f ? 0.0f : h;
	return d;
}

#endif
