// RMSNorm and SwiGLU on rows of BF16, 16 bytes at a time. Each operand is read once: between the two halves of a norm its
// rows are in registers.
#include "fast_rows.h"

#define PIECES 4
#define NAME fast_rms_norm_1024
#include "fast_norm_body.h"
#undef PIECES
#undef NAME
#define PIECES 8
#define NAME fast_rms_norm_2048
#include "fast_norm_body.h"
#undef PIECES
#undef NAME
#define PIECES 16
#define NAME fast_rms_norm_4096
#include "fast_norm_body.h"

struct fast_rms_norm_back_args {
	bf16 *dx, *dy;
	const bf16 *x;
	const float *weight, *roots;
	float *terms; // none: of a frozen weight
	long long dx_stride, dy_stride, x_stride;
	int rows, width;
};

#define BACK_ROWS 64 // of a block
#define TOGETHER 4   // whose sums are taken at once

// fast_rms_norm_back adds r·weight·dy − x·r³·Σ(dy·weight·x)/width to dx, writes x·r·weight over dy, and leaves in terms what
// the block's rows add to the gradient of the weight, in ascending order. A thread has eight columns.
KERNEL(fast_rms_norm_back, 512) {
	SHARED float parts[2][16][TOGETHER];
	int column = 8 * THREAD, own = column < a.width, at = own ? column : 0, warps = THREADS / 32;
	int end = least(a.rows, BACK_ROWS * (BLOCK + 1));
	float weight[8], terms[8];
	read_numbers(weight, a.weight + at);
	EIGHT(i) {
		weight[i] = own ? weight[i] : 0.0f; // threads behind the last column add nothing
		terms[i] = 0.0f;
	}
	for (int first = BACK_ROWS * BLOCK, turn = 0; first < end; first += TOGETHER, turn = !turn) {
		eight dy[TOGETHER], x[TOGETHER], dx[TOGETHER];
		float along[TOGETHER], roots[TOGETHER];
		UNROLL for (int k = 0; k < TOGETHER; k++) {
			long long row = least(first + k, end - 1);
			dy[k] = read_eight(a.dy + row * a.dy_stride + at);
			x[k] = read_eight(a.x + row * a.x_stride + at);
			dx[k] = read_eight(a.dx + row * a.dx_stride + at);
			roots[k] = a.roots[row];
		}
		UNROLL for (int k = 0; k < TOGETHER; k++) {
			float even = 0.0f, odd = 0.0f;
			UNROLL for (int i = 0; i < 8; i += 2) {
				even = multiply_add(element(dy[k], i) * weight[i], element(x[k], i), even);
				odd = multiply_add(element(dy[k], i + 1) * weight[i + 1], element(x[k], i + 1), odd);
			}
			along[k] = warp_sum(even + odd);
			if (LANE == 0) parts[turn][WARP][k] = along[k];
		}
		barrier(); // two buffers take turns, so that one barrier parts writing from the reading before last
		UNROLL for (int k = 0; k < TOGETHER; k++) along[k] = parts[turn][0][k];
		for (int warp = 1; warp < warps; warp++)
			UNROLL for (int k = 0; k < TOGETHER; k++) along[k] += parts[turn][warp][k];
		UNROLL for (int k = 0; k < TOGETHER; k++)
			if (first + k < end && own) {
				float r = roots[k], slope = r * r * r * (along[k] / (float)a.width), back[8], y[8];
				eight dy_k = packed(dy[k]), x_k = packed(x[k]);
				EIGHT(i) {
					float d = element(dy_k, i), v = element(x_k, i), scaled = v * r;
					back[i] = multiply_add(-slope, v, multiply_add(r * weight[i], d, element(dx[k], i)));
					y[i] = scaled * weight[i];
					terms[i] += d * scaled;
				}
				write_eight(a.dx + (first + k) * a.dx_stride + column, back);
				write_eight(a.dy + (first + k) * a.dy_stride + column, y);
			}
	}
	if (own && a.terms) write_numbers(a.terms + (long long)BLOCK * a.width + column, terms);
}

struct fast_swiglu_args {
	bf16 *y;
	const bf16 *gate_up;
	long long y_stride, gate_up_stride;
	int width, padding;
};

// fast_swiglu: a thread has eight columns of a row, a block 1024.
KERNEL(fast_swiglu, 128) {
	int column = 8 * (128 * BLOCK_Y + THREAD);
	if (column >= a.width) return;
	const bf16 *gate = a.gate_up + BLOCK * a.gate_up_stride + column;
	eight g = read_eight(gate), u = read_eight(gate + a.width);
	float y[8];
	EIGHT(i) y[i] = element(g, i) * share_of_one(element(g, i)) * element(u, i);
	write_eight(a.y + BLOCK * a.y_stride + column, y);
}

struct fast_swiglu_back_args {
	bf16 *d_gate_up, *dy;
	const bf16 *gate_up;
	long long d_gate_up_stride, dy_stride, gate_up_stride;
	int width, padding;
};

// fast_swiglu_back writes what swiglu_back of layers_body.h does. The gradient may take the place of gate and up.
KERNEL(fast_swiglu_back, 128) {
	int column = 8 * (128 * BLOCK_Y + THREAD);
	if (column >= a.width) return;
	const bf16 *gate = a.gate_up + BLOCK * a.gate_up_stride + column;
	bf16 *d_gate = a.d_gate_up + BLOCK * a.d_gate_up_stride + column, *dy = a.dy + BLOCK * a.dy_stride + column;
	eight g = read_eight(gate), u = read_eight(gate + a.width), d = read_eight(dy);
	float dg[8], du[8], y[8];
	EIGHT(i) {
		float s = share_of_one(element(g, i)), activated = element(g, i) * s;
		dg[i] = element(d, i) * element(u, i) * multiply_add(activated, 1.0f - s, s);
		du[i] = element(d, i) * activated;
		y[i] = activated * element(u, i);
	}
	write_eight(d_gate, dg);
	write_eight(d_gate + a.width, du);
	write_eight(dy, y);
}
