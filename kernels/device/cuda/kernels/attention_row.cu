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

#define TYPE f32
#include "attention_row_body.h"
#undef TYPE
#define TYPE bf16
#include "attention_row_body.h"
