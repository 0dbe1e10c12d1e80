// Sampling: one block a row. Tokens stand in order of likelihood: larger logits first, of equal ones the smaller id.
// Cuts keep the head of this order, found without sorting: by the digits of the border's logit, most
// significant first, each read off sums over all tokens. Weights are summed as whole numbers, so that no order of
// summation matters. A row is read some 20 times at most, after the first time from a cache.
#include "head.h"

enum { DIGITS = 16, DIGIT_BITS = 4 };

// UNITS is what the weight of the likeliest token, 1, counts as: 2²³ tokens fit. Lighter ones than 2⁻⁴⁰ are never drawn.
#define UNITS 1099511627776.0f

// How a row's token is chosen; the words of sample.go.
struct sampling {
	double uniform;
	float inverse, top_p, min_p;
	int top_k, greedy, unused;
};

struct sampled {
	int token;
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

// A row on its way to a token.
struct row {
	const float *logits;
	int vocabulary;
	struct distribution d;
};

// key is a logit as a number that is larger for larger logits and the same for both zeros.
FN unsigned key(float logit) {
	unsigned u = bits_of(logit + 0.0f);
	return u >> 31 ? ~u : u | 0x80000000u;
}

// A border is the last token kept: of tokens with its key those with ids up to its own stay.
struct border {
	unsigned key;
	int id;
};

FN int kept(struct border b, unsigned k, int id) { return k > b.key || (k == b.key && id <= b.id); }

FN float weight(struct row r, float logit) { return exponential(centered(logit, r.d.top, r.d.scale)); }
FN long long units(float w) { return (long long)(w * UNITS); }

// A tally adds up what the threads of a block have counted of each digit.
struct tally {
	long long amounts[DIGITS][PART_THREADS];
	unsigned short counts[DIGITS][PART_THREADS];
	long long amount_of[DIGITS][DIGITS];
	int count_of[DIGITS][DIGITS];
	long long amount[DIGITS];
	int count[DIGITS];
};

// add_up leaves the sums in t->amount and t->count. The next call may follow at once.
FN void add_up(struct tally *t, const long long *amounts, const int *counts) {
	UNROLL
	for (int d = 0; d < DIGITS; d++) {
		t->amounts[d][THREAD] = amounts[d];
		t->counts[d][THREAD] = (unsigned short)counts[d];
	}
	barrier();
	for (int s = THREAD; s < DIGITS * DIGITS; s += THREADS) {
		int digit = s / DIGITS, part = s % DIGITS, count = 0;
		long long amount = 0;
		for (int i = part; i < THREADS; i += DIGITS) {
			amount += t->amounts[digit][i];
			count += t->counts[digit][i];
		}
		t->amount_of[digit][part] = amount;
		t->count_of[digit][part] = count;
	}
	barrier();
	if (THREAD < DIGITS) {
		int count = 0;
		long long amount = 0;
		for (int i = 0; i < DIGITS; i++) {
			amount += t->amount_of[THREAD][i];
			count += t->count_of[THREAD][i];
		}
		t->amount[THREAD] = amount;
		t->count[THREAD] = count;
	}
	barrier();
}

// What find looks through the tokens for.
enum { EQUALS, DRAWN };

// find is the first token with which a sum over ids exceeds the threshold, which the sum over all does: a sum of the weights
// in units of what is kept and not too light, or of 1 for each token with the border's key.
FN int find(struct tally *t, struct row r, struct border b, float lightest, int what, long long threshold) {
	int lo = 0, hi = r.vocabulary;
	while (hi - lo > 1) {
		int step = (hi - lo + DIGITS - 1) / DIGITS, counts[DIGITS];
		long long amounts[DIGITS];
		UNROLL
		for (int d = 0; d < DIGITS; d++) {
			long long amount = 0;
			for (int i = THREAD; i < step && lo + d * step + i < hi; i += THREADS) {
				int id = lo + d * step + i;
				float logit = r.logits[id], w = weight(r, logit);
				unsigned k = key(logit);
				if (what == EQUALS) amount += k == b.key;
				else if (kept(b, k, id) && w >= lightest) amount += units(w);
			}
			amounts[d] = amount;
			counts[d] = 0;
		}
		add_up(t, amounts, counts);
		int d = 0;
		while (d < DIGITS - 1 && t->amount[d] <= threshold) threshold -= t->amount[d++];
		lo += d * step;
		hi = least(hi, lo + step);
	}
	return lo;
}

// What cut counts of each token: one, or its weight in units.
enum { TOKENS, WEIGHTS };

// cut is the border of the fewest likeliest tokens of those kept so far that count for the goal, which is at
// least 1 and at most what all of them count for.
FN struct border cut(struct tally *t, struct row r, struct border before, int what, long long goal) {
	struct border b = {0, 0x7fffffff};
	for (int shift = 32 - DIGIT_BITS;; shift -= DIGIT_BITS) {
		long long amounts[DIGITS];
		int counts[DIGITS];
		UNROLL
		for (int d = 0; d < DIGITS; d++) {
			amounts[d] = 0;
			counts[d] = 0;
		}
		for (int id = THREAD; id < r.vocabulary; id += THREADS) {
			float logit = r.logits[id];
			unsigned k = key(logit), digit = k >> shift;
			if ((digit ^ b.key >> shift) >= DIGITS || !kept(before, k, id)) continue; // other digits in front
			long long amount = what == TOKENS ? 1 : units(weight(r, logit));
			UNROLL
			for (int d = 0; d < DIGITS; d++) {
				int hit = (digit & (DIGITS - 1)) == (unsigned)d;
				amounts[d] += hit ? amount : 0;
				counts[d] += hit;
			}
		}
		add_up(t, amounts, counts);
		int d = DIGITS - 1;
		while (d > 0 && t->amount[d] < goal) goal -= t->amount[d--];
		b.key |= (unsigned)d << shift;
		long long amount = t->amount[d];
		int count = t->count[d];
		if (count <= 1 || goal >= amount) break; // all tokens from here on stay
		if (shift > 0) continue;
		long long each = amount / count, tokens = (goal + each - 1) / each; // equally likely ones
		if (tokens < count) b.id = find(t, r, b, 0.0f, EQUALS, tokens - 1);
		break;
	}
	return kept(before, b.key, b.id) ? b : before;
}

// weigh_kept counts the weights of what is kept and of all tokens, in units.
FN void weigh_kept(struct tally *t, struct row r, struct border b, float lightest, long long *some, long long *all) {
	long long amounts[DIGITS];
	int counts[DIGITS];
	UNROLL
	for (int d = 0; d < DIGITS; d++) {
		amounts[d] = 0;
		counts[d] = 0;
	}
	for (int id = THREAD; id < r.vocabulary; id += THREADS) {
		float logit = r.logits[id], w = weight(r, logit);
		long long amount = units(w);
		amounts[1] += amount;
		if (kept(b, key(logit), id) && w >= lightest) amounts[0] += amount;
	}
	add_up(t, amounts, counts);
	*some = t->amount[0];
	*all = t->amount[1];
}

// sample_rows chooses a token for each row: one block a row.
struct sample_rows_args {
	const float *logits;
	const struct sampling *how;
	const struct part *parts;
	struct sampled *out;
	long long stride;
	int count, vocabulary;
};
KERNEL(sample_rows, PART_THREADS) {
	SHARED struct tally t;
	SHARED struct distribution of[2]; // at the row's scale, and at 1
	struct sampling how = a.how[BLOCK];
	struct row r = {a.logits + BLOCK * a.stride, a.vocabulary, {1.0f, 0.0f, 0.0f, 0.0f}};
	for (int which = WARP; which < 2; which += THREADS / 32) {
		int own = which == 0 || how.inverse == 1.0f;
		const struct part *parts = a.parts + (2LL * BLOCK + (own ? 0 : 1)) * a.count;
		struct distribution merged = merge(parts, a.count, own ? how.inverse : 1.0f);
		if (LANE == 0) of[which] = merged;
	}
	barrier();
	r.d = of[0];
	struct distribution plain = of[1];
	struct sampled *out = a.out + BLOCK;
	if (r.d.log_total != r.d.log_total || plain.log_total != plain.log_total) { // no distribution
		if (THREAD != 0) return;
		out->token = -1;
		out->log_prob = out->sampling_log_prob = out->untempered_log_prob = out->entropy = NOT_A_NUMBER;
		return;
	}
	struct border b = {0, 0x7fffffff};
	long long some = 0, all = 0, threshold = 0;
	if (how.greedy) {
		b.key = key(r.d.top);
	} else {
		if (how.top_k > 0) b = cut(&t, r, b, TOKENS, how.top_k);
		if (how.top_p < 1.0f) {
			weigh_kept(&t, r, b, 0.0f, &some, &all);
			double share = (double)how.top_p * (double)some;
			long long goal = (long long)share;
			goal += (double)goal < share; // at least 1
			b = cut(&t, r, b, WEIGHTS, goal);
		}
		weigh_kept(&t, r, b, how.min_p, &some, &all);
		threshold = (long long)(how.uniform * (double)some);
		if (threshold >= some) threshold = some - 1; // 2⁵³ units and more may be rounded up
	}
	int token = find(&t, r, b, how.min_p, how.greedy ? EQUALS : DRAWN, threshold);
	if (THREAD != 0) return;
	float logit = r.logits[token], drawn = 0.0f;
	if (!how.greedy) { // the likeliest, whose weight is 1, is kept: the logarithm is never negative
		float log_total = some == all ? r.d.log_total : logarithm((float)some * (1.0f / UNITS));
		drawn = centered(logit, r.d.top, r.d.scale) - log_total;
	}
	out->token = token;
	out->log_prob = log_prob(r.d, logit);
	out->sampling_log_prob = drawn;
	out->untempered_log_prob = log_prob(plain, logit);
	out->entropy = r.d.entropy;
}
