// RMSNorm and SwiGLU.
#include "variant.h"

// block_sum_128 adds the values of a block's 128 threads in a fixed order; every thread gets the sum. parts has 4 numbers
// and is used once a block.
FN float block_sum_128(float v, float *parts) {
	v = warp_sum(v);
	if (LANE == 0) parts[WARP] = v;
	barrier();
	return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

#define TYPE f32
#include "layers_body.h"
#undef TYPE
#define TYPE bf16
#include "layers_body.h"
#undef TYPE

// norm_weight_grad adds dy·x·root of all rows to the gradient of a norm's weight.
#define OPERANDS const TYPE *dy, *x; const float *roots; long long dy_stride, x_stride;
#define TERM(row, column) (LOAD(a.dy + (row) * a.dy_stride + (column)) * (LOAD(a.x + (row) * a.x_stride + (column)) * a.roots[row]))
#define TYPE f32
#define NAME norm_weight_grad_f32
#include "column_sums.h"
#undef TYPE
#undef NAME
#define TYPE bf16
#define NAME norm_weight_grad_bf16
#include "column_sums.h"
