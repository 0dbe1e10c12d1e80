// Kernels with faults, for the emulator's tests.
#include "dialect.h"

struct reverse_args { float *dst; const float *src; int wait; };
// reverse turns a block's numbers around; without the barrier it reads what is not there yet.
KERNEL(reverse, 64) {
	SHARED float held[64];
	held[THREAD] = a.src[THREAD];
	if (a.wait) barrier();
	a.dst[THREAD] = held[63 - THREAD];
}

struct overtake_args { float *dst; int wait; };
// overtake uses shared memory twice; without the second barrier a thread writes what others have not read.
KERNEL(overtake, 64) {
	SHARED float held[64];
	float sum = 0.0f;
	for (int round = 0; round < 3; round++) {
		held[THREAD] = (float)(100 * round + THREAD);
		barrier();
		sum += held[(THREAD + 1) % 64];
		if (a.wait) barrier();
	}
	a.dst[THREAD] = sum;
}

struct some_wait_args { int most; };
KERNEL(some_wait, 64) {
	if (THREAD < a.most) barrier();
}

struct some_shuffle_args { float *dst; int most; };
KERNEL(some_shuffle, 64) {
	float v = (float)LANE;
	if (LANE < a.most) v = shuffle_xor(v, 1);
	a.dst[THREAD] = v;
}

struct unwritten_args { float *dst; int write; };
// unwritten reads shared memory that only the first block writes.
KERNEL(unwritten, 32) {
	SHARED float held[32];
	if (a.write && BLOCK == 0) held[THREAD] = 1.0f;
	a.dst[BLOCK * 32 + THREAD] = held[THREAD];
}

struct stamp_args { int *dst; };
// stamp writes its place in the order of a launch's threads.
KERNEL(stamp, 8) {
	a.dst[BLOCK * 8 + THREAD] = a.dst[32]++;
}
