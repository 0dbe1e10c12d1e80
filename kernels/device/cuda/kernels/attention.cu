// Causal grouped-query attention over packed sequences or over the pages of a cache. Both are one kernel, and so have
// the same bits.
//
// The softmax of a query is computed tile by tile of 32 positions, 8 tiles are a part, and the parts are joined in
// order. So a query that is alone in its sequence, as when it decodes, may have its parts computed at the same time:
// that is attention_row.cu.
#include "attention.h"

SHARED four left_tile[TILE * PITCH], right_tile[TILE * PITCH];
SHARED float scores[TILE * SHARE_PITCH] __attribute__((aligned(16)));

#define BODY "attention_body.h"
#include "attention_shapes.h"
