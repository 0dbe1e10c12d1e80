// Words of the fast kernels, which are those in files named fast_*: tensor cores, rows of shared memory as their operands,
// copies that the GPU makes by itself, shared memory whose size the launch says, and an approximate exponential.
// What tensor cores and the exponential round is their own: bits are those of one kind of GPU, and the emulator's are
// others.
//
// A tile of a warp is kept in pieces by its lanes. With g = lane / 4 and t = lane mod 4, of which each register holds two
// neighbours in BF16, the first in the low half:
//
//	left, 16 × 16:   a[0] row g, columns 2t, 2t+1        a[1] row g+8, the same
//	                 a[2] row g, columns 2t+8, 2t+9      a[3] row g+8, the same
//	right, 16 × 8:   b[0] rows 2t, 2t+1 of column g      b[1] rows 2t+8, 2t+9 of column g
//	sums, 16 × 8:    d[0] row g, column 2t, d[1] column 2t+1, d[2] row g+8, column 2t, d[3] column 2t+1, in float32
//
// So sums of two tiles beside each other, rounded in pairs, are the left operand of the next product.
// (Parallel Thread Execution ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix".)
#ifndef TENSOR_H
#define TENSOR_H

#include "dialect.h"

#ifdef __CUDA__

// DYNAMIC_SHARED declares, inside a kernel, the shared memory whose size the launch says, at a multiple of 128 bytes.
#define DYNAMIC_SHARED(name) extern __attribute__((shared)) __attribute__((aligned(128))) unsigned char name[]

FN unsigned shared_address(const void *p) { return (unsigned)(unsigned long long)(const __attribute__((address_space(3))) void *)p; }

// multiply_tiles adds the product of a left and a right tile to the sums. All lanes of a warp call it.
FN void multiply_tiles(float d[4], const unsigned a[4], const unsigned b[2]) {
	__asm__("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		: "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
		: "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// load_tiles reads four matrices of 8 × 8 elements of 16 bits from shared memory: lane l says where row l mod 8 of matrix
// l / 8 is, at a multiple of 16 bytes, and gets elements 2t and 2t+1 of row g of matrix i in r[i]. All lanes of a warp
// call it.
FN void load_tiles(unsigned r[4], const void *row) {
	__asm__ volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		: "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// load_tiles_turned is load_tiles of the transposed matrices: r[i] has elements g of rows 2t and 2t+1 of matrix i.
FN void load_tiles_turned(unsigned r[4], const void *row) {
	__asm__ volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		: "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

// pair_bf16 rounds two numbers to BF16.
FN unsigned pair_bf16(float low, float high) {
	unsigned r;
	__asm__("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
	return r;
}

// power_of_two is 2ˣ with a relative error of about 2⁻²²; 0 where that is below 2⁻¹²⁶.
FN float power_of_two(float x) { return __nvvm_ex2_approx_ftz_f(x); }

// binary_logarithm is log₂ x with an absolute error of about 2⁻²² between ½ and 2 and a relative one elsewhere, of x that is
// at least 2⁻¹²⁶.
FN float binary_logarithm(float x) { return __nvvm_lg2_approx_ftz_f(x); }

// copy_later copies 16 bytes from global to shared memory, both at multiples of 16 bytes, of which only the first so many, 0
// to 16, are read: the others become zero. The copy is done when copies_wait says so, and other threads see it behind a
// barrier after that.
FN void copy_later(void *shared, const void *global, int bytes) {
	__asm__ volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}

// copies_commit makes a group of a thread's copies since the last one. It may be empty.
FN void copies_commit(void) { __asm__ volatile("cp.async.commit_group;" ::: "memory"); }

// copies_wait waits for all groups of the thread but the newest n; n is a constant.
#define copies_wait(n) __asm__ volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")

// warp_barrier waits for all lanes of a warp: each then sees what the others have written to memory before, and has had
// copied and waited for.
FN void warp_barrier(void) { __nvvm_bar_warp_sync(0xffffffffu); }

#else

extern unsigned char emulator_dynamic[];
#define DYNAMIC_SHARED(name) unsigned char *const name = emulator_dynamic

const void *emulator_exchange(int what, const void *own, size_t bytes);
void emulator_copy_later(void *shared, const void *global, int bytes);
void emulator_copies_commit(void);
void emulator_copies_wait(int n);
void emulator_wrong(const char *what);
float exp2f(float x);
float log2f(float x);

// What lanes of a warp do together, so that two things at once are found. 0 is a shuffle.
enum { EXCHANGE_PRODUCT = 1, EXCHANGE_TILES, EXCHANGE_TURNED, EXCHANGE_STRIDE = 32 };

// spread writes two elements that a register holds.
FN void spread(double *to, unsigned pair) {
	to[0] = (double)float_of(pair << 16);
	to[1] = (double)float_of(pair & 0xffff0000u);
}

FN void multiply_tiles(float d[4], const unsigned a[4], const unsigned b[2]) {
	unsigned own[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
	const char *all = emulator_exchange(EXCHANGE_PRODUCT, own, sizeof own);
	int g = LANE >> 2, t = LANE & 3;
	double left[2][16], right[2][16]; // rows g and g+8, columns 2t and 2t+1
	for (int i = 0; i < 4; i++) {
		const unsigned *row = (const unsigned *)(all + EXCHANGE_STRIDE * (4 * g + i));
		const unsigned *column = (const unsigned *)(all + EXCHANGE_STRIDE * (8 * t + i));
		const unsigned *next = (const unsigned *)(all + EXCHANGE_STRIDE * (8 * t + 4 + i));
		for (int half = 0; half < 2; half++) {
			spread(left[0] + 8 * half + 2 * i, row[2 * half]);
			spread(left[1] + 8 * half + 2 * i, row[2 * half + 1]);
			spread(right[0] + 8 * half + 2 * i, column[4 + half]);
			spread(right[1] + 8 * half + 2 * i, next[4 + half]);
		}
	}
	double sum[4] = {d[0], d[1], d[2], d[3]}; // tensor cores round sums of products later than after each
	for (int k = 0; k < 16; k++)
		for (int i = 0; i < 4; i++) sum[i] += left[i / 2][k] * right[i % 2][k];
	for (int i = 0; i < 4; i++) d[i] = (float)sum[i];
}

FN void load_tiles(unsigned r[4], const void *row) {
	if ((unsigned long long)row % 16 != 0) {
		emulator_wrong("a row of a tile is not at a multiple of 16 bytes");
		row = emulator_dynamic;
	}
	const char *all = emulator_exchange(EXCHANGE_TILES, row, 16);
	for (int i = 0; i < 4; i++) r[i] = ((const unsigned *)(all + EXCHANGE_STRIDE * (8 * i + (LANE >> 2))))[LANE & 3];
}

FN void load_tiles_turned(unsigned r[4], const void *row) {
	if ((unsigned long long)row % 16 != 0) {
		emulator_wrong("a row of a tile is not at a multiple of 16 bytes");
		row = emulator_dynamic;
	}
	const char *all = emulator_exchange(EXCHANGE_TURNED, row, 16);
	int g = LANE >> 2, t = LANE & 3;
	for (int i = 0; i < 4; i++) {
		unsigned low = ((const unsigned short *)(all + EXCHANGE_STRIDE * (8 * i + 2 * t)))[g];
		unsigned high = ((const unsigned short *)(all + EXCHANGE_STRIDE * (8 * i + 2 * t + 1)))[g];
		r[i] = low | high << 16;
	}
}

FN unsigned pair_bf16(float low, float high) { return (unsigned)round_bf16(low) | (unsigned)round_bf16(high) << 16; }

FN float power_of_two(float x) {
	float v = exp2f(x);
	return v < 1.17549435e-38f ? 0.0f : v;
}

FN float binary_logarithm(float x) { return log2f(x); }

FN void copy_later(void *shared, const void *global, int bytes) { emulator_copy_later(shared, global, bytes); }
FN void copies_commit(void) { emulator_copies_commit(); }
#define copies_wait(n) emulator_copies_wait(n)
FN void warp_barrier(void) { shuffle_int(0, 0); }

#endif
#endif
