// Sampling. Tokens stand in order of likelihood: larger logits first, of equal ones the smaller id. Weights are summed as
// whole numbers, so that no order of summation matters.
//
// Every logit is read once, to sum the parts of its row. Where nothing is cut, one block a row then finds the part that
// the random number falls into, and the token among the logits of that part alone. Where something is cut, every logit is read once
// more, to sum the parts by how likely tokens are; the block of the row then reads what may be the border, once as a rule: see
// sample_cut.h.
//
// Least time without cuts: 64 rows of 151,936 logits are 39 MB to read.
#include "sample_cut.h"

// What is told of a token; NaN where the row has no distribution.
struct sampled {
	float log_prob, sampling_log_prob, untempered_log_prob, entropy;
};

// sample_parts sums one part of one row: blocks of rows by parts. A row has its parts at its own scale, then those at
// scale 1 where that is another one.
struct sample_parts_args {
	const float *logits;
	const struct sampling *how;
	struct part *parts; // [rows × 2 × count]
	long long stride;
	int count, vocabulary;
};
KERNEL(sample_parts, PART_THREADS) {
	SHARED float shared[5 * PART_WARPS];
	float z[PART_EACH], scale = a.how[BLOCK].inverse;
	struct part *parts = a.parts + 2LL * BLOCK * a.count + BLOCK_Y;
	read_part(z, a.logits + BLOCK * a.stride, BLOCK_Y * PART, a.vocabulary);
	float m = part_most(z, shared);
	sum_part(parts, z, m, scale, shared + PART_WARPS);
	if (scale != 1.0f) sum_part(parts + a.count, z, m, 1.0f, shared + 3 * PART_WARPS);
}

// sample_bins sums one part of one row by bins, where something is cut: blocks of rows by parts. A thread counts in columns of its
// own.
enum { BIN_THREADS = 128, BIN_EACH = PART / BIN_THREADS };

struct sample_bins_args {
	const float *logits;
	const struct sampling *how;
	const struct part *parts;
	struct bins *bins; // [rows × count]
	long long stride;
	int count, vocabulary;
};

// write_bins adds up the columns. Four lanes have a bin, and go through its columns from other places each, in other banks.
FN void write_bins(struct bins *to, long long amounts[BINS][BIN_THREADS], unsigned short counts[BINS][BIN_THREADS]) {
	int bin = THREAD / 4, from = THREAD % 4 * 32, count = 0;
	long long amount = 0;
	for (int i = 0; i < 32; i++) {
		int column = from + ((i + LANE) & 31);
		amount += amounts[bin][column];
		count += counts[bin][column];
	}
	for (int mask = 2; mask > 0; mask /= 2) {
		amount += shuffle_xor_long(amount, mask);
		count += shuffle_xor_int(count, mask);
	}
	if (THREAD % 4 != 0) return;
	to->amounts[bin] = amount;
	to->counts[bin] = count;
}

KERNEL(sample_bins, BIN_THREADS) {
	SHARED long long amounts[BINS][BIN_THREADS];
	SHARED unsigned short counts[BINS][BIN_THREADS];
	struct sampling how = a.how[BLOCK];
	if (!cuts(how)) return;
	const struct part *parts = a.parts + 2LL * BLOCK * a.count;
	const float *logits = a.logits + BLOCK * a.stride;
	float top = -INFINITE, z[BIN_EACH];
	UNROLL
	for (int i = 0; i < BIN_EACH; i++) {
		int at = BLOCK_Y * PART + i * BIN_THREADS + THREAD;
		z[i] = at < a.vocabulary ? logits[at] : -INFINITE;
	}
	for (int i = LANE; i < a.count; i += 32) top = parts[i].most > top ? parts[i].most : top;
	top = warp_most(top);
	UNROLL
	for (int bin = 0; bin < BINS; bin++) {
		amounts[bin][THREAD] = 0;
		counts[bin][THREAD] = 0;
	}
	UNROLL
	for (int i = 0; i < BIN_EACH; i++) {
		float t = centered(z[i], top, how.inverse);
		int bin = bin_of(t);
		if (bin == BINS) continue;
		amounts[bin][THREAD] += units(near_exponential(t));
		counts[bin][THREAD]++;
	}
	barrier();
	write_bins(a.bins + (long long)BLOCK * a.count + BLOCK_Y, amounts, counts);
}

// sample_rows chooses a token for each row: one block a row.
struct sample_rows_args {
	const float *logits;
	const struct sampling *how;
	const struct part *parts;
	const struct bins *bins;
	int *tokens; // 0 where the row has no distribution, so that a table may be read at it
	struct sampled *out;
	long long stride;
	int count, vocabulary;
};

KERNEL(sample_rows, ROW_THREADS) {
	SHARED union {
		struct cutting cutting;
		struct choice choice;
	} work;
	SHARED struct distribution of[2]; // at the row's scale, and at 1
	struct sampling how = a.how[BLOCK];
	const struct part *parts = a.parts + 2LL * BLOCK * a.count;
	struct row r = {a.logits + BLOCK * a.stride, parts, a.bins + (long long)BLOCK * a.count, a.vocabulary, a.count, {1.0f, 0.0f, 0.0f, 0.0f}};
	for (int which = WARP; which < 2; which += THREADS / 32) {
		int own = which == 0 || how.inverse == 1.0f;
		struct distribution merged = merge(own ? parts : parts + a.count, a.count, own ? how.inverse : 1.0f);
		if (LANE == 0) of[which] = merged;
	}
	barrier();
	r.d = of[0];
	struct distribution plain = of[1];
	struct sampled *out = a.out + BLOCK;
	if (r.d.log_total != r.d.log_total || plain.log_total != plain.log_total) { // no distribution
		if (THREAD != 0) return;
		a.tokens[BLOCK] = 0;
		out->log_prob = out->sampling_log_prob = out->untempered_log_prob = out->entropy = NOT_A_NUMBER;
		return;
	}
	float log_total = r.d.log_total;
	int token;
	if (how.greedy) token = choose(&work.choice, r, 0.0, EQUALS);
	else if (!cuts(how)) token = choose(&work.choice, r, how.uniform, DRAWN);
	else token = choose_cut(&work.cutting, r, how, &log_total);
	if (THREAD != 0) return;
	float logit = r.logits[token];
	a.tokens[BLOCK] = token;
	out->log_prob = log_prob(r.d, logit);
	// The likeliest, whose weight is 1, is kept: the logarithm is never negative.
	out->sampling_log_prob = how.greedy ? 0.0f : centered(logit, r.d.top, r.d.scale) - log_total;
	out->untempered_log_prob = log_prob(plain, logit);
	out->entropy = r.d.entropy;
}
