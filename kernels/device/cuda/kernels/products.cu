// Matrix products and biases.
//
// Every element of a product is one chain of fused multiply-adds in float32, in ascending order of the steps, which
// begins with the element of base where there is one, which may be that of the result, and with 0 elsewhere. It is rounded to the type of the
// result once. So all kernels give the same bits, and which one computes is a question of speed alone.
//
//	result[row][column] (+)= Σ over steps of left(row, step)·right(column, step)
//
//	            row          column       step
//	product       row of x     output       input    y = x·wᵀ
//	product_back  row of dy    input        output   dx = dy·w
//	product_grad  output       input        row      dw += dyᵀ·x
//
// An element takes 2 operations a step. A tile of n×n takes 2n elements a step from memory, so that tiles of 128
// do 32 operations a byte of float32.
#include "dialect.h"

typedef float f32;

#define JOIN(a, b) a##b
#define JOINED(a, b) JOIN(a, b)
#define ENTRY(name, threads) KERNEL(name, threads)

#define STEPS 16  // of a tile
#define PITCH 132 // elements from one step of a tile to the next

#define FEW_ROWS 16
#define FEW_STEPS 128
#define FEW_PITCH 132

// shared is all kernels' shared memory: two buffers of two tiles at most. It is aligned for reads of 4 elements.
SHARED float shared[4 * STEPS * PITCH] __attribute__((aligned(16)));

FN int blocks_of(int n, int each) { return (n - 1) / each + 1; }

// place_tile says which tile a block computes: blocks next to each other in time share 8 rows of tiles, so that what
// they read is small enough to stay in the cache.
FN void place_tile(int block, int tile_rows, int tile_columns, int *row, int *column) {
	int band = block / (8 * tile_columns), in_band = block % (8 * tile_columns);
	int high = least(8, tile_rows - 8 * band);
	*row = 8 * band + in_band % high;
	*column = in_band / high;
}

#define LEFT_BY_STEP 1
#define RIGHT_BY_STEP 1
#define QUARTERS 1
#define NAME product_64_f32_f32
#define TYPE f32
#define RESULT f32
#include "product_tile.h"
#define NAME product_64_bf16_bf16
#define TYPE bf16
#define RESULT bf16
#include "product_tile.h"
#define NAME product_64_bf16_f32
#define TYPE bf16
#define RESULT f32
#include "product_tile.h"
#undef QUARTERS
#define QUARTERS 2
#define NAME product_128_f32_f32
#define TYPE f32
#define RESULT f32
#include "product_tile.h"
#define NAME product_128_bf16_bf16
#define TYPE bf16
#define RESULT bf16
#include "product_tile.h"
#define NAME product_128_bf16_f32
#define TYPE bf16
#define RESULT f32
#include "product_tile.h"
#undef QUARTERS
#undef LEFT_BY_STEP
#undef RIGHT_BY_STEP

#define LEFT_BY_STEP 1
#define RIGHT_BY_STEP 0
#define QUARTERS 1
#define NAME product_back_64_f32_f32
#define TYPE f32
#define RESULT f32
#include "product_tile.h"
#define NAME product_back_64_bf16_bf16
#define TYPE bf16
#define RESULT bf16
#include "product_tile.h"
#define NAME product_back_64_bf16_f32
#define TYPE bf16
#define RESULT f32
#include "product_tile.h"
#undef QUARTERS
#define QUARTERS 2
#define NAME product_back_128_f32_f32
#define TYPE f32
#define RESULT f32
#include "product_tile.h"
#define NAME product_back_128_bf16_bf16
#define TYPE bf16
#define RESULT bf16
#include "product_tile.h"
#define NAME product_back_128_bf16_f32
#define TYPE bf16
#define RESULT f32
#include "product_tile.h"
#undef QUARTERS
#undef LEFT_BY_STEP
#undef RIGHT_BY_STEP

#define LEFT_BY_STEP 0
#define RIGHT_BY_STEP 0
#define QUARTERS 1
#define NAME product_grad_64_f32_f32
#define TYPE f32
#define RESULT f32
#include "product_tile.h"
#define NAME product_grad_64_bf16_f32
#define TYPE bf16
#define RESULT f32
#include "product_tile.h"
#undef QUARTERS
#define QUARTERS 2
#define NAME product_grad_128_f32_f32
#define TYPE f32
#define RESULT f32
#include "product_tile.h"
#define NAME product_grad_128_bf16_f32
#define TYPE bf16
#define RESULT f32
#include "product_tile.h"
#undef QUARTERS
#undef LEFT_BY_STEP
#undef RIGHT_BY_STEP

#define NAME product_few_f32_f32
#define TYPE f32
#define RESULT f32
#include "product_few.h"
#define NAME product_few_bf16_bf16
#define TYPE bf16
#define RESULT bf16
#include "product_few.h"
#define NAME product_few_bf16_f32
#define TYPE bf16
#define RESULT f32
#include "product_few.h"

// add_bias adds a bias to rows: a block goes through the columns of a row.
#define ADD_BIAS(name, TYPE)                                                                          \
	struct name##_args { TYPE *y; const float *bias; long long stride; int rows, width; };        \
	KERNEL(name, 256) {                                                                           \
		for (int row = BLOCK; row < a.rows; row += BLOCKS)                                    \
			for (int column = THREAD; column < a.width; column += THREADS) {              \
				TYPE *y = a.y + row * a.stride + column;                              \
				store_##TYPE(y, load_##TYPE(y) + a.bias[column]);                     \
			}                                                                             \
	}
ADD_BIAS(add_bias_f32, f32)
ADD_BIAS(add_bias_bf16, bf16)

#define SUM_ROWS 128 // of a stage of bias_grad

// bias_grad adds the rows to a sum in ascending order: a block has 32 columns. All its warps bring the next 128 rows
// while the first one adds those before.
#define BIAS_GRAD(name, TYPE)                                                                                       \
	struct name##_args { float *sum; const TYPE *from; long long stride; int rows, width; };                    \
	KERNEL(name, 256) {                                                                                         \
		int column = least(BLOCK * 32 + LANE, a.width - 1);                                                 \
		float own[SUM_ROWS / 8], sum = a.sum[column];                                                       \
		for (int row = -SUM_ROWS, turn = 0; row < a.rows; row += SUM_ROWS, turn = !turn) {                  \
			int next = row + SUM_ROWS;                                                                  \
			if (next < a.rows)                                                                          \
				UNROLL for (int i = 0; i < SUM_ROWS / 8; i++)                                       \
					own[i] = load_##TYPE(a.from + least(next + WARP + 8 * i, a.rows - 1) * a.stride + column); \
			if (WARP == 0 && row >= 0) {                                                                \
				const float *stage = shared + turn * 32 * SUM_ROWS + LANE;                          \
				int rows = least(SUM_ROWS, a.rows - row);                                           \
				UNROLL_BY(16) for (int i = 0; i < rows; i++) sum += stage[32 * i];                  \
			}                                                                                           \
			if (next < a.rows)                                                                          \
				UNROLL for (int i = 0; i < SUM_ROWS / 8; i++)                                       \
					shared[!turn * 32 * SUM_ROWS + 32 * (WARP + 8 * i) + LANE] = own[i];        \
			barrier();                                                                                  \
		}                                                                                                   \
		if (WARP == 0 && BLOCK * 32 + LANE < a.width) a.sum[column] = sum;                                  \
	}
BIAS_GRAD(bias_grad_f32, f32)
BIAS_GRAD(bias_grad_bf16, bf16)
