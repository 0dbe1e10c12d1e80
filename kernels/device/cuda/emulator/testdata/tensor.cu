// Kernels that use the words of tensor.h, one at a time.
#include "tensor.h"

struct product_args { float *d; const unsigned short *a, *b; int wait, commit; };

// product multiplies a 16 × 16 matrix with the transpose of an 8 × 16 one, brought to shared memory by copies that are
// waited for or not.
KERNEL(product, 32) {
	DYNAMIC_SHARED(memory);
	bf16 *left = (bf16 *)memory, *right = left + 256;
	copy_later(left + 8 * THREAD, a.a + 8 * THREAD, 16);
	if (THREAD < 16) copy_later(right + 8 * THREAD, a.b + 8 * THREAD, 16);
	copies_commit();
	if (a.wait) copies_wait(0);
	else copies_wait(1);
	barrier();
	unsigned x[4], y[4];
	load_tiles(x, left + 16 * (LANE & 15) + 8 * (LANE >> 4));
	load_tiles(y, right + 16 * (LANE & 7) + 8 * (LANE >> 3 & 1)); // the last two matrices are the first two
	float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
	multiply_tiles(d, x, y);
	for (int i = 0; i < 4; i++) a.d[8 * ((LANE >> 2) + (i >= 2 ? 8 : 0)) + 2 * (LANE & 3) + (i & 1)] = d[i];
}

struct turned_args { float *d; const unsigned short *a, *b; };

// turned multiplies a 16 × 16 matrix with a 16 × 8 one whose rows are as in memory.
KERNEL(turned, 32) {
	DYNAMIC_SHARED(memory);
	bf16 *left = (bf16 *)memory, *right = left + 256;
	for (int i = THREAD; i < 256; i += 32) left[i] = a.a[i];
	for (int i = THREAD; i < 128; i += 32) right[i] = a.b[i];
	barrier();
	unsigned x[4], y[4];
	load_tiles(x, left + 16 * (LANE & 15) + 8 * (LANE >> 4));
	load_tiles_turned(y, right + 8 * (LANE & 15));
	float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
	multiply_tiles(d, x, y);
	for (int i = 0; i < 4; i++) a.d[8 * ((LANE >> 2) + (i >= 2 ? 8 : 0)) + 2 * (LANE & 3) + (i & 1)] = d[i];
}

struct beyond_args { int at; };

// beyond writes a byte of its dynamic shared memory.
KERNEL(beyond, 32) {
	DYNAMIC_SHARED(memory);
	if (THREAD == 0) memory[a.at] = 1;
}

struct zeroed_args { float *d; const float *from; int bytes; };

// zeroed copies the first so many bytes of 16.
KERNEL(zeroed, 32) {
	DYNAMIC_SHARED(memory);
	if (THREAD == 0) {
		copy_later(memory, a.from, a.bytes);
		copies_commit();
		copies_wait(0);
		for (int i = 0; i < 4; i++) a.d[i] = ((float *)memory)[i];
	}
}

struct mixed_args { float *d; };

// mixed has half a warp shuffle while the other multiplies.
KERNEL(mixed, 32) {
	float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};
	unsigned x[4] = {0, 0, 0, 0};
	if (THREAD < 16) d[0] = shuffle_xor(1.0f, 1);
	else multiply_tiles(d, x, x);
	a.d[THREAD] = d[0] + power_of_two(3.0f) + (float)pair_bf16(1.0f, 0.0f);
}
