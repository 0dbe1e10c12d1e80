// One kernel of a product of few rows, as in decoding, where reading the matrix is the work; see products.cu. The
// includer defines NAME, TYPE and RESULT as for product_tile.h. Left and right are by step.
//
// A block has FEW_ROWS rows and 32 columns, one a lane. Its 4 warps bring FEW_STEPS steps at a time and have every
// fourth row.

struct JOINED(NAME, _args) {
	RESULT *result;
	const RESULT *base; // what sums begin with; none: with 0
	const TYPE *left, *right;
	long long result_stride, base_stride, left_stride, right_stride;
	int rows, columns, steps, padding;
};

ENTRY(NAME, 128) {
	int first_row = BLOCK_Y * FEW_ROWS, first_column = BLOCK * 32;
	int rows = least(FEW_ROWS, a.rows - first_row), columns = least(32, a.columns - first_column);
	int own = (rows - WARP + 3) / 4; // rows of this warp: WARP, WARP+4, …
	const TYPE *left = a.left + first_row * a.left_stride, *right = a.right + first_column * a.right_stride;
	RESULT *result = a.result + (first_row + WARP) * a.result_stride + first_column + LANE;
	const RESULT *base = a.base + (first_row + WARP) * a.base_stride + first_column + LANE;
	float *lefts = shared, *rights = shared + FEW_ROWS * FEW_PITCH;

	float sum[FEW_ROWS / 4];
	UNROLL for (int i = 0; i < FEW_ROWS / 4; i++)
		sum[i] = a.base && i < own && LANE < columns ? JOINED(load_, RESULT)(base + 4 * i * a.base_stride) : 0.0f;

	TYPE l[FEW_ROWS], r[32];
	for (int step = 0, next = 0; step < a.steps; step = next) {
		if (step == 0) {
			long long at = least(THREAD, a.steps - 1);
			UNROLL for (int i = 0; i < FEW_ROWS; i++)
				if (i < rows) l[i] = left[i * a.left_stride + at];
			UNROLL for (int i = 0; i < 32; i++) r[i] = right[least(i, columns - 1) * a.right_stride + at];
		}
		barrier(); // everybody has read the steps before
		UNROLL for (int i = 0; i < FEW_ROWS; i++)
			if (i < rows) lefts[i * FEW_PITCH + THREAD] = JOINED(load_, TYPE)(l + i);
		UNROLL for (int i = 0; i < 32; i++) rights[i * FEW_PITCH + THREAD] = JOINED(load_, TYPE)(r + i);
		barrier();
		next = step + FEW_STEPS;
		if (next < a.steps) { // on their way while these are multiplied
			long long at = least(next + THREAD, a.steps - 1);
			UNROLL for (int i = 0; i < FEW_ROWS; i++)
				if (i < rows) l[i] = left[i * a.left_stride + at];
			UNROLL for (int i = 0; i < 32; i++) r[i] = right[least(i, columns - 1) * a.right_stride + at];
		}
		const float *x = lefts + WARP * FEW_PITCH, *w = rights + LANE * FEW_PITCH;
		int steps = least(FEW_STEPS, a.steps - step), s = 0;
		for (; s + 4 <= steps; s += 4)
			UNROLL for (int i = 0; i < FEW_ROWS / 4; i++)
				if (i < own) {
					four xs = *(const four *)(x + 4 * i * FEW_PITCH + s), ws = *(const four *)(w + s);
					UNROLL for (int j = 0; j < 4; j++) sum[i] = multiply_add(xs[j], ws[j], sum[i]);
				}
		for (; s < steps; s++)
			UNROLL for (int i = 0; i < FEW_ROWS / 4; i++)
				if (i < own) sum[i] = multiply_add(x[4 * i * FEW_PITCH + s], w[s], sum[i]);
	}

	UNROLL for (int i = 0; i < FEW_ROWS / 4; i++)
		if (i < own && LANE < columns) JOINED(store_, RESULT)(result + 4 * i * a.result_stride, sum[i]);
}

#undef NAME
#undef TYPE
#undef RESULT
