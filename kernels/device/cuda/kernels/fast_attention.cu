// Causal grouped-query attention over packed sequences on tensor cores: FlashAttention-2 (Dao 2023, arXiv 2307.08691),
// whose online softmax is in base 2 and whose shares are rounded to BF16 before they weigh values.
//
// A block has 128 queries of a sequence and key head, a warp 32, and takes 64 positions at a time: the next keys and
// values come while tensor cores have the present ones. Each right tile that a warp reads from shared memory serves two
// left tiles, since tensor cores would else wait for shared memory. A query's tiles begin at its sequence's first row,
// so its bits depend on its own sequence alone.
//
// Positions behind the block's last query are 0. Those between a query and the block's last one, of its own sequence,
// have share 0: what is not a number in their values spreads to the query.
#include "fast_attention.h"

#define QUERIES 128   // of a block
#define POSITIONS 64  // that are brought at a time

#define WIDE 64
#include "fast_attention_body.h"
#undef WIDE
#define WIDE 128
#include "fast_attention_body.h"
