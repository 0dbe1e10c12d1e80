// Attention of several new rows of a sequence over its pages, in BF16 on tensor cores: that of fast_attention.cu, with keys
// and values gathered from pages and with the positions that the cache held before the rows.
//
// 4 operations an element of a head for each position that a query sees. Positions behind the block's last query, where the
// cache may hold no numbers, are 0. Those between a query and the block's last one, of its own sequence, have share 0: what is
// not a number in their values spreads to the query.
#include "fast_attention.h"

#define PAGE 32      // positions of a page
#define QUERIES 128  // of a block
#define POSITIONS 64 // that are brought at a time

#define FAST_TILE_ARGS(name)                                                                               \
	struct name {                                                                                      \
		bf16 *out;                                                                                 \
		const bf16 *q, *pages;                                                                     \
		const int *offsets, *cached, *starts, *tables;                                             \
		long long out_stride, q_stride, page;                                                      \
		int sequences, key_heads, share, dim;                                                      \
		int skip_ones; /* sequences of one row are not this kernel's */                            \
		int at_once;   /* out can be written 16 bytes at a time */                                 \
		float scale;   /* of the products, times log2 e; positive */                               \
	};

#define WIDE 64
#include "fast_pages_tile.h"
#undef WIDE
#define WIDE 128
#include "fast_pages_tile.h"
