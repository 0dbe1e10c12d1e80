// Finding a token in a part, and in a row of which nothing is cut.
#ifndef SAMPLE_CHOOSE_H
#define SAMPLE_CHOOSE_H

#include "sample.h"

// What choosing leaves on its way.
struct choice {
	double shares[LANES], fraction;
	long long amounts[ROW_THREADS], groups[LANES], before;
	int part, owner, token;
};

// What tokens are counted by: 1 for one of the likeliest of a row; the weight beside the likeliest of its part; the weight beside
// the likeliest of the row, of what is kept and not too light; 1 for one with the border's key.
enum { EQUALS, DRAWN, KEPT, ALIKE };

struct counting {
	int what;
	float top; // the largest logit, of the row or of the part
	struct border border;
	float lightest;
};

// counted is what a token counts for.
FN long long counted(struct row r, struct counting by, float logit, int id) {
	if (by.what == EQUALS) return logit == by.top;
	if (by.what == ALIKE) return key(logit) == by.border.key;
	float w = exponential(centered(logit, by.top, r.d.scale));
	if (by.what == KEPT && !(kept(by.border, key(logit), id) && w >= by.lightest)) return 0;
	return units(w);
}

// A thread has EACH_OWN tokens of a part, one after the other.
#define EACH_OWN ((PART + THREADS - 1) / THREADS)

// count_part counts the tokens of a part: c->amounts are those of each thread, c->groups those of 16 threads.
FN void count_part(struct choice *c, struct row r, int part, struct counting by) {
	int first = part * PART, last = least(r.vocabulary, first + PART);
	int own = least(last, first + THREAD * EACH_OWN), end = least(last, own + EACH_OWN);
	long long amount = 0;
	for (int id = own; id < end; id++) amount += counted(r, by, r.logits[id], id);
	for (int i = THREAD; i < ROW_THREADS; i += THREADS) c->amounts[i] = i == THREAD ? amount : 0;
	barrier();
	if (THREAD < LANES) {
		long long sum = 0;
		for (int i = 0; i < ROW_THREADS / LANES; i++) sum += c->amounts[THREAD * (ROW_THREADS / LANES) + i];
		c->groups[THREAD] = sum;
	}
	barrier();
}

// choose_owner is the thread with whose tokens the sum over ids first exceeds the threshold, and what those in front of them lack
// to it. A single thread calls it.
FN void choose_owner(struct choice *c, long long threshold) {
	int group = 0;
	while (group < LANES - 1 && c->groups[group] <= threshold) threshold -= c->groups[group++];
	int owner = group * (ROW_THREADS / LANES);
	while (owner < ROW_THREADS - 1 && c->amounts[owner] <= threshold) threshold -= c->amounts[owner++];
	c->owner = owner;
	c->before = threshold;
}

// choose_token is the owner's token with which the sum first exceeds the threshold. All threads of the block get it.
FN int choose_token(struct choice *c, struct row r, int part, struct counting by) {
	barrier();
	if (THREAD == c->owner) {
		int first = part * PART, last = least(r.vocabulary, first + PART);
		int id = least(last, first + THREAD * EACH_OWN), end = least(last, id + EACH_OWN);
		long long threshold = c->before;
		for (; id < end - 1; id++) {
			long long amount = counted(r, by, r.logits[id], id);
			if (amount > threshold) break;
			threshold -= amount;
		}
		c->token = id;
	}
	barrier();
	return c->token;
}

// share is what a part counts for in choose: the weight of its tokens, or 1 where it has the likeliest.
FN double share(struct row r, int part, int what) {
	const struct part *p = r.parts + part;
	if (what == EQUALS) return p->most == r.d.top ? 1.0 : 0.0;
	return (double)p->total * (double)exponential(centered(p->most, r.d.top, r.d.scale));
}

// choose_part is the part with which the sum of the shares first exceeds a share of all of them, and how far into the part
// that is. Rounding may leave the sum below; it is the last part with any share then. A single thread calls it.
FN void choose_part(struct choice *c, struct row r, double uniform, int what) {
	double all = 0.0, before = 0.0, from = 0.0, own = 0.0;
	for (int i = 0; i < LANES; i++) all = all + c->shares[i];
	double threshold = uniform * all;
	int lane = 0, each = (r.count + LANES - 1) / LANES;
	for (int i = 0; i < LANES && before <= threshold; i++) {
		if (c->shares[i] == 0.0) continue;
		lane = i;
		from = before;
		before = before + c->shares[i];
	}
	before = from;
	int last = least(r.count, (lane + 1) * each);
	for (int i = lane * each; i < last && before <= threshold; i++) {
		double s = share(r, i, what);
		if (s == 0.0) continue;
		c->part = i;
		from = before;
		own = s;
		before = before + s;
	}
	double fraction = (threshold - from) / own;
	c->fraction = fraction < 0.0 ? 0.0 : fraction < 1.0 ? fraction : 1.0;
}

// choose is the token at which the inverse of a row's whole distribution is read, or the first of the likeliest. All threads
// of the block get it.
FN int choose(struct choice *c, struct row r, double uniform, int what) {
	if (WARP == 0) {
		int each = (r.count + LANES - 1) / LANES, last = least(r.count, (LANE + 1) * each);
		double sum = 0.0;
		for (int i = LANE * each; i < last; i++) sum = sum + share(r, i, what);
		c->shares[LANE] = sum;
	}
	barrier();
	if (THREAD == 0) choose_part(c, r, uniform, what);
	barrier();
	struct counting by = {what, r.parts[c->part].most, {0, 0}, 0.0f};
	int part = c->part;
	count_part(c, r, part, by);
	if (THREAD == 0) {
		long long all = 0;
		for (int i = 0; i < LANES; i++) all += c->groups[i];
		long long threshold = (long long)(c->fraction * (double)all);
		choose_owner(c, threshold < all ? threshold : all - 1);
	}
	return choose_token(c, r, part, by);
}

#endif
