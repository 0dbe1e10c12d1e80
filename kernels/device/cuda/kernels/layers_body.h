// RMSNorm and SwiGLU on rows of elements of TYPE; see layers.cu.

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
	EACH_FOUR {
		float v[4];
		FOUR(i) v[i] = LOAD(x + READ(i));
		FOUR(i) sums[i] = EXISTS(i) ? multiply_add(v[i], v[i], sums[i]) : sums[i];
	}
	float squares = block_sum_128((sums[0] + sums[1]) + (sums[2] + sums[3]), parts);
	float r = 1.0f / root(squares / (float)a.width + a.eps);
	if (THREAD == 0) a.roots[BLOCK] = r;
	EACH_FOUR {
		float v[4];
		FOUR(i) v[i] = LOAD(x + READ(i)) * r * a.weight[READ(i)];
		FOUR(i) if (EXISTS(i)) STORE(y + COLUMN(i), v[i]);
	}
}

struct ARGS(rms_norm_back) {
	TYPE *dx;
	TYPE *dy;
	const TYPE *x;
	const float *weight, *roots;
	long long dx_stride, dy_stride, x_stride;
	int width, padding;
};

// rms_norm_back adds r·weight·dy − x·r³·Σ(dy·weight·x)/width to dx and writes what rms_norm wrote over dy.
ENTRY(NAMED(rms_norm_back), 128) {
	SHARED float parts[4];
	const TYPE *x = a.x + BLOCK * a.x_stride;
	TYPE *dx = a.dx + BLOCK * a.dx_stride, *dy = a.dy + BLOCK * a.dy_stride;
	float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
	EACH_FOUR {
		float d[4], v[4];
		FOUR(i) d[i] = LOAD(dy + READ(i)) * a.weight[READ(i)];
		FOUR(i) v[i] = LOAD(x + READ(i));
		FOUR(i) sums[i] = EXISTS(i) ? multiply_add(d[i], v[i], sums[i]) : sums[i];
	}
	float along = block_sum_128((sums[0] + sums[1]) + (sums[2] + sums[3]), parts);
	float r = a.roots[BLOCK], slope = r * r * r * (along / (float)a.width);
	EACH_FOUR {
		float v[4], y[4];
		FOUR(i) v[i] = multiply_add(r * a.weight[READ(i)], LOAD(dy + READ(i)), LOAD(dx + READ(i)));
		FOUR(i) v[i] = multiply_add(-slope, LOAD(x + READ(i)), v[i]);
		FOUR(i) y[i] = LOAD(x + READ(i)) * r * a.weight[READ(i)];
		FOUR(i) if (EXISTS(i)) {
			STORE(dx + COLUMN(i), v[i]);
			STORE(dy + COLUMN(i), y[i]);
		}
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
	int from = 512 * BLOCK_Y + THREAD;
	float g[4], u[4];
	FOUR(i) {
		g[i] = LOAD(gate + READ(i));
		u[i] = LOAD(up + READ(i));
	}
	FOUR(i) if (EXISTS(i)) STORE(y + COLUMN(i), g[i] * sigmoid(g[i]) * u[i]);
}

struct ARGS(swiglu_back) {
	TYPE *d_gate_up, *dy;
	const TYPE *gate_up;
	long long d_gate_up_stride, dy_stride, gate_up_stride;
	int width, padding;
};

// swiglu_back, with s = σ(gate): d gate = dy·up·(s + gate·s·(1−s)), d up = dy·gate·s, and over dy what swiglu wrote. The
// gradient may take the place of gate and up: what a thread uses nobody else writes over.
ENTRY(NAMED(swiglu_back), 128) {
	const TYPE *gate = a.gate_up + BLOCK * a.gate_up_stride, *up = gate + a.width;
	TYPE *d_gate = a.d_gate_up + BLOCK * a.d_gate_up_stride, *d_up = d_gate + a.width, *dy = a.dy + BLOCK * a.dy_stride;
	int from = 512 * BLOCK_Y + THREAD;
	float g[4], u[4], d[4];
	FOUR(i) {
		g[i] = LOAD(gate + READ(i));
		u[i] = LOAD(up + READ(i));
		d[i] = LOAD(dy + READ(i));
	}
	FOUR(i) if (EXISTS(i)) {
		float s = sigmoid(g[i]);
		STORE(d_gate + COLUMN(i), d[i] * u[i] * multiply_add(g[i] * s, 1.0f - s, s));
		STORE(d_up + COLUMN(i), d[i] * g[i] * s);
		STORE(dy + COLUMN(i), g[i] * s * u[i]);
	}
}
