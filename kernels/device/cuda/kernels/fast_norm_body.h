// RMSNorm on rows of at most 256·PIECES columns; see fast_layers.cu. The includer defines NAME and PIECES.
//
// A warp has a row, a block four; a lane has eight columns of every 256. So there is no barrier, and a lane has all that it
// reads of its row on the way at once.

struct JOINED(NAME, _args) {
	bf16 *y;
	const bf16 *x;
	const float *weight;
	float *roots;
	long long y_stride, x_stride;
	int rows, width;
	float eps;
	int padding;
};

ENTRY(NAME, 128) {
	long long row = 4 * BLOCK + WARP;
	if (row >= a.rows) return;
	const bf16 *x = a.x + row * a.x_stride;
	bf16 *y = a.y + row * a.y_stride;
	eight own[PIECES];
	UNROLL for (int p = 0; p < PIECES; p++) {
		int column = 8 * LANE + 256 * p;
		own[p] = (eight){0, 0, 0, 0};
		if (column < a.width) own[p] = read_eight(x + column);
	}
	float even = 0.0f, odd = 0.0f;
	UNROLL for (int p = 0; p < PIECES; p++)
		UNROLL for (int i = 0; i < 8; i += 2) {
			float v = element(own[p], i), w = element(own[p], i + 1);
			even = multiply_add(v, v, even);
			odd = multiply_add(w, w, odd);
		}
	float r = 1.0f / root(warp_sum(even + odd) / (float)a.width + a.eps);
	if (LANE == 0) a.roots[row] = r;
	UNROLL for (int p = 0; p < PIECES; p++) {
		int column = 8 * LANE + 256 * p;
		if (column < a.width) {
			float weight[8], v[8];
			read_numbers(weight, a.weight + column);
			EIGHT(i) v[i] = element(own[p], i) * r * weight[i];
			write_eight(y + column, v);
		}
	}
}
