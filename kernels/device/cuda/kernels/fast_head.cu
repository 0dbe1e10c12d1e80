// The head in the fast mode, in BF16: sums of logits and their gradients by the approximate exponential, 16 bytes at a
// time. Logits stay float32, and log-probabilities are off by some 10⁻⁶ at most. Rows begin at multiples of 16 bytes and
// have room for whole groups of four.
//
// Least traffic, for each logit: 4 bytes to read for Score; 4 to read and 2 to write for ScoreBack where the log-probability
// is known, 4 more to read where it is not.
#include "head.h"
#include "tensor.h"

// FAST_PART logits make a part: FAST_EACH groups of four for each of FAST_THREADS threads, or fewer where a vocabulary has
// no more.
enum { FAST_THREADS = 256, FAST_EACH = 8, FAST_PART = 4 * FAST_EACH * FAST_THREADS, FAST_WARPS = FAST_THREADS / 32, BACK_THREADS = 512 };

#define LOG2_E 1.44269504f

// fast_score_parts sums one part of one row: blocks of rows by parts.
struct fast_score_parts_args {
	const float *logits;
	struct part *parts; // [rows × count]
	long long stride;
	int count, vocabulary;
	float scale;
};

// read_groups reads a thread's groups of a part; −∞ behind the last logit.
FN void read_groups(four *z, const float *row, int first, int vocabulary) {
	const float *from = row + first + 4 * THREAD;
	if (first + 4 * FAST_EACH * THREADS <= vocabulary) { // without branches between the reads
		UNROLL
		for (int i = 0; i < FAST_EACH; i++) z[i] = *(const four *)(from + 4 * i * THREADS);
		return;
	}
	UNROLL
	for (int i = 0; i < FAST_EACH; i++) {
		int at = first + 4 * (i * THREADS + THREAD);
		z[i] = (four){-INFINITE, -INFINITE, -INFINITE, -INFINITE};
		if (at >= vocabulary) continue;
		z[i] = *(const four *)(from + 4 * i * THREADS);
		UNROLL
		for (int j = 1; j < 4; j++) z[i][j] = at + j < vocabulary ? z[i][j] : -INFINITE;
	}
}

// groups_most is the largest logit of a part that is a number. shared is for FAST_WARPS numbers.
FN float groups_most(const four *z, float *shared) {
	float m = -INFINITE;
	UNROLL
	for (int i = 0; i < FAST_EACH; i++) {
		UNROLL
		for (int j = 0; j < 4; j++) m = z[i][j] > m ? z[i][j] : m;
	}
	m = warp_most(m);
	if (LANE == 0) shared[WARP] = m;
	barrier();
	for (int i = 0; i < THREADS / 32; i++) m = shared[i] > m ? shared[i] : m;
	return m;
}

KERNEL(fast_score_parts, FAST_THREADS) {
	SHARED float shared[3 * FAST_WARPS];
	four z[FAST_EACH];
	read_groups(z, a.logits + BLOCK * a.stride, BLOCK_Y * FAST_PART, a.vocabulary);
	float m = groups_most(z, shared), center = m > -INFINITE ? m : 0.0f, total = 0.0f, weighted = 0.0f;
	UNROLL
	for (int i = 0; i < FAST_EACH; i++) {
		UNROLL
		for (int j = 0; j < 4; j++) {
			float t = centered(z[i][j], center, a.scale), e = power_of_two(t * LOG2_E);
			total = total + e;
			weighted = e != 0.0f ? multiply_add(t, e, weighted) : weighted; // t may be −∞
		}
	}
	total = warp_sum(total);
	weighted = warp_sum(weighted);
	if (LANE == 0) {
		shared[FAST_WARPS + WARP] = total;
		shared[2 * FAST_WARPS + WARP] = weighted;
	}
	barrier();
	if (THREAD != 0) return;
	for (int i = 1; i < THREADS / 32; i++) {
		total = total + shared[FAST_WARPS + i];
		weighted = weighted + shared[2 * FAST_WARPS + i];
	}
	struct part *out = a.parts + (long long)BLOCK * a.count + BLOCK_Y;
	out->most = m;
	out->total = total;
	out->weighted = weighted;
}

// fast_score_back replaces a row of logits by their gradient, as score_back says: one block a row. The log-probability of a
// logit z is scale·(z − from) − less, with from the largest logit or, where the target's log-probability is known, the
// target's.
struct fast_score_back_args {
	float *logits;
	const struct part *parts;               // absent where log-probabilities and entropies are known
	const float *log_probs, *entropies;     // of the targets, and of the rows
	const int *targets;
	const float *d_log_probs, *d_entropies; // gradients; the last may be absent
	int *status;
	long long stride;
	int count, vocabulary, first;
	float scale;
};

// What a row's gradient is made of.
struct gradient_of {
	float from, less, entropy, scale;
	float l, h; // gradients of the log-probability and of the entropy
	int target;
};

typedef unsigned pair __attribute__((vector_size(8), may_alias));

// FARTHEST is the least log-probability that others are told by: their rounding grows with its size.
#define FARTHEST -1000.0f

// row_sums is the distribution of a row whose sums nobody knows: that of a target that can hardly be. All threads call it.
// parts is for one of each warp.
FN struct distribution row_sums(const float *row, int vocabulary, float scale, struct part *parts) {
	struct part own = {-INFINITE, 0.0f, 0.0f};
	for (int at = THREAD; at < vocabulary; at += THREADS) own.most = row[at] > own.most ? row[at] : own.most;
	own.most = warp_most(own.most);
	float center = own.most > -INFINITE ? own.most : 0.0f;
	for (int at = THREAD; at < vocabulary; at += THREADS) {
		float t = centered(row[at], center, scale), e = exponential(t);
		own.total = own.total + e;
		own.weighted = e != 0.0f ? multiply_add(t, e, own.weighted) : own.weighted;
	}
	own.total = warp_sum(own.total);
	own.weighted = warp_sum(own.weighted);
	if (LANE == 0) parts[WARP] = own;
	barrier();
	return merge(parts, THREADS / 32, scale);
}

// gradient_group is the gradient of a group of four logits from column at on, in BF16.
FN pair gradient_group(struct gradient_of r, four z, int at) {
	float g[4];
	UNROLL
	for (int j = 0; j < 4; j++) {
		float log_p = centered(z[j], r.from, r.scale) - r.less, p = power_of_two(log_p * LOG2_E);
		g[j] = at + j == r.target ? r.l - r.l * p : -r.l * p;
		if (r.h != 0.0f) g[j] = p != 0.0f ? g[j] - r.h * p * (log_p + r.entropy) : g[j]; // log p may be −∞
		g[j] = g[j] * r.scale;
	}
	return (pair){pair_bf16(g[0], g[1]), pair_bf16(g[2], g[3])};
}

// read_two reads a thread's two groups of a piece of 8·THREADS logits.
FN void read_two(four *z, const float *row, int first, int vocabulary) {
	const float *from = row + first + 4 * THREAD;
	if (first + 8 * THREADS <= vocabulary) { // without a branch between the reads
		z[0] = *(const four *)from;
		z[1] = *(const four *)(from + 4 * THREADS);
		return;
	}
	for (int i = 0; i < 2; i++) {
		if (first + 4 * (i * THREADS + THREAD) < vocabulary) z[i] = *(const four *)(from + 4 * i * THREADS);
	}
}

// write_back writes gradients of half the size into a row's own memory, from its beginning. Those of a piece lie where the
// logits of an earlier one lay, or of the first itself: all threads have to have read these. So once they have read pieces up
// to c + 1, pieces up to 2c + 3 may be written. Two pieces are on their way while one is computed.
FN void write_back(float *row, struct gradient_of r, int vocabulary) {
	const four none = {0.0f, 0.0f, 0.0f, 0.0f};
	four z[2] = {none, none}, next[2] = {none, none}, last[2] = {none, none};
	int piece = 8 * THREADS, may = -1;
	read_two(z, row, 0, vocabulary);
	read_two(next, row, piece, vocabulary);
	for (int c = 0; c * piece < vocabulary; c++) {
		if (c > may) {
			barrier();
			may = 2 * c + 3;
		}
		read_two(last, row, (c + 2) * piece, vocabulary);
		UNROLL
		for (int i = 0; i < 2; i++) {
			int at = c * piece + 4 * (i * THREADS + THREAD);
			if (at < vocabulary) *(pair *)((bf16 *)row + at) = gradient_group(r, z[i], at);
			z[i] = next[i];
			next[i] = last[i];
		}
	}
}

// Two blocks on a multiprocessor have 64 KiB under way, which memory takes to be busy.
KERNEL_PACKED(fast_score_back, BACK_THREADS, 2) {
	SHARED struct part parts[BACK_THREADS / 32];
	SHARED struct distribution summed;
	float *row = a.logits + BLOCK * a.stride;
	struct gradient_of r = {0.0f, 0.0f, 0.0f, a.scale, a.d_log_probs[BLOCK], a.d_entropies ? a.d_entropies[BLOCK] : 0.0f, a.targets[BLOCK]};
	int bad = r.target < 0 || r.target >= a.vocabulary;
	if (THREAD == 0 && bad) complain(a.status, BAD_TARGET, a.first + BLOCK, r.target);
	if (r.l == 0.0f && r.h == 0.0f) { // whatever the logits are
		for (int at = 4 * THREAD; at < a.vocabulary; at += 4 * THREADS) *(pair *)((bf16 *)row + at) = (pair){0, 0};
		return;
	}
	if (!a.parts && !bad && a.log_probs[BLOCK] > FARTHEST) {
		r.from = row[r.target];
		r.less = -a.log_probs[BLOCK];
		r.entropy = a.entropies[BLOCK];
	} else {
		struct distribution d;
		if (a.parts) {
			if (WARP == 0) {
				d = merge(a.parts + (long long)BLOCK * a.count, a.count, a.scale);
				if (LANE == 0) summed = d;
			}
			barrier();
			d = summed;
		} else {
			d = row_sums(row, a.vocabulary, a.scale, parts);
		}
		r.from = d.top;
		r.less = d.log_total;
		r.entropy = d.entropy;
	}
	write_back(row, r, a.vocabulary);
}
