// RMSNorm and SwiGLU on rows of elements of TYPE; see layers.cu.

// A block of 128 threads has one row, a thread every 128th column, four of them at a time.
#define EACH_OF_FOUR(column, from)                 \
	UNROLL for (int of_four = 0; of_four < 4; of_four++) \
		for (int column = (from) + 128 * of_four, once = 1; once && column < a.width; once = 0)

struct ARGS(rms_norm) {
	TYPE *y;
	const TYPE *x;
	const float *weight;
	float *roots;
	long long y_stride, x_stride;
	int width;
	float eps;
};

// rms_norm reads a row twice, the second time from the cache.
ENTRY(NAMED(rms_norm), 128) {
	SHARED float parts[4];
	const TYPE *x = a.x + BLOCK * a.x_stride;
	TYPE *y = a.y + BLOCK * a.y_stride;
	float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
	for (int from = THREAD; from < a.width; from += 512)
		EACH_OF_FOUR(column, from) {
			float v = LOAD(x + column);
			sums[of_four] = multiply_add(v, v, sums[of_four]);
		}
	float squares = block_sum_128((sums[0] + sums[1]) + (sums[2] + sums[3]), parts);
	float r = 1.0f / root(squares / (float)a.width + a.eps);
	if (THREAD == 0) a.roots[BLOCK] = r;
	for (int from = THREAD; from < a.width; from += 512)
		EACH_OF_FOUR(column, from) STORE(y + column, LOAD(x + column) * r * a.weight[column]);
}

struct ARGS(rms_norm_back) {
	TYPE *dx;
	const TYPE *dy, *x;
	const float *weight, *roots;
	long long dx_stride, dy_stride, x_stride;
	int width, padding;
};

// rms_norm_back adds r·weight·dy − x·r³·Σ(dy·weight·x)/width to dx.
ENTRY(NAMED(rms_norm_back), 128) {
	SHARED float parts[4];
	const TYPE *dy = a.dy + BLOCK * a.dy_stride, *x = a.x + BLOCK * a.x_stride;
	TYPE *dx = a.dx + BLOCK * a.dx_stride;
	float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
	for (int from = THREAD; from < a.width; from += 512)
		EACH_OF_FOUR(column, from)
			sums[of_four] = multiply_add(LOAD(dy + column) * a.weight[column], LOAD(x + column), sums[of_four]);
	float along = block_sum_128((sums[0] + sums[1]) + (sums[2] + sums[3]), parts);
	float r = a.roots[BLOCK], slope = r * r * r * (along / (float)a.width);
	for (int from = THREAD; from < a.width; from += 512)
		EACH_OF_FOUR(column, from) {
			float v = multiply_add(r * a.weight[column], LOAD(dy + column), LOAD(dx + column));
			STORE(dx + column, multiply_add(-slope, LOAD(x + column), v));
		}
}

struct ARGS(swiglu) {
	TYPE *y;
	const TYPE *gate_up;
	long long y_stride, gate_up_stride;
	int width, padding;
};

// swiglu: a block has 512 columns of a row.
ENTRY(NAMED(swiglu), 128) {
	const TYPE *gate = a.gate_up + BLOCK * a.gate_up_stride, *up = gate + a.width;
	TYPE *y = a.y + BLOCK * a.y_stride;
	EACH_OF_FOUR(column, 512 * BLOCK_Y + THREAD) {
		float g = LOAD(gate + column);
		STORE(y + column, g * sigmoid(g) * LOAD(up + column));
	}
}

struct ARGS(swiglu_back) {
	TYPE *d_gate_up;
	const TYPE *dy, *gate_up;
	long long d_gate_up_stride, dy_stride, gate_up_stride;
	int width, padding;
};

// swiglu_back, with s = σ(gate): d gate = dy·up·(s + gate·s·(1−s)), d up = dy·gate·s. A thread reads what it writes over,
// so that the gradient may take the place of gate and up.
ENTRY(NAMED(swiglu_back), 128) {
	const TYPE *gate = a.gate_up + BLOCK * a.gate_up_stride, *up = gate + a.width, *dy = a.dy + BLOCK * a.dy_stride;
	TYPE *d_gate = a.d_gate_up + BLOCK * a.d_gate_up_stride, *d_up = d_gate + a.width;
	EACH_OF_FOUR(column, 512 * BLOCK_Y + THREAD) {
		float g = LOAD(gate + column), u = LOAD(up + column), d = LOAD(dy + column), s = sigmoid(g);
		STORE(d_gate + column, d * u * multiply_add(g * s, 1.0f - s, s));
		STORE(d_up + column, d * g * s);
	}
}

#undef EACH_OF_FOUR
