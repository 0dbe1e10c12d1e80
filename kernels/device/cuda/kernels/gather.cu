// Rows out of a table and back into it, by numbers that only the device knows.
#include "variant.h"

// Sums are rounded to the table's type after each row, so that they do not depend on how rows are cut into calls.
#define ROUNDED_f32(v) (v)
#define ROUNDED_bf16(v) float_of((unsigned)round_bf16(v) << 16)

// Four elements of a row from a column on that is a multiple of 4. Where whole is false they are read one by one, and those behind the
// last column are 0.
typedef unsigned words __attribute__((vector_size(8), may_alias));

FN void read_f32(float *v, const float *from, int column, int width, int whole) {
	if (whole) {
		four all = *(const four *)(from + column);
		FOUR(i) v[i] = all[i];
		return;
	}
	FOUR(i) v[i] = column + i < width ? from[column + i] : 0.0f;
}

FN void read_bf16(float *v, const bf16 *from, int column, int width, int whole) {
	if (whole) {
		words w = *(const words *)(from + column);
		FOUR(i) v[i] = float_of(i & 1 ? w[i / 2] & 0xffff0000u : w[i / 2] << 16);
		return;
	}
	FOUR(i) v[i] = column + i < width ? load_bf16(from + column + i) : 0.0f;
}

FN void write_f32(float *to, const float *v, int column, int width, int whole) {
	if (whole) {
		*(four *)(to + column) = (four){v[0], v[1], v[2], v[3]};
		return;
	}
	FOUR(i) if (column + i < width) to[column + i] = v[i];
}

FN void write_bf16(bf16 *to, const float *v, int column, int width, int whole) {
	if (whole) {
		words w;
		UNROLL for (int i = 0; i < 2; i++) w[i] = (unsigned)round_bf16(v[2 * i]) | (unsigned)round_bf16(v[2 * i + 1]) << 16;
		*(words *)(to + column) = w;
		return;
	}
	FOUR(i) if (column + i < width) store_bf16(to + column + i, v[i]);
}

// WHOLE reports whether four elements from a column on are all there, and where they can be read at once.
#define WHOLE(rows, stride, column) \
	((column) + 4 <= a.width && \
	 (((unsigned long long)(rows) | (unsigned long long)(stride) * sizeof *(rows)) & (4 * sizeof *(rows) - 1)) == 0)

// A thread of a block of 128 has columns four at a time, in TWO groups, so that those of a warp lie side by side.
#define TWO(g) UNROLL for (int g = 0; g < 2; g++)
#define GROUP(g) (column + 512 * (g))

// Rows are added in the order of their numbers, those of one number in ascending order. To that end they are sorted by number,
// DIGIT_BITS at a time: sort_tiles sorts each tile of TILE rows, and place_tiles puts the digits of all tiles together. Where there is
// one tile, sort_tiles sorts it by all bits, and that is all.
enum { TILE = 512, DIGIT_BITS = 9, DIGITS = 1 << DIGIT_BITS, TILE_WARPS = TILE / 32 };

struct sort_tiles_args {
	const int *index; // the numbers of rows, for the first digit; else absent
	int *status;
	int *keys, *order; // numbers and rows, in order; what the last digit's place_tiles wrote, but for the first
	int *counts;       // [tiles × DIGITS]; of each digit in each tile
	int rows, limit;   // numbers that are not below limit come behind all others, as limit
	int shift, bits;
};

// upto is the sum of v over the threads of a block up to this one. of is for a number of each warp.
FN int upto(int v, int *of) {
	for (int lanes = 1; lanes < 32; lanes *= 2) {
		int before = shuffle_int(v, LANE - lanes);
		if (LANE >= lanes) v += before;
	}
	if (LANE == 31) of[WARP] = v;
	barrier();
	for (int warp = 0; warp < TILE_WARPS; warp++) v += warp < WARP ? of[warp] : 0;
	return v;
}

// Keys behind the last row are above all others, and stay behind them.
#define BEHIND 0x7fffffff

// runs leaves where the rows of each digit begin and end, of those that a tile has.
FN void runs(int *begins, int *ends, const int *keys, int rows, int shift) {
	begins[THREAD] = ends[THREAD] = 0;
	barrier();
	int digit = keys[THREAD] >> shift & (DIGITS - 1);
	if (THREAD < rows) {
		if (THREAD == 0 || (keys[THREAD - 1] >> shift & (DIGITS - 1)) != digit) begins[digit] = THREAD;
		if (THREAD == rows - 1 || (keys[THREAD + 1] >> shift & (DIGITS - 1)) != digit) ends[digit] = THREAD + 1;
	}
	barrier();
}

KERNEL(sort_tiles, TILE) {
	SHARED int keys[TILE], order[TILE], begins[DIGITS], ends[DIGITS], sums[2][TILE_WARPS];
	int row = BLOCK * TILE + THREAD, key = BEHIND, own = row;
	if (row < a.rows) {
		key = a.index ? a.index[row] : a.keys[row];
		if (!a.index) own = a.order[row];
		if (key < 0 || key >= a.limit) {
			if (a.index) complain(a.status, BAD_INDEX, row, key);
			key = a.limit;
		}
	}
	for (int bit = 0; bit < a.bits; bit++) { // zeros first, in their order
		int one = key >> (a.shift + bit) & 1, ones = upto(one, sums[bit & 1]), all = 0;
		for (int warp = 0; warp < TILE_WARPS; warp++) all += sums[bit & 1][warp];
		int to = one ? TILE - all + ones - 1 : THREAD - ones;
		keys[to] = key;
		order[to] = own;
		barrier();
		key = keys[THREAD];
		own = order[THREAD];
	}
	if (row < a.rows) {
		a.keys[row] = key;
		a.order[row] = own;
	}
	if (!a.counts) return;
	runs(begins, ends, keys, least(TILE, a.rows - BLOCK * TILE), a.shift);
	a.counts[BLOCK * DIGITS + THREAD] = ends[THREAD] - begins[THREAD];
}

// place_tiles has as many threads as there are digits.
struct place_tiles_args {
	const int *keys, *order, *counts;
	int *to_keys, *to_order;
	int rows, shift;
};

KERNEL(place_tiles, TILE) {
	SHARED int keys[TILE], begins[DIGITS], ends[DIGITS], bases[DIGITS], sums[TILE_WARPS];
	int row = BLOCK * TILE + THREAD, before = 0, all = 0;
	UNROLL_BY(8)
	for (int tile = 0; tile < BLOCKS; tile++) {
		int count = a.counts[tile * DIGITS + THREAD];
		before += tile < BLOCK ? count : 0;
		all += count;
	}
	keys[THREAD] = row < a.rows ? a.keys[row] : BEHIND;
	bases[THREAD] = upto(all, sums) - all + before;
	runs(begins, ends, keys, least(TILE, a.rows - BLOCK * TILE), a.shift);
	if (row >= a.rows) return;
	int digit = keys[THREAD] >> a.shift & (DIGITS - 1), to = bases[digit] + THREAD - begins[digit];
	a.to_keys[to] = keys[THREAD];
	a.to_order[to] = a.order[row];
}

// Rows of a number that has LONG of them and more are added by scatter_add_long, those of others by scatter_add.
enum { LONG = 128, LONG_THREADS = 256, LONG_COLUMNS = 32, LONG_STEPS = 4, LONG_ROWS = LONG_STEPS * LONG_THREADS * 4 / LONG_COLUMNS };

// first_at is the first place from lo on whose key is not below the key; keys ascend, and that at hi is not below it, or hi is
// behind the last.
FN int first_at(const int *keys, int lo, int hi, int key) {
	while (lo < hi) {
		int middle = lo + (hi - lo) / 2;
		if (keys[middle] < key) lo = middle + 1;
		else hi = middle;
	}
	return lo;
}

#define TABLE f32
#define ROW f32
#include "gather_body.h"
#undef ROW
#define ROW bf16
#include "gather_body.h"
#undef TABLE
#define TABLE bf16
#include "gather_body.h"
