// What the kernels of attention share. A query is one head of one row: query m of a sequence and a key head is head
// m mod share of row m / share, where share query heads read each key head.
//
// A block's threads form a grid of 8 × 16. Where it computes scores of 32 left by 32 right rows, thread (y, x) has
// those of left rows 4y … 4y+3 and right rows x and x+16; where it mixes rows by them, columns 4x … 4x+3 of every
// chunk of 64, for left rows 4y … 4y+3.
//
// Positions that a query does not see take part in nothing: what is not a number in them does not spread.
#ifndef ATTENTION_H
#define ATTENTION_H

#include "variant.h"

#define TILE 32  // positions of a tile of keys, which is a page; queries of a tile of queries
#define CHUNK 64 // columns of a head that are in shared memory at a time
#define PART 8   // tiles whose softmax is computed on its own, before the parts are joined in order

#define PITCH 17       // fours from row to row of a tile: reads of 16 bytes in 8 rows fall into different banks
#define SHARE_PITCH 36 // numbers from row to row of a tile of scores
#define ATTENTION_THREADS 128

// tiles_before is how many tiles of so many rows a sequence begins behind, counting one more for each sequence before
// it: no sequence has more tiles than there are up to the next one's.
FN int tiles_before(const int *offsets, int sequence, int share) {
	return (int)((long long)offsets[sequence] * share / TILE) + sequence;
}

// find_sequence says which sequence a tile belongs to and which of its tiles it is; it may be one too many.
FN int find_sequence(const int *offsets, int sequences, int share, int tile, int *own) {
	int low = 0, high = sequences - 1;
	while (low < high) {
		int middle = (low + high + 1) / 2;
		if (tiles_before(offsets, middle, share) <= tile) low = middle;
		else high = middle - 1;
	}
	*own = tile - tiles_before(offsets, low, share);
	return low;
}

// lines are 32 rows that a block brings to shared memory: line i is head query mod share of row query / share, with
// query = from + i, of a matrix of so many rows. A thread keeps where its own four are.
struct lines {
	int from, share, dim, rows;
	int row[4], column[4];
};

FN struct lines lines_of(int from, int share, int dim, int rows) {
	struct lines l = {from, share, dim, rows, {0}, {0}};
	UNROLL for (int i = 0; i < 4; i++) {
		int query = from + THREAD / 16 + 8 * i;
		l.row[i] = query / share;
		l.column[i] = query % share * dim;
	}
	return l;
}

// add_products adds the products of left and right rows, chains over the columns in ascending order.
FN void add_products(float s[4][2], const four *left, const four *right, int columns) {
	const four *l = left + 4 * (THREAD / 16) * PITCH, *r = right + THREAD % 16 * PITCH;
	UNROLL_BY(2)
	for (int d = 0; d < columns; d += 4, l++, r++) {
		four x[4], y[2];
		UNROLL for (int i = 0; i < 4; i++) x[i] = l[i * PITCH];
		UNROLL for (int j = 0; j < 2; j++) y[j] = r[j * 16 * PITCH];
		UNROLL for (int e = 0; e < 4; e++)
			UNROLL for (int i = 0; i < 4; i++)
				UNROLL for (int j = 0; j < 2; j++) s[i][j] = multiply_add(x[i][e], y[j][e], s[i][j]);
	}
}

// mix adds right rows to the sums of left rows, weighed by the tile of scores, chains over the right rows in ascending
// order: those from low[i] up to high[i], or all of them.
FN void mix(float sum[4][4], const float *scores, const four *right, int all, const int low[4], const int high[4]) {
	const float *own = scores + 4 * (THREAD / 16) * SHARE_PITCH;
	const four *r = right + THREAD % 16;
	if (all) {
		UNROLL_BY(1)
		for (int k = 0; k < TILE; k += 4) {
			four w[4];
			UNROLL for (int i = 0; i < 4; i++) w[i] = *(const four *)(own + i * SHARE_PITCH + k);
			UNROLL for (int e = 0; e < 4; e++) {
				four v = r[(k + e) * PITCH];
				UNROLL for (int i = 0; i < 4; i++)
					UNROLL for (int j = 0; j < 4; j++) sum[i][j] = multiply_add(w[i][e], v[j], sum[i][j]);
			}
		}
		return;
	}
	UNROLL_BY(1)
	for (int k = 0; k < TILE; k++) {
		four v = r[k * PITCH];
		UNROLL for (int i = 0; i < 4; i++) {
			float w = own[i * SHARE_PITCH + k];
			int seen = k >= low[i] && k < high[i];
			UNROLL for (int j = 0; j < 4; j++) sum[i][j] = seen ? multiply_add(w, v[j], sum[i][j]) : sum[i][j];
		}
	}
}

FN void clear_sums(float sum[4][4]) {
	UNROLL for (int i = 0; i < 4; i++)
		UNROLL for (int j = 0; j < 4; j++) sum[i][j] = 0.0f;
}
FN void multiply_sums(float sum[4][4], const float factor[4]) {
	UNROLL for (int i = 0; i < 4; i++)
		UNROLL for (int j = 0; j < 4; j++) sum[i][j] = sum[i][j] * factor[i];
}

// put_scores writes a thread's scores to the tile of them.
FN void put_scores(float *scores, const float s[4][2]) {
	UNROLL for (int i = 0; i < 4; i++)
		UNROLL for (int j = 0; j < 2; j++)
			scores[(4 * (THREAD / 16) + i) * SHARE_PITCH + THREAD % 16 + 16 * j] = s[i][j];
}

// put_sums writes a thread's sums, times a factor for each left row, to a tile.
FN void put_sums(four *tile, float sum[4][4], const float factor[4]) {
	UNROLL for (int i = 0; i < 4; i++) {
		four v;
		UNROLL for (int j = 0; j < 4; j++) v[j] = sum[i][j] * factor[i];
		tile[(4 * (THREAD / 16) + i) * PITCH + THREAD % 16] = v;
	}
}

// The maximum and the sum over the 16 threads that have scores of the same left rows; 32 numbers are added as
// warp_sum adds them.
FN float most_of_row(float x, float y) {
	float v = y > x ? y : x;
	for (int mask = 8; mask > 0; mask /= 2) {
		float other = shuffle_xor(v, mask);
		v = other > v ? other : v;
	}
	return v;
}
FN float sum_of_row(float x, float y) {
	float v = x + y;
	for (int mask = 8; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
	return v;
}

// A softmax over positions that come tile by tile: the largest score so far and the sum of e to the score less it.
// raise takes the largest score of the next tile and returns what sums so far are multiplied by; score_of_zero is the
// score that becomes e⁰.
struct softmax {
	float top, sum;
};

FN struct softmax softmax_of_none(void) {
	struct softmax s;
	s.top = -INFINITE;
	s.sum = 0.0f;
	return s;
}
FN float score_of_zero(float top) { return top == -INFINITE ? 0.0f : top; }
FN float raise(float *top, float tile_top) {
	float was = *top;
	*top = tile_top > was ? tile_top : was;
	return exponential(was - score_of_zero(*top));
}

// join adds the softmax of the next part to that of the parts before it; sums are multiplied by weights.
FN void join(struct softmax *all, struct softmax part, float *weight_of_all, float *weight_of_part) {
	float top = part.top > all->top ? part.top : all->top, zero = score_of_zero(top);
	*weight_of_all = exponential(all->top - zero);
	*weight_of_part = exponential(part.top - zero);
	all->top = top;
	all->sum = multiply_add(part.sum, *weight_of_part, all->sum * *weight_of_all);
}

// weigh turns the products of a tile of keys into the terms of the softmax of four rows, which see so many of the keys; sums
// so far are to be multiplied by raised.
FN void weigh(float s[4][2], const int visible[4], float scale, struct softmax all[4], float raised[4]) {
	UNROLL for (int i = 0; i < 4; i++) {
		UNROLL for (int j = 0; j < 2; j++) s[i][j] = THREAD % 16 + 16 * j < visible[i] ? s[i][j] * scale : -INFINITE;
		raised[i] = raise(&all[i].top, most_of_row(s[i][0], s[i][1]));
		UNROLL for (int j = 0; j < 2; j++)
			s[i][j] = THREAD % 16 + 16 * j < visible[i] ? exponential(s[i][j] - score_of_zero(all[i].top)) : 0.0f;
		float more = sum_of_row(s[i][0], s[i][1]);
		all[i].sum = multiply_add(all[i].sum, raised[i], more);
	}
}

// Four elements at once, where addresses allow it.
typedef unsigned two_words __attribute__((vector_size(8), may_alias));
FN four load_four_f32(const f32 *p) { return *(const four *)p; }
FN four load_four_bf16(const bf16 *p) {
	two_words w = *(const two_words *)p;
	four v = {float_of(w[0] << 16), float_of(w[0] & 0xffff0000u), float_of(w[1] << 16), float_of(w[1] & 0xffff0000u)};
	return v;
}

// bring fills a tile with columns first … first+63 of lines; what is not there is 0.
#define BRING(TYPE)                                                                                                  \
	FN void bring_##TYPE(four *tile, const TYPE *matrix, long long stride, const struct lines *l, int first, int fours) { \
		const four zeros = {0.0f, 0.0f, 0.0f, 0.0f};                                                         \
		int column = first + THREAD % 16 * 4;                                                                \
		four *to = tile + THREAD / 16 * PITCH + THREAD % 16;                                                 \
		if (fours) {                                                                                         \
			four v[4];                                                                                   \
			UNROLL for (int i = 0; i < 4; i++)                                                           \
				v[i] = l->row[i] < l->rows && column < l->dim                                        \
				               ? load_four_##TYPE(matrix + l->row[i] * stride + l->column[i] + column) \
				               : zeros;                                                              \
			UNROLL for (int i = 0; i < 4; i++) to[8 * i * PITCH] = v[i];                                 \
			return;                                                                                      \
		}                                                                                                    \
		UNROLL_BY(1)                                                                                         \
		for (int i = 0; i < 16; i++) {                                                                       \
			int query = l->from + THREAD / 16 + i / 4 * 8, row = query / l->share, own = column + i % 4; \
			((float *)(to + i / 4 * 8 * PITCH))[i % 4] =                                                 \
				row < l->rows && own < l->dim                                                        \
					? load_##TYPE(matrix + row * stride + query % l->share * l->dim + own)       \
					: 0.0f;                                                                      \
		}                                                                                                    \
	} \
	/* send writes a tile to columns first … first+63 of lines, as far as they are there. */                            \
	FN void send_##TYPE(TYPE *matrix, long long stride, const struct lines *l, int first, const four *tile) {            \
		UNROLL_BY(1)                                                                                         \
		for (int i = THREAD; i < TILE * CHUNK; i += ATTENTION_THREADS) {                                     \
			int query = l->from + i / CHUNK, row = query / l->share, own = first + i % CHUNK;            \
			if (row < l->rows && own < l->dim)                                                           \
				store_##TYPE(matrix + row * stride + query % l->share * l->dim + own,                \
				             ((const float *)tile)[i / CHUNK * (4 * PITCH) + i % CHUNK]);            \
		}                                                                                                    \
	}
BRING(f32)
BRING(bf16)

// WIDE is the most columns of a head that a variant takes, a multiple of CHUNK.
#define CHUNKS (WIDE / CHUNK)
#define WIDELY(name) JOINED(JOINED(name##_, WIDE), JOINED(_, TYPE))
#define WIDE_ARGS(name) JOINED(WIDELY(name), _args)
#define BRING_ROWS JOINED(bring_, TYPE)
#define SEND_ROWS JOINED(send_, TYPE)

#endif
