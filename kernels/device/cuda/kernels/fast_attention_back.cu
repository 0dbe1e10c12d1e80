// The gradients of causal grouped-query attention over packed sequences on tensor cores (Dao 2023, arXiv 2307.08691).
//
// With P the shares and D = rowsum(dOut ⊙ out): dv = Pᵀ·dOut, ds = P ⊙ (dOut·vᵀ − D), dq = scale·ds·k, dk = scale·dsᵀ·q.
// P comes from scores and what the forward pass kept; P and ds are rounded to BF16 where they are left operands.
//
// One kernel has the gradient of queries, 3 products for each tile of queries and of positions, and the other those of
// keys and values, 4: so every sum is in one block's registers, which adds in order, and bits are the same from run to
// run. With 5 products the sums of queries would be added up in memory by blocks in the order in which they come, or
// would wait for each other. The floor is 7/5 of that: 14 operations an element of a head for each position that a query
// sees.
//
// Rows behind the last one of a block are 0. Between a position and the queries of its tile that do not see it, of its own
// sequence, shares are 0: what is not a number in such a row spreads to the others of its tile.
#include "fast_attention.h"

// fast_attend_back_queries: queries of a block, 32 of each warp, and positions that are brought at a time.
#define QUERIES 128
#define POSITIONS 32

// fast_attend_back_keys: positions of a block, 32 of each two warps, and queries that are brought at a time.
#define OWN_POSITIONS 64
#define PASSING 48

SHARED float block_dots[QUERIES];
SHARED float passing[2][FAST_THREADS] __attribute__((aligned(8))); // what was kept of passing queries, then D

// Queries pass a thread of the second kernel so many at a time: FAST_THREADS / (WIDE / 8), of which it copies pieces, and
// PASSING, of which it reads what was kept or D. So far apart are then elements in q and d_out, and numbers in kept and
// dots, and heads; where heads come to share, they are share fewer and elements `over` further.
struct passing_steps {
	long long q, q_over, d_out, d_out_over;
	int heads, kept, kept_over, kept_heads;
};

// Both kernels take the same. kept is what Attend kept: the logarithm to base 2 of the sum that the softmax divides by, of
// each query head of each row. dots are D of the same: the first kernel writes them, the second reads them.
#define FAST_ATTEND_BACK_ARGS(name)                                                                                   \
	struct name {                                                                                                 \
		bf16 *dq, *dk, *dv;                                                                                   \
		const bf16 *d_out, *out, *q, *k, *v;                                                                  \
		const int *offsets;                                                                                   \
		const float *kept;                                                                                    \
		float *dots;                                                                                          \
		long long dq_stride, dk_stride, dv_stride, d_out_stride, out_stride, q_stride, k_stride, v_stride;    \
		int sequences, key_heads, share, dim;                                                                 \
		float scale, factor; /* of products: times log₂ e, and as it is */                                    \
		struct passing_steps steps; /* of the second kernel */                                                \
	};

FN float float_of_half(unsigned pair, int high) { return float_of(high ? pair & 0xffff0000u : pair << 16); }

// dot_of_pieces is the product of 8 and 8 elements.
FN float dot_of_pieces(const bf16 *x, const bf16 *y) {
	four_words v = *(const four_words *)x, w = *(const four_words *)y;
	float dot = 0.0f;
	UNROLL for (int i = 0; i < 8; i++) dot = multiply_add(float_of_half(v[i / 2], i % 2), float_of_half(w[i / 2], i % 2), dot);
	return dot;
}

#define WIDE 64
#include "fast_attention_back_body.h"
#undef WIDE
#define WIDE 128
#include "fast_attention_back_body.h"
