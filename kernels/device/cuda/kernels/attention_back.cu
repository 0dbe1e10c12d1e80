// The gradients of causal grouped-query attention over packed sequences. The shares are computed again, tile by tile:
// once for the gradient of queries, once for that of keys and values, so that every sum has one block that adds in order.
#include "attention.h"

SHARED four left_tile[TILE * PITCH], right_tile[TILE * PITCH];
SHARED float scores[TILE * SHARE_PITCH] __attribute__((aligned(16)));

// Both kernels take the same. statistics are, of each query head of each row, the score that becomes e⁰, 1 / the sum of
// exponentials, and D of attention_back_body.h: the first kernel writes them, the second reads them.
#define ATTEND_BACK_ARGS(name)                                                                                        \
	struct name {                                                                                                 \
		TYPE *dq, *dk, *dv;                                                                                   \
		const TYPE *d_out, *out, *q, *k, *v;                                                                  \
		const int *offsets;                                                                                   \
		four *statistics;                                                                                     \
		long long dq_stride, dk_stride, dv_stride, d_out_stride, out_stride, q_stride, k_stride, v_stride;    \
		int sequences, key_heads, share, dim;                                                                 \
		int fours;                                                                                            \
		float scale;                                                                                          \
	};

#define BODY "attention_back_body.h"
#include "attention_shapes.h"
