// Attention over pages of the one new row of a sequence that decodes, in BF16 on tensor cores. A block computes a part, of 8
// pages, and a key head, for the query heads of all sequences that have the part's pages in common, up to 8; the parts of
// a row are joined in order by a second kernel. A row's bits are the same whoever shares its parts.
//
// The floor is the bytes of keys and values, those of a shared part once. Each warp has a quarter of the positions to itself
// and brings them to its own shared memory, so that warps wait for nobody: the keys of its next step come while the values
// of this one are weighed. 4 blocks of 36 KiB on a multiprocessor have some 100 KB under way.
//
// Positions behind the row have shares and values of 0: what the cache holds there, which may be no number, does not
// spread.
#include "fast_attention.h"

#define ROW_WARPS (FAST_THREADS / 32)
#define PART_PAGES 8
#define PAGE 32    // positions of a page
#define STEP 16    // positions that a warp looks at at a time
#define QUERIES 16 // of a block

// ROW_BLOCKS is how many blocks a multiprocessor has at a time, so that enough copies are under way: 128 registers a thread.
#define ROW_BLOCKS 4
#define SIZED_PACKED(name, threads, blocks) KERNEL_PACKED(name, threads, blocks)

SHARED float warp_tops[ROW_WARPS][QUERIES], warp_sums[ROW_WARPS][QUERIES];
SHARED int part_pages[PART_PAGES];

// An item is a part of a sequence, or of several that have its pages in common: so many members from a first one on, of how
// many positions, whose pages are in tables from an index on. There is room for more items than there are: those have no
// members. A member is its row and the place of its part among the parts of all rows.
struct row_item { int first, members, count, table; };
struct row_member { int row, part; };

#define FAST_ROW_ARGS(name)                                                    \
	struct name {                                                          \
		float *parts;                                                  \
		const bf16 *q, *pages;                                         \
		const struct row_item *items;                                  \
		const struct row_member *members;                              \
		const int *tables;                                             \
		long long q_stride, page;                                      \
		int key_heads, share, dim;                                     \
		int tiles;   /* how many blocks the queries of an item have */ \
		float scale; /* of the products, times log2 e; positive */     \
	};

#define WIDE 64
#include "fast_pages_row.h"
#undef WIDE
#define WIDE 128
#include "fast_pages_row.h"

struct fast_attend_join_args {
	bf16 *out;
	const float *parts;
	const int *offsets, *parts_before;
	long long out_stride;
	int heads, dim;
};

// fast_attend_join has a block for each sequence and query head.
KERNEL(fast_attend_join, FAST_THREADS) {
	int from = a.parts_before[BLOCK], to = a.parts_before[BLOCK + 1];
	if (from == to) return;
	long long next = (long long)a.heads * (a.dim + 2);
	const float *first = a.parts + ((long long)from * a.heads + BLOCK_Y) * (a.dim + 2), *p = first;
	float top = -FAST_INFINITE;
	UNROLL_BY(4)
	for (int i = from; i < to; i++, p += next) top = p[a.dim] > top ? p[a.dim] : top;
	float zero = top == -FAST_INFINITE ? 0.0f : top;
	for (int column = THREAD; column < a.dim; column += FAST_THREADS) {
		float mixed = 0.0f, total = 0.0f;
		p = first;
		UNROLL_BY(4)
		for (int i = from; i < to; i++, p += next) {
			float weight = power_of_two(p[a.dim] - zero);
			total = multiply_add(p[a.dim + 1], weight, total);
			mixed = multiply_add(p[column], weight, mixed);
		}
		store_bf16(a.out + a.offsets[BLOCK] * a.out_stride + (long long)BLOCK_Y * a.dim + column, mixed / total);
	}
}
