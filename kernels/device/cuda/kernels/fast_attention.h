// What fast kernels of attention share: tiles of BF16 in shared memory, their products by the warps of a block of
// FAST_THREADS threads, and the softmax of scores as tensor cores leave them.
//
// A query is one head of one row: query m of a sequence and a key head is head m mod share of row m / share, where share
// query heads read each key head. So keys and values that were brought to shared memory serve all of them.
//
// Rows of a tile have width columns, 64 or 128, and what a head lacks of them is 0. Columns are in pieces of 8, which are
// 16 bytes: piece c of row r is at place c xor r mod 8 of the row, so that neither 8 rows of one piece, as load_tiles reads
// them, nor a row meet in a bank of shared memory.
//
// With g = lane / 4 and t = lane mod 4, a thread has of m tiles of 16 left rows and n tiles of 8 right rows the sums
// s[i·n + j][e], i < m, j < n: left row 16i + g + 8·(e / 2), right row 8j + 2t + e mod 2.
#ifndef FAST_ATTENTION_H
#define FAST_ATTENTION_H

#include "tensor.h"

#define FAST_THREADS 128
#define FAST_INFINITE float_of(0x7f800000u)

// SIZED(name) is name_64 or name_128, by WIDE.
#define SIZED_JOIN(x, y, z) x##y##z
#define SIZED_JOINED(x, y, z) SIZED_JOIN(x, y, z)
#define SIZED(name) SIZED_JOINED(name, _, WIDE)
#define SIZED_KERNEL(name, threads) KERNEL(name, threads)
#define SIZED_ARGS(name) SIZED_JOINED(name, _, SIZED_JOINED(WIDE, _, args))

// 4, 8 and 16 bytes at once.
typedef unsigned one_word __attribute__((may_alias));
typedef float two_floats __attribute__((vector_size(8), may_alias));
typedef unsigned four_words __attribute__((vector_size(16), may_alias));

// anew is x, of which the compiler is not told that: what is computed of it is computed there, and not before a loop, in
// whose registers it would then be kept.
FN int anew(int x) {
#ifdef __CUDA__
	__asm__ volatile("" : "+r"(x));
#endif
	return x;
}

// tiles_before is how many tiles of so many queries a sequence begins behind, counting one more for each sequence before
// it: no sequence has more tiles than there are up to the next one's.
FN int tiles_before(const int *offsets, int sequence, int share, int size) {
	return (int)((long long)offsets[sequence] * share / size) + sequence;
}

// find_sequence says which sequence a tile belongs to and which of its tiles it is; it may be one too many.
FN int find_sequence(const int *offsets, int sequences, int share, int size, int tile, int *own) {
	int low = 0, high = sequences - 1;
	while (low < high) {
		int middle = (low + high + 1) / 2;
		if (tiles_before(offsets, middle, share, size) <= tile) low = middle;
		else high = middle - 1;
	}
	*own = tile - tiles_before(offsets, low, share, size);
	return low;
}

FN bf16 *piece_at(bf16 *tile, int width, int row, int piece) { return tile + row * width + ((piece ^ (row & 7)) << 3); }

// A corner is the piece that a thread copies first to a tile, whose rows have width / 8: the next is FAST_THREADS / (width / 8)
// rows further. left is how many of so many rows there are from its own on, 0 where a head has no such columns.
struct corner {
	int row, piece;
};
FN struct corner own_corner(int width) {
	unsigned thread = (unsigned)anew(THREAD), pieces = (unsigned)width / 8;
	struct corner c = {(int)(thread / pieces), (int)(thread % pieces)};
	return c;
}
FN int rows_left(struct corner c, int rows, int dim) { return anew(8 * c.piece < dim ? rows - c.row : 0); }

// bring_on begins to copy the thread's pieces of so many rows to a tile, and leaves p, at the first, at that of the row
// behind them. Rows from `there` on become 0.
FN void bring_on(bf16 *tile, int count, const bf16 **p, long long stride, int there, int dim, int width) {
	struct corner c = own_corner(width);
	int left = rows_left(c, there, dim);
	bf16 *to = piece_at(tile, width, c.row, c.piece);
	UNROLL for (int i = 0; i < count; i += FAST_THREADS / (width / 8)) {
		copy_later(to + i * width, *p, i < left ? 16 : 0);
		*p += FAST_THREADS / (width / 8) * stride;
	}
}

// bring_rows begins to copy so many rows to a tile. Rows from `there` on become 0.
FN void bring_rows(bf16 *tile, int count, const bf16 *from, long long stride, int there, int dim, int width) {
	struct corner c = own_corner(width);
	const bf16 *p = from + c.row * stride + 8 * c.piece;
	bring_on(tile, count, &p, stride, there, dim, width);
}

// A walk goes through a tile's queries as a thread copies its pieces of them: step queries further each time, with no
// division.
struct walk {
	int query, row, head, step;
};

FN struct walk walk_from(int query, int share, int width) {
	int pieces = width / 8;
	struct walk w;
	w.query = query + THREAD / pieces;
	w.row = w.query / share;
	w.head = w.query % share;
	w.step = FAST_THREADS / pieces;
	return w;
}

// walk_on goes on; rows and heads are step / share and step mod share.
FN void walk_on(struct walk *w, int share, int rows, int heads) {
	w->query += w->step;
	w->row += rows;
	w->head += heads;
	if (w->head >= share) {
		w->head -= share;
		w->row++;
	}
}

// bring_queries begins to copy so many queries of one or two matrices to tiles, from where the walk is. Queries from total on
// become 0.
FN void bring_queries(bf16 *tile, const bf16 *from, long long stride, bf16 *tile_2, const bf16 *from_2, long long stride_2,
	int count, struct walk w, int share, int total, int dim, int width) {
	int pieces = width / 8, piece = THREAD % pieces, rows = w.step / share, heads = w.step % share;
	int to = THREAD / pieces * width + ((piece ^ (THREAD / pieces & 7)) << 3);
	UNROLL_BY(4)
	for (int i = 0; i < count; i += FAST_THREADS / pieces) {
		int bytes = w.query < total && 8 * piece < dim ? 16 : 0;
		long long column = w.head * dim + 8 * piece;
		copy_later(tile + to + i * width, from + w.row * stride + column, bytes);
		if (tile_2) copy_later(tile_2 + to + i * width, from_2 + w.row * stride_2 + column, bytes);
		walk_on(&w, share, rows, heads);
	}
}

// A place is where the rows that a lane names to load_tiles are, of 16 rows and two neighbouring pieces.
struct place {
	int row, piece; // row: times width; piece: xor the row's number, below 8
};

// left_place is for the four matrices of a left tile: rows 0-7 and 8-15 of the first piece, then of the second. Turned, it is
// for two right tiles of 16 rows and 8 columns each. right_place is for two right tiles of 8 rows and 16 columns each, which
// are the columns and rows of the product's right operand.
FN struct place left_place(int width) {
	int lane = anew(LANE);
	struct place p = {(lane & 15) * width, (lane >> 4) ^ (lane & 7)};
	return p;
}
FN struct place right_place(int width) {
	int lane = anew(LANE);
	struct place p = {((lane & 7) + (lane >> 4) * 8) * width, (lane >> 3 & 1) ^ (lane & 7)};
	return p;
}

// afresh makes places of pieces be computed where they are used, instead of being kept in registers all through a loop.
FN struct place afresh(struct place p) {
	p.piece = anew(p.piece);
	return p;
}

// pieces_of is the lane's row of the even piece and the one behind it, from a row on whose number is a multiple of 8.
FN const bf16 *pieces_of(const bf16 *rows, struct place p, int piece) { return rows + p.row + ((p.piece ^ (piece & 7)) << 3) + 8 * (piece & 8); }

FN void clear_tiles(float (*s)[4], int count) {
	UNROLL for (int i = 0; i < count; i++)
		UNROLL for (int e = 0; e < 4; e++) s[i][e] = 0.0f;
}

// multiply_rows adds the products of m tiles of 16 left rows and n tiles of 8 right rows to their sums; m is 1 or 2, n even.
// A tile is read while tensor cores have the one before it.
FN void multiply_rows(float (*s)[4], int m, int n, const bf16 *left, struct place l, const bf16 *right, struct place r, int width) {
	unsigned x[2][2][4], y[2][4];
	UNROLL for (int i = 0; i < m; i++) load_tiles(x[0][i], pieces_of(left + 16 * i * width, l, 0));
	load_tiles(y[0], pieces_of(right, r, 0));
	UNROLL for (int c = 0; c < width / 8; c += 2)
		UNROLL for (int j = 0; j < n; j += 2) {
			int at = c / 2 * (n / 2) + j / 2, next_c = j + 2 < n ? c : c + 2, next_j = j + 2 < n ? j + 2 : 0;
			if (next_c < width / 8) {
				if (next_c != c)
					UNROLL for (int i = 0; i < m; i++) load_tiles(x[next_c / 2 % 2][i], pieces_of(left + 16 * i * width, l, next_c));
				load_tiles(y[(at + 1) % 2], pieces_of(right + 8 * next_j * width, r, next_c));
			}
			UNROLL for (int i = 0; i < m; i++) {
				multiply_tiles(s[i * n + j], x[c / 2 % 2][i], y[at % 2]);
				multiply_tiles(s[i * n + j + 1], x[c / 2 % 2][i], y[at % 2] + 2);
			}
		}
}

// round_tiles rounds the sums of n tiles beside each other, which become n/2 left tiles of a product.
FN void round_tiles(unsigned (*p)[4], float (*s)[4], int n) {
	UNROLL for (int j = 0; j < n / 2; j++) {
		p[j][0] = pair_bf16(s[2 * j][0], s[2 * j][1]);
		p[j][1] = pair_bf16(s[2 * j][2], s[2 * j][3]);
		p[j][2] = pair_bf16(s[2 * j + 1][0], s[2 * j + 1][1]);
		p[j][3] = pair_bf16(s[2 * j + 1][2], s[2 * j + 1][3]);
	}
}

// rounded_tile is element e of tile j of what round_tiles rounded.
FN float rounded_tile(unsigned (*p)[4], int j, int e) {
	unsigned pair = p[j / 2][j % 2 * 2 + e / 2];
	return float_of(e % 2 ? pair & 0xffff0000u : pair << 16);
}

// mix_rows adds 16·steps right rows, weighed by m · steps left tiles, to m · width/8 tiles of sums. r is left_place.
FN void mix_rows(float (*sum)[4], unsigned (*p)[4], int m, int steps, const bf16 *right, struct place r, int width) {
	unsigned y[2][4];
	load_tiles_turned(y[0], pieces_of(right, r, 0));
	UNROLL for (int k = 0; k < steps; k++)
		UNROLL for (int c = 0; c < width / 8; c += 2) {
			int at = k * (width / 16) + c / 2, next = at + 1, next_k = next / (width / 16), next_c = next % (width / 16) * 2;
			if (next_k < steps) load_tiles_turned(y[next % 2], pieces_of(right + 16 * next_k * width, r, next_c));
			UNROLL for (int i = 0; i < m; i++) {
				multiply_tiles(sum[i * (width / 8) + c], p[i * steps + k], y[at % 2]);
				multiply_tiles(sum[i * (width / 8) + c + 1], p[i * steps + k], y[at % 2] + 2);
			}
		}
}

// hide makes products −∞ of positions that queries do not see: a thread has queries 16i + g + 8r as number 2i + r, and
// number x sees positions before visible[x].
FN void hide(float (*s)[4], int m, int n, const int *visible) {
	int column = 2 * (anew(LANE) & 3);
	UNROLL for (int i = 0; i < m * n; i++)
		UNROLL for (int e = 0; e < 4; e++)
			if (column + i % n * 8 + e % 2 >= visible[i / n * 2 + e / 2]) s[i][e] = -FAST_INFINITE;
}

// larger is the larger of two numbers, and the other one of what is not a number.
#ifdef __CUDA__
FN float larger(float x, float y) { return __nvvm_fmax_f(x, y); }
#else
FN float larger(float x, float y) { return y > x || x != x ? y : x; }
#endif

// soften turns the products of m tiles of 16 queries, `next` tiles apart, and n tiles of 8 positions into terms of the softmax, 2 to
// scale · (product − top), where top is the largest so far. Where it rises, the sum of terms and the mixed values so far, of so
// many tiles of 8 columns, are multiplied by what the old terms are worth; in long sequences there are tiles in which no top
// rises. top and sum are by the queries' numbers as in hide, and sum is of the thread's own positions alone. scale is positive.
FN void soften(float (*s)[4], int m, int n, int next, float scale, float *top, float *sum, float (*mixed)[4], int columns) {
	float most[4];
	int rises = 0;
	UNROLL for (int x = 0; x < 2 * m; x++) {
		most[x] = -FAST_INFINITE;
		UNROLL for (int j = 0; j < n; j++)
			UNROLL for (int e = x % 2 * 2; e < x % 2 * 2 + 2; e++) most[x] = larger(most[x], s[x / 2 * next + j][e]);
		UNROLL for (int mask = 1; mask < 4; mask *= 2) most[x] = larger(most[x], shuffle_xor(most[x], mask));
		rises |= most[x] > top[x];
	}
	if (rises) {
		UNROLL for (int x = 0; x < 2 * m; x++) {
			float raised = 1.0f;
			if (most[x] > top[x]) {
				raised = power_of_two((top[x] - most[x]) * scale);
				top[x] = most[x];
			}
			sum[x] = sum[x] * raised;
			UNROLL for (int j = 0; j < columns; j++)
				UNROLL for (int e = x % 2 * 2; e < x % 2 * 2 + 2; e++) mixed[x / 2 * columns + j][e] = mixed[x / 2 * columns + j][e] * raised;
		}
	}
	UNROLL for (int x = 0; x < 2 * m; x++) {
		float zero = top[x] == -FAST_INFINITE ? 0.0f : top[x] * scale, more = 0.0f;
		UNROLL for (int j = 0; j < n; j++)
			UNROLL for (int e = x % 2 * 2; e < x % 2 * 2 + 2; e++) {
				float term = power_of_two(multiply_add(s[x / 2 * next + j][e], scale, -zero));
				s[x / 2 * next + j][e] = term;
				more = more + term;
			}
		sum[x] = sum[x] + more;
	}
}

// mix_half is mix_rows of two tiles of 16 queries, `next` tiles of products apart, by n tiles of 8 positions, which it rounds.
FN void mix_half(float (*sum)[4], float (*s)[4], int n, int next, const bf16 *right, struct place r, int width) {
	unsigned shares[4][4]; // of 2 tiles of queries and up to 2 of 16 positions
	round_tiles(shares, s, n);
	round_tiles(shares + n / 2, s + next, n);
	mix_rows(sum, shares, 2, n / 2, right, r, width);
}

// whole_sum adds the sums of the four threads that have the same queries.
FN float whole_sum(float v) {
	v += shuffle_xor(v, 1);
	return v + shuffle_xor(v, 2);
}

// put_tiles writes m tiles of 16 rows by width/8 tiles of 8 columns, times a factor for each row of the thread, to rows of
// a tile of shared memory, which only the warp has read since the last barrier.
FN void put_tiles(bf16 *rows, float (*sum)[4], int m, const float *factor, int width) {
	warp_barrier(); // the other lanes have read what was there
	int g = LANE >> 2, t = LANE & 3;
	UNROLL for (int i = 0; i < m; i++)
		UNROLL for (int j = 0; j < width / 8; j++)
			UNROLL for (int r = 0; r < 2; r++)
				*(one_word *)(rows + (16 * i + 8 * r + g) * width + ((j ^ g) << 3) + 2 * t) =
					pair_bf16(sum[i * (width / 8) + j][2 * r] * factor[2 * i + r], sum[i * (width / 8) + j][2 * r + 1] * factor[2 * i + r]);
}

// send_piece writes 8 columns to where 16 bytes may be written at once, or may not.
FN void send_piece(bf16 *to, const bf16 *from, int at_once) {
	if (at_once) *(four_words *)to = *(const four_words *)from;
	else
		for (int e = 0; e < 8; e++) to[e] = from[e];
}

// send_queries writes so many queries of a tile to a matrix, send_rows so many rows.
FN void send_queries(bf16 *to, long long stride, bf16 *tile, int count, struct walk w, int share, int total, int dim, int width, int at_once) {
	int pieces = width / 8, row = THREAD / pieces, piece = THREAD % pieces, rows = w.step / share, heads = w.step % share;
	for (int i = 0; i < count; i += FAST_THREADS / pieces) {
		if (w.query < total && 8 * piece < dim)
			send_piece(to + w.row * stride + w.head * dim + 8 * piece, piece_at(tile, width, row + i, piece), at_once);
		walk_on(&w, share, rows, heads);
	}
}
FN void send_rows(bf16 *to, long long stride, bf16 *tile, int count, int there, int dim, int width) {
	int pieces = width / 8, row = THREAD / pieces, piece = THREAD % pieces;
	for (int i = row; i < count && i < there; i += FAST_THREADS / pieces)
		if (8 * piece < dim) send_piece(to + i * stride + 8 * piece, piece_at(tile, width, i, piece), 1);
}

#endif
