// The token of a row of which something is cut. Nothing is sorted: the bins of the row say in which the border lies; the border
// of a bin is then looked for in ranges of keys, eight at a time, until no more tokens are left than a block has threads, each
// of which finds the place of one among them. Parts without a token of the bin are not read.
#ifndef SAMPLE_CUT_H
#define SAMPLE_CUT_H

#include "sample_choose.h"

// A warp reads SPAN logits of a part at a time, a lane 4 · GROUPS of them. A row has up to MOST_PARTS parts.
enum { RANGES = 8, GROUPS = 4, SPAN = 128 * GROUPS, MOST_PARTS = 4096 };

// NO_ID is above all ids.
#define NO_ID 0x7fffffff

// What a cut leaves on its way.
struct cutting {
	union {
		struct {
			long long amounts[RANGES][ROW_THREADS];
			unsigned short counts[RANGES][ROW_THREADS];
		} columns; // what each thread has counted
		struct {
			long long amounts[ROW_WARPS][BINS];
			int counts[ROW_WARPS][BINS];
		} rows; // what each warp has of the bins
		struct {
			unsigned keys[ROW_THREADS];
			int ids[ROW_THREADS];
			long long amounts[ROW_THREADS];
		} left; // tokens one of which is the border
		long long sums[MOST_PARTS]; // what parts count for
		struct choice choice;
	} of;
	struct bins all;           // of the row
	long long amounts[RANGES]; // of the columns
	int counts[RANGES];
	int own[ROW_WARPS]; // how many of the tokens left each warp has
	long long groups[LANES];
	long long amount;
	struct border border;
};

// read_span reads a lane's logits of a span: z[4·i + j] is that of token first + SPAN_ID(i, j); −∞, which counts for nothing, behind
// the last.
#define SPAN_ID(i, j) (128 * (i) + 4 * LANE + (j))
FN void read_span(float *z, struct row r, int first) {
	if (first + SPAN <= r.vocabulary && ((unsigned long long)r.logits & 15) == 0) { // without branches between the reads
		UNROLL
		for (int i = 0; i < GROUPS; i++) {
			four v = *(const four *)(r.logits + first + SPAN_ID(i, 0));
			UNROLL
			for (int j = 0; j < 4; j++) z[4 * i + j] = v[j];
		}
		return;
	}
	UNROLL
	for (int i = 0; i < 4 * GROUPS; i++) {
		int at = first + SPAN_ID(i / 4, i % 4);
		z[i] = at < r.vocabulary ? r.logits[at] : -INFINITE;
	}
}

// EACH_PART goes through the parts of a warp, EACH_SPAN through a part.
#define EACH_PART(p) for (int p = WARP; p < r.count; p += THREADS / 32)
#define EACH_SPAN(first, p) for (int first = (p) * PART; first < least(r.vocabulary, ((p) + 1) * PART); first += SPAN)

// sum_bins leaves the bins of the row in c->all.
FN void sum_bins(struct cutting *c, struct row r) {
	long long amount = 0;
	int count = 0;
	UNROLL_BY(4)
	EACH_PART(p) {
		amount += r.bins[p].amounts[LANE];
		count += r.bins[p].counts[LANE];
	}
	c->of.rows.amounts[WARP][LANE] = amount;
	c->of.rows.counts[WARP][LANE] = count;
	barrier();
	if (WARP == 0) {
		for (int i = 1; i < THREADS / 32; i++) {
			amount += c->of.rows.amounts[i][LANE];
			count += c->of.rows.counts[i][LANE];
		}
		c->all.amounts[LANE] = amount;
		c->all.counts[LANE] = count;
	}
	barrier();
}

// least_key is the least key of a token in a bin or in one of the likelier ones: of any number, not only of the row's logits.
FN unsigned least_key(struct row r, int bin) {
	unsigned lo = 0x00800000u, hi = key(r.d.top); // of the least finite number, and of the likeliest token
	while (lo < hi) {
		unsigned middle = lo + (hi - lo) / 2;
		if (bin_of(centered(logit_of(middle), r.d.top, r.d.scale)) <= bin) hi = middle;
		else lo = middle + 1;
	}
	return hi;
}

// Keys from lo to hi, of tokens in a bin.
struct range {
	int bin;
	unsigned lo, hi;
};

FN int inside(struct range of, struct border before, unsigned k, int id) { return k >= of.lo && k <= of.hi && kept(before, k, id); }

// count_ranges counts what is kept of a range in ranges of 2^shift keys each, into c->amounts and c->counts.
FN void count_ranges(struct cutting *c, struct row r, struct border before, struct range of, int shift) {
	UNROLL
	for (int d = 0; d < RANGES; d++) {
		c->of.columns.amounts[d][THREAD] = 0;
		c->of.columns.counts[d][THREAD] = 0;
	}
	EACH_PART(p) {
		if (r.bins[p].counts[of.bin] == 0) continue;
		EACH_SPAN(first, p) {
			float z[4 * GROUPS];
			read_span(z, r, first);
			UNROLL
			for (int i = 0; i < 4 * GROUPS; i++) {
				unsigned k = key(z[i]);
				if (!inside(of, before, k, first + SPAN_ID(i / 4, i % 4))) continue;
				unsigned d = (k - of.lo) >> shift;
				c->of.columns.amounts[d][THREAD] += units(weight(r, z[i]));
				c->of.columns.counts[d][THREAD]++;
			}
		}
	}
	barrier();
	for (int d = WARP; d < RANGES; d += THREADS / 32) {
		long long amount = 0;
		int count = 0;
		for (int i = LANE; i < THREADS; i += 32) {
			amount += c->of.columns.amounts[d][i];
			count += c->of.columns.counts[d][i];
		}
		amount = warp_sum_long(amount);
		count = warp_sum_int(count);
		if (LANE == 0) {
			c->amounts[d] = amount;
			c->counts[d] = count;
		}
	}
	barrier();
}

// gather leaves what is kept of a range in c->of.left, in no particular order, and returns for how many tokens to look there. own
// is how many of the range this warp has, at least; where it has fewer there are gaps, which have NO_ID.
FN int gather(struct cutting *c, struct row r, struct border before, struct range of, int own) {
	if (LANE == 0) c->own[WARP] = own;
	barrier();
	int at = 0, all = 0;
	for (int w = 0; w < THREADS / 32; w++) {
		if (w < WARP) at += c->own[w];
		all += c->own[w];
	}
	c->of.left.ids[THREAD] = NO_ID;
	c->of.left.keys[THREAD] = 0;
	c->of.left.amounts[THREAD] = 0;
	barrier();
	EACH_PART(p) {
		if (r.bins[p].counts[of.bin] == 0) continue;
		EACH_SPAN(first, p) {
			float z[4 * GROUPS];
			read_span(z, r, first);
			int mine = 0;
			UNROLL
			for (int i = 0; i < 4 * GROUPS; i++) mine += inside(of, before, key(z[i]), first + SPAN_ID(i / 4, i % 4));
			int upto = mine;
			for (int lanes = 1; lanes < 32; lanes *= 2) {
				int others = shuffle_int(upto, LANE - lanes);
				if (LANE >= lanes) upto += others;
			}
			int to = at + upto - mine;
			at += shuffle_int(upto, 31);
			if (mine == 0) continue;
			UNROLL
			for (int i = 0; i < 4 * GROUPS; i++) {
				unsigned k = key(z[i]);
				int id = first + SPAN_ID(i / 4, i % 4);
				if (!inside(of, before, k, id)) continue;
				c->of.left.keys[to] = k;
				c->of.left.ids[to] = id;
				c->of.left.amounts[to++] = units(weight(r, z[i]));
			}
		}
	}
	barrier();
	return all;
}

// What cut counts of each token: one, or its weight in units.
enum { TOKENS, WEIGHTS };

// rank leaves that of the n tokens left in c->border which, with all likelier ones, is the first to count for the goal, and what
// they weigh together in c->amount.
FN void rank(struct cutting *c, int n, int what, long long goal) {
	if (THREAD < n && c->of.left.ids[THREAD] != NO_ID) {
		struct border own = {c->of.left.keys[THREAD], c->of.left.ids[THREAD]};
		long long amount = 0, count = 0;
		for (int i = 0; i < n; i++) {
			int ahead = kept(own, c->of.left.keys[i], c->of.left.ids[i]); // itself too
			amount += ahead ? c->of.left.amounts[i] : 0;
			count += ahead;
		}
		long long before = amount - c->of.left.amounts[THREAD];
		if (what == TOKENS ? count == goal : before < goal && goal <= amount) {
			c->border = own;
			c->amount = amount;
		}
	}
	barrier();
}

// sum_parts leaves sums of c->of.sums in c->groups, for part_at, and returns the sum of all.
FN long long sum_parts(struct cutting *c, struct row r) {
	int each = (r.count + LANES - 1) / LANES;
	barrier();
	if (WARP == 0) {
		long long sum = 0;
		for (int i = LANE * each; i < least(r.count, (LANE + 1) * each); i++) sum += c->of.sums[i];
		c->groups[LANE] = sum;
	}
	barrier();
	long long all = 0;
	for (int i = 0; i < LANES; i++) all += c->groups[i];
	return all;
}

// token_at is the token with which a sum over ids first exceeds the threshold; c->of.sums are those of the parts.
FN int token_at(struct cutting *c, struct row r, struct counting by, long long threshold) {
	int group = 0;
	while (group < LANES - 1 && c->groups[group] <= threshold) threshold -= c->groups[group++];
	int part = group * ((r.count + LANES - 1) / LANES);
	while (part < r.count - 1 && c->of.sums[part] <= threshold) threshold -= c->of.sums[part++];
	barrier();
	count_part(&c->of.choice, r, part, by);
	if (THREAD == 0) choose_owner(&c->of.choice, threshold);
	return choose_token(&c->of.choice, r, part, by);
}

// nth_alike is the n-th token with a key, from 0 on, that is in a bin.
FN int nth_alike(struct cutting *c, struct row r, unsigned alike, int bin, long long n) {
	EACH_PART(p) {
		int count = 0;
		if (r.bins[p].counts[bin] > 0) {
			EACH_SPAN(first, p) {
				float z[4 * GROUPS];
				read_span(z, r, first);
				UNROLL
				for (int i = 0; i < 4 * GROUPS; i++) count += key(z[i]) == alike;
			}
		}
		count = warp_sum_int(count);
		if (LANE == 0) c->of.sums[p] = count;
	}
	sum_parts(c, r);
	return token_at(c, r, (struct counting){ALIKE, r.d.top, {alike, NO_ID}, 0.0f}, n);
}

// cut is the border of the fewest likeliest tokens of those kept so far that count for the goal, which is at least 1 and at most
// what all of them count for. amount becomes what they weigh.
FN struct border cut(struct cutting *c, struct row r, struct border before, int what, long long goal, long long *amount) {
	struct range of = {0, 0, key(r.d.top)};
	long long sum = 0;
	for (; of.bin < BINS - 1; of.bin++) {
		long long all = what == TOKENS ? c->all.counts[of.bin] : c->all.amounts[of.bin];
		if (goal <= all) break; // what was cut before is no likelier than the border
		goal -= all;
		sum += c->all.amounts[of.bin];
	}
	int n = c->all.counts[of.bin], own = 0;
	of.lo = least_key(r, of.bin);
	if (of.bin > 0) of.hi = least_key(r, of.bin - 1) - 1;
	EACH_PART(p) own += r.bins[p].counts[of.bin];
	while (n > THREADS && of.lo < of.hi) {
		int shift = 0;
		while ((of.hi - of.lo) >> shift >= RANGES) shift++;
		count_ranges(c, r, before, of, shift);
		int d = (int)((of.hi - of.lo) >> shift);
		for (; d > 0; d--) {
			long long all = what == TOKENS ? c->counts[d] : c->amounts[d];
			if (goal <= all) break;
			goal -= all;
			sum += c->amounts[d];
		}
		n = c->counts[d];
		own = warp_sum_int(c->of.columns.counts[d][THREAD]);
		of.lo += (unsigned)d << shift;
		unsigned last = of.lo + (1u << shift) - 1;
		if (last < of.hi) of.hi = last;
	}
	if (of.lo == of.hi) { // equally likely ones
		long long each = units(weight(r, logit_of(of.lo))), tokens = what == TOKENS ? goal : (goal + each - 1) / each;
		*amount = sum + tokens * each;
		int id = tokens < n ? nth_alike(c, r, of.lo, of.bin, tokens - 1) : NO_ID;
		barrier();
		struct border b = {of.lo, id};
		return kept(before, b.key, b.id) ? b : before;
	}
	n = gather(c, r, before, of, own);
	rank(c, n, what, goal);
	*amount = sum + c->amount;
	return c->border;
}

// weigh_parts leaves in c->of.sums what is kept of each part and not too light. Most bins are kept whole or not at all; the tokens of
// the others are read.
FN void weigh_parts(struct cutting *c, struct row r, struct border b, float lightest) {
	int last = b.key == 0 ? BINS : bin_of(centered(logit_of(b.key), r.d.top, r.d.scale));
	float most = near_exponential(-edge(LANE)), fewest = near_exponential(-edge(LANE + 1)); // weights in this lane's bin, but for rounding
	int none = LANE > last || most < lightest * 0.999f, whole = !none && LANE < last && fewest >= lightest * 1.001f;
	unsigned read = warp_or((unsigned)(!none && !whole) << LANE);
	EACH_PART(p) {
		long long amount = whole ? r.bins[p].amounts[LANE] : 0;
		if (warp_or(!none && !whole && r.bins[p].counts[LANE] > 0)) {
			EACH_SPAN(first, p) {
				float z[4 * GROUPS];
				read_span(z, r, first);
				UNROLL
				for (int i = 0; i < 4 * GROUPS; i++) {
					float t = centered(z[i], r.d.top, r.d.scale);
					int bin = bin_of(t);
					if (bin == BINS || !(read >> bin & 1) || !kept(b, key(z[i]), first + SPAN_ID(i / 4, i % 4))) continue;
					float w = near_exponential(t);
					amount += w >= lightest ? units(w) : 0;
				}
			}
		}
		amount = warp_sum_long(amount);
		if (LANE == 0) c->of.sums[p] = amount;
	}
}

// choose_cut is the token that is drawn of what the cuts of a row leave. log_total becomes the logarithm of the weight of that.
FN int choose_cut(struct cutting *c, struct row r, struct sampling how, float *log_total) {
	struct border b = {0, NO_ID};
	sum_bins(c, r);
	long long all = 0, some;
	int tokens = 0;
	for (int i = 0; i < BINS; i++) {
		all += c->all.amounts[i];
		tokens += c->all.counts[i];
	}
	some = all;
	for (int what = TOKENS; what <= WEIGHTS; what++) {
		long long goal = how.top_k;
		if (what == TOKENS ? goal == 0 || goal >= tokens : !(how.top_p < 1.0f)) continue;
		if (what == WEIGHTS) {
			double share = (double)how.top_p * (double)some;
			goal = (long long)share;
			goal += (double)goal < share; // at least 1
		}
		b = cut(c, r, b, what, goal, &some);
	}
	weigh_parts(c, r, b, how.min_p);
	some = sum_parts(c, r);
	long long threshold = (long long)(how.uniform * (double)some);
	if (threshold >= some) threshold = some - 1; // 2⁵³ units and more may be rounded up
	if (some != all) *log_total = logarithm((float)some * (1.0f / UNITS));
	return token_at(c, r, (struct counting){KEPT, r.d.top, b, how.min_p}, threshold);
}

#endif
