// What the kernels of an update share.
#ifndef OPTIMIZER_H
#define OPTIMIZER_H

#include "variant.h"

// block_sum_double adds the values of a block's 256 threads in a fixed order; thread 0 gets the sum.
FN double block_sum_double(double v, double *sums) {
	sums[THREAD] = v;
	for (int half = 128; half > 0; half /= 2) {
		barrier();
		if (THREAD < half) sums[THREAD] += sums[THREAD + half];
	}
	return sums[0];
}

// block_least is the least of the numbers of a block's 256 threads; thread 0 gets it.
FN long long block_least(long long v, long long *least) {
	least[THREAD] = v;
	for (int half = 128; half > 0; half /= 2) {
		barrier();
		if (THREAD < half && least[THREAD + half] < least[THREAD]) least[THREAD] = least[THREAD + half];
	}
	return least[0];
}

#endif
