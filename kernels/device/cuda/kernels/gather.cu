// Rows out of a table and back into it, by numbers that only the device knows.
#include "variant.h"

// Sums are rounded to the table's type after each row, so that they do not depend on how rows are cut into calls.
#define ROUNDED_f32(v) (v)
#define ROUNDED_bf16(v) float_of((unsigned)round_bf16(v) << 16)

// A launch of scatter_add has at most so many rows, which a block searches for its number.
#define SEARCHED 1024

// find_rows lists the rows of a number, ascending, and returns how many there are; 0 for all but the first of these
// rows. A block of 128 threads calls it once; counts has 4 numbers.
FN int find_rows(const int *index, int rows, int row, int *found, int *counts) {
	int number = index[row], mine = 0, earlier = 0;
	UNROLL for (int i = SEARCHED / 128 * THREAD; i < SEARCHED / 128 * (THREAD + 1); i++)
		if (i < rows && index[i] == number) {
			earlier |= i < row;
			mine++;
		}
	// One sum of both, since there are fewer than 2¹⁶ rows.
	int own = mine + (earlier << 16), upto = own;
	for (int lanes = 1; lanes < 32; lanes *= 2) {
		int before = shuffle_int(upto, LANE - lanes);
		if (LANE >= lanes) upto += before;
	}
	if (LANE == 31) counts[WARP] = upto;
	barrier();
	int at = upto - own, all = 0;
	for (int warp = 0; warp < 4; warp++) {
		if (warp < WARP) at += counts[warp];
		all += counts[warp];
	}
	if (all >> 16) return 0;
	for (int i = SEARCHED / 128 * THREAD; i < SEARCHED / 128 * (THREAD + 1); i++)
		if (i < rows && index[i] == number) found[at++] = i;
	barrier();
	return all;
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
