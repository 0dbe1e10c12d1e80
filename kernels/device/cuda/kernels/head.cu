// The head: rows of logits to log-probabilities and entropies, and back to gradients of logits.
#include "head.h"

// score_parts sums one part of one row: blocks of rows by parts. It reads each logit once.
struct score_parts_args {
	const float *logits;
	struct part *parts; // [rows × count]
	long long stride;
	int count, vocabulary;
	float scale;
};
KERNEL(score_parts, PART_THREADS) {
	SHARED float shared[3 * PART_WARPS];
	float z[PART_EACH];
	read_part(z, a.logits + BLOCK * a.stride, BLOCK_Y * PART, a.vocabulary);
	float m = part_most(z, shared);
	sum_part(a.parts + (long long)BLOCK * a.count + BLOCK_Y, z, m, a.scale, shared + PART_WARPS);
}

// score_rows says of each row what Score promises: one warp a row. first is the row of the call that the first
// of these rows is.
struct score_rows_args {
	const struct part *parts;
	const float *logits;
	const int *targets;
	float *log_probs, *entropies;
	int *status;
	long long stride;
	int count, vocabulary, rows, first;
	float scale;
};
KERNEL(score_rows, 256) {
	int row = BLOCK * (THREADS / 32) + WARP;
	if (row >= a.rows) return;
	struct distribution d = merge(a.parts + (long long)row * a.count, a.count, a.scale);
	if (LANE != 0) return;
	int target = a.targets[row];
	a.entropies[row] = d.entropy;
	if (target < 0 || target >= a.vocabulary) {
		complain(a.status, BAD_TARGET, a.first + row, target);
		a.log_probs[row] = NOT_A_NUMBER;
		return;
	}
	a.log_probs[row] = log_prob(d, a.logits[row * a.stride + target]);
}

// score_back replaces a row of logits by their gradient: with p the probability of a token, H the entropy, l and h the
// gradients of the log-probability of the target and of the entropy,
//
//	scale·(l·(1[token = target] − p) − h·p·(log p + H))
//
// One block a row. The narrow form puts elements of half the size into the same memory, the first at the
// row's beginning. Elements whose probability is too small for a float32 count as impossible.
struct score_back_args {
	float *logits;
	const struct part *parts;
	const int *targets;
	const float *log_probs, *entropies; // their gradients; entropies may be absent
	int *status;
	long long stride;
	int count, vocabulary, first;
	float scale;
};

FN float gradient(struct distribution d, float logit, int hit, float l, float h) {
	float log_p = log_prob(d, logit), p = exponential(log_p);
	float g = l * ((hit ? 1.0f : 0.0f) - p);
	if (p != 0.0f) g = g - h * p * (log_p + d.entropy); // log p may be −∞
	return g * d.scale;
}

FN void score_back(const struct score_back_args *a, struct distribution *shared, int narrow) {
	if (WARP == 0) {
		struct distribution merged = merge(a->parts + (long long)BLOCK * a->count, a->count, a->scale);
		if (LANE == 0) *shared = merged;
	}
	barrier();
	struct distribution d = *shared;
	float *row = a->logits + BLOCK * a->stride;
	float l = a->log_probs[BLOCK], h = a->entropies ? a->entropies[BLOCK] : 0.0f;
	int target = a->targets[BLOCK], dead = l == 0.0f && h == 0.0f;
	if (THREAD == 0 && (target < 0 || target >= a->vocabulary)) complain(a->status, BAD_TARGET, a->first + BLOCK, target);
	for (int first = 0; first < a->vocabulary; first += PART) {
		float z[PART_EACH];
		read_part(z, row, first, a->vocabulary);
		if (narrow) barrier(); // what is written now lies where all that was read lies, or before
		UNROLL
		for (int i = 0; i < PART_EACH; i++) {
			int at = first + i * PART_THREADS + THREAD;
			if (at >= a->vocabulary) continue;
			float g = dead ? 0.0f : gradient(d, z[i], at == target, l, h);
			if (narrow) store_bf16((bf16 *)row + at, g);
			else row[at] = g;
		}
	}
}

#define score_back_f32_args score_back_args
#define score_back_bf16_args score_back_args
KERNEL(score_back_f32, PART_THREADS) {
	SHARED struct distribution shared;
	score_back(&a, &shared, 0);
}
KERNEL(score_back_bf16, PART_THREADS) {
	SHARED struct distribution shared;
	score_back(&a, &shared, 1);
}
