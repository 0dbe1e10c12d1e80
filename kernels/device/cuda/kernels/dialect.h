// The language that kernels are written in: what C11 and CUDA C++ have in common, and the words of this
// file. The same source becomes PTX for the GPU and, for tests, host code whose threads are fibres.
//
// A kernel takes one struct by value, which the Go side has too:
//
//	struct scale_args { float *x; long long n; float factor; };
//	KERNEL(scale, 256) {
//		long long i = (long long)BLOCK * THREADS + THREAD;
//		if (i < a.n) a.x[i] *= a.factor;
//	}
//
// Arithmetic is IEEE: no approximate instruction, no contraction (multiply_add says where an addition and
// a multiplication are rounded once), no library function. So both builds give the same bits.
//
// Counts of rows and columns are int, strides and offsets of elements long long.
#ifndef DIALECT_H
#define DIALECT_H

typedef unsigned short bf16;
typedef unsigned short f16;

#ifdef __CUDA__

// KERNEL begins a kernel of at most so many threads a block; a is its struct.
#define KERNEL(name, threads) \
	extern "C" __attribute__((global)) __attribute__((launch_bounds(threads))) void name(const struct name##_args a)
// KERNEL_PACKED is KERNEL of which a multiprocessor has so many blocks at a time, at least: the compiler uses no more registers.
#define KERNEL_PACKED(name, threads, blocks) \
	extern "C" __attribute__((global)) __attribute__((launch_bounds(threads, blocks))) void name(const struct name##_args a)
#define FN static inline __attribute__((device)) __attribute__((always_inline))
#define SHARED static __attribute__((shared))
#define CONSTANT static const __attribute__((device))
#define UNROLL _Pragma("unroll")
#define UNROLL_BY(n) DIALECT_PRAGMA(unroll n)
#define DIALECT_PRAGMA(x) _Pragma(#x)

#define THREAD ((int)__nvvm_read_ptx_sreg_tid_x())
#define THREADS ((int)__nvvm_read_ptx_sreg_ntid_x())
#define BLOCK ((int)__nvvm_read_ptx_sreg_ctaid_x())
#define BLOCK_Y ((int)__nvvm_read_ptx_sreg_ctaid_y())
#define BLOCK_Z ((int)__nvvm_read_ptx_sreg_ctaid_z())
#define BLOCKS ((int)__nvvm_read_ptx_sreg_nctaid_x())

FN void barrier(void) { __syncthreads(); }
// Shuffles are for whole warps: all 32 lanes take part.
FN float shuffle_xor(float v, int mask) { return __nvvm_shfl_sync_bfly_f32(0xffffffffu, v, mask, 31); }
FN float shuffle(float v, int lane) { return __nvvm_shfl_sync_idx_f32(0xffffffffu, v, lane, 31); }
FN int shuffle_xor_int(int v, int mask) { return __nvvm_shfl_sync_bfly_i32(0xffffffffu, v, mask, 31); }
FN int shuffle_int(int v, int lane) { return __nvvm_shfl_sync_idx_i32(0xffffffffu, v, lane, 31); }
FN float multiply_add(float x, float y, float z) { return __nvvm_fma_rn_f(x, y, z); }
FN double multiply_add_double(double x, double y, double z) { return __nvvm_fma_rn_d(x, y, z); }
FN float root(float x) { return __nvvm_sqrt_rn_f(x); }
FN double root_double(double x) { return __nvvm_sqrt_rn_d(x); }
FN int exchange_if(int *p, int expected, int desired) { return __nvvm_atom_cas_gen_i(p, expected, desired); }

#else

#include <stddef.h>

#define KERNEL(name, threads)                                                                             \
	static void name##_thread(const struct name##_args a);                                             \
	static void name##_start(const void *args) { name##_thread(*(const struct name##_args *)args); }   \
	__attribute__((constructor)) static void name##_register(void) {                                   \
		emulator_register(#name, name##_start, sizeof(struct name##_args), threads);               \
	}                                                                                                  \
	static void name##_thread(const struct name##_args a)
#define KERNEL_PACKED(name, threads, blocks) KERNEL(name, threads)
#define FN static inline __attribute__((unused))
#define SHARED static __attribute__((section("emulated_shared")))
#define CONSTANT static const __attribute__((unused))
#define UNROLL
#define UNROLL_BY(n)

void emulator_register(const char *name, void (*start)(const void *), size_t size, int threads);
void emulator_barrier(void);
unsigned emulator_shuffle(unsigned value, int lane);
extern int emulator_thread, emulator_threads, emulator_block[3], emulator_blocks;

#define THREAD emulator_thread
#define THREADS emulator_threads
#define BLOCK (emulator_block[0])
#define BLOCK_Y (emulator_block[1])
#define BLOCK_Z (emulator_block[2])
#define BLOCKS emulator_blocks

FN void barrier(void) { emulator_barrier(); }
FN int shuffle_int(int v, int lane) { return (int)emulator_shuffle((unsigned)v, lane & 31); }
FN int shuffle_xor_int(int v, int mask) { return shuffle_int(v, (THREAD & 31) ^ mask); }
FN float shuffle(float v, int lane) {
	union { float f; int i; } b;
	b.f = v;
	b.i = shuffle_int(b.i, lane);
	return b.f;
}
FN float shuffle_xor(float v, int mask) { return shuffle(v, (THREAD & 31) ^ mask); }
FN float multiply_add(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
FN double multiply_add_double(double x, double y, double z) { return __builtin_fma(x, y, z); }
FN float root(float x) { return __builtin_sqrtf(x); }
FN double root_double(double x) { return __builtin_sqrt(x); }
FN int exchange_if(int *p, int expected, int desired) {
	int was = *p;
	if (was == expected) *p = desired;
	return was;
}

#endif

// four is 4 numbers that are read at once, at a multiple of 16 bytes.
typedef float four __attribute__((vector_size(16), may_alias));

#define LANE (THREAD & 31)
#define WARP (THREAD >> 5)

FN unsigned bits_of(float x) {
	union { float f; unsigned u; } b;
	b.f = x;
	return b.u;
}
FN float float_of(unsigned u) {
	union { float f; unsigned u; } b;
	b.u = u;
	return b.f;
}

FN int least(int x, int y) { return x < y ? x : y; }
FN int most(int x, int y) { return x > y ? x : y; }

// What is complained of, by its place in package cuda's table complaints.
enum { BAD_INDEX = 1, BAD_TARGET, BAD_POSITION };

// complain tells the host of a number that is out of its range, in the words of package cuda's table complaints. The
// first complaint stays.
FN void complain(int *status, int what, int row, int value) {
	if (exchange_if(status, 0, what) != 0) return;
	status[1] = row;
	status[2] = value;
}

// load_TYPE and store_TYPE read and write one element as float32; stores round to nearest even.
FN float load_f32(const float *p) { return *p; }
FN void store_f32(float *p, float v) { *p = v; }
FN float load_bf16(const bf16 *p) { return float_of((unsigned)*p << 16); }
FN bf16 round_bf16(float v) {
	unsigned u = bits_of(v);
	if ((u & 0x7fffffffu) > 0x7f800000u) return (bf16)(u >> 16 | 0x40); // a NaN stays one
	return (bf16)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}
FN void store_bf16(bf16 *p, float v) { *p = round_bf16(v); }

#endif
