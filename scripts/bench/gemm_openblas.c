// gemm_openblas M N K TRANSPOSE_B SECONDS: the rate of OpenBLAS's cblas_sgemm at C = A·B, in GFLOP/s.
//
// A is M×K, B is K×N (stored N×K where TRANSPOSE_B is 1) and C is M×N, all row-major. The number of
// threads is OPENBLAS_NUM_THREADS, the kernels are OpenBLAS's choice or OPENBLAS_CORETYPE. Without
// arguments it prints which build and kernels those are.
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

char *openblas_get_config(void);

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static float *filled(size_t n) {
	float *x = aligned_alloc(4096, (4 * n + 4095) / 4096 * 4096);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)rand() / RAND_MAX - 0.5f;
	return x;
}

int main(int count, char **arguments) {
	if (count != 6) {
		printf("%s\n", openblas_get_config());
		return 0;
	}
	int m = atoi(arguments[1]), n = atoi(arguments[2]), k = atoi(arguments[3]), transpose = atoi(arguments[4]);
	double seconds = atof(arguments[5]);
	float *a = filled((size_t)m * k), *b = filled((size_t)k * n), *c = filled((size_t)m * n);
	int calls = -2; // two calls to warm up
	double start = 0, end;
	do {
		if (calls == 0)
			start = now();
		cblas_sgemm(CblasRowMajor, CblasNoTrans, transpose ? CblasTrans : CblasNoTrans, m, n, k, 1, a, k, b,
			transpose ? k : n, 0, c, n);
		calls++;
		end = now();
	} while (calls < 1 || end - start < seconds);
	printf("%.3f\n", 2e-9 * m * n * k * calls / (end - start));
	return 0;
}
