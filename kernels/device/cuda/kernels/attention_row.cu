// Attention over pages of the one new row of a sequence that decodes, with the bits of attention.cu: a block computes
// a part, of 8 pages, for the query heads that share a key head, and then the parts are joined in order.
//
// Keys and values are read once: the floor is their bytes.
#include "attention.h"

#define ROW_SHARE 8 // the most query heads that share a key head
#define WIDEST 256  // columns of a head
#define ROW_WARPS (ATTENTION_THREADS / 32)

SHARED four row_keys[ROW_WARPS * TILE * PITCH]; // a tile for each warp; then the scores, by query head and position
SHARED four row_queries[ROW_SHARE * WIDEST / 4];
SHARED float row_tops[PART][ROW_SHARE], row_raised[PART][ROW_SHARE], row_sums[PART][ROW_SHARE];

// Of each part and query head: its sums, one a column, then its largest score and its sum of exponentials.
FN long long part_size(int dim) { return dim + 2; }

// row_part is a part's pages and how many positions of it the row sees.
struct row_part {
	const int *table;
	int positions;
};

FN int sequence_of_part(const int *parts_before, int sequences, int part) {
	int low = 0, high = sequences - 1;
	while (low < high) {
		int middle = (low + high + 1) / 2;
		if (parts_before[middle] <= part) low = middle;
		else high = middle - 1;
	}
	return low;
}

// row_terms turns scores into the terms of the softmax, with the largest score up to their tile.
FN void row_terms(float s[2][ROW_SHARE], int positions, int share, float *terms) {
	UNROLL for (int round = 0; round < 2; round++) {
		int tile = WARP + round * ROW_WARPS;
		UNROLL for (int h = 0; h < ROW_SHARE; h++) {
			if (h >= share || tile * TILE >= positions) continue;
			float top = -INFINITE, raised = 0.0f;
			UNROLL_BY(1)
			for (int t = 0; t <= tile; t++) raised = raise(&top, row_tops[t][h]);
			float term = tile * TILE + LANE < positions ? exponential(s[round][h] - score_of_zero(top)) : 0.0f;
			float sum = warp_sum(term);
			terms[h * PART * TILE + tile * TILE + LANE] = term;
			if (LANE != 0) continue;
			row_raised[tile][h] = raised;
			row_sums[tile][h] = sum;
		}
	}
}

// row_softmax is that of a query head over a part.
FN struct softmax row_softmax(int positions, int h) {
	struct softmax all = softmax_of_none();
	for (int tile = 0; tile * TILE < positions; tile++) {
		float raised = raise(&all.top, row_tops[tile][h]);
		all.sum = multiply_add(all.sum, raised, row_sums[tile][h]);
	}
	return all;
}

#define TYPE f32
#include "attention_row_body.h"
#undef TYPE
#define TYPE bf16
#include "attention_row_body.h"
