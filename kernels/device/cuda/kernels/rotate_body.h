// Rotations of heads of elements of TYPE; see rotate.cu.

struct ARGS(rotate) {
	TYPE *y;
	const TYPE *x;
	const int *positions;
	const float *cos, *sin, *weight; // no weight, no norm
	float *roots;
	int *status;
	long long y_stride, x_stride;
	int count, dim, limit; // positions are below limit
	float eps;
};

ENTRY(NAMED(rotate), 128) {
	int row = BLOCK, head = 4 * BLOCK_Y + WARP, half = a.dim / 2, position = a.positions[row];
	if (head >= a.count) return;
	if (position < 0 || position >= a.limit) {
		if (head == 0 && LANE == 0) complain(a.status, BAD_POSITION, row, position);
		return;
	}
	const TYPE *x = a.x + row * a.x_stride + (long long)head * a.dim;
	TYPE *y = a.y + row * a.y_stride + (long long)head * a.dim;
	const float *cos = a.cos + (long long)position * half, *sin = a.sin + (long long)position * half;
	float r = 1.0f;
	if (a.weight) {
		float squares = 0.0f;
		for (int p = LANE; p < half; p += 32) {
			float u = LOAD(x + p), v = LOAD(x + p + half);
			squares = multiply_add(v, v, multiply_add(u, u, squares));
		}
		r = 1.0f / root(warp_sum(squares) / (float)a.dim + a.eps);
		if (LANE == 0) a.roots[(long long)row * a.count + head] = r;
	}
	for (int p = LANE; p < half; p += 32) {
		float u = LOAD(x + p), v = LOAD(x + p + half), c = cos[p], s = sin[p];
		if (a.weight) {
			u = u * r * a.weight[p];
			v = v * r * a.weight[p + half];
		}
		STORE(y + p, multiply_add(u, c, -(v * s)));
		STORE(y + p + half, multiply_add(v, c, u * s));
	}
}

struct ARGS(rotate_back) {
	TYPE *dx;
	const TYPE *dy, *x;
	const int *positions;
	const float *cos, *sin, *weight, *roots; // no weight, no norm
	int *status;
	long long dx_stride, dy_stride, x_stride;
	int count, dim, limit, padding;
};

// The gradient of a pair in front of the rotation: the rotation by the opposite angle.
#define TURNED_BACK(p)                                                                        \
	float du = LOAD(dy + (p)), dv = LOAD(dy + (p) + half), c = cos[p], s = sin[p];        \
	float gu = multiply_add(du, c, dv * s), gv = multiply_add(dv, c, -(du * s));

ENTRY(NAMED(rotate_back), 128) {
	int row = BLOCK, head = 4 * BLOCK_Y + WARP, half = a.dim / 2, position = a.positions[row];
	if (head >= a.count) return;
	if (position < 0 || position >= a.limit) {
		if (head == 0 && LANE == 0) complain(a.status, BAD_POSITION, row, position);
		return;
	}
	const TYPE *dy = a.dy + row * a.dy_stride + (long long)head * a.dim;
	const TYPE *x = a.x + row * a.x_stride + (long long)head * a.dim;
	TYPE *dx = a.dx + row * a.dx_stride + (long long)head * a.dim;
	const float *cos = a.cos + (long long)position * half, *sin = a.sin + (long long)position * half;
	if (!a.weight) {
		for (int p = LANE; p < half; p += 32) {
			TURNED_BACK(p)
			STORE(dx + p, gu);
			STORE(dx + p + half, gv);
		}
		return;
	}
	float along = 0.0f;
	for (int p = LANE; p < half; p += 32) {
		TURNED_BACK(p)
		along = multiply_add(gu * a.weight[p], LOAD(x + p), along);
		along = multiply_add(gv * a.weight[p + half], LOAD(x + p + half), along);
	}
	float r = a.roots[(long long)row * a.count + head];
	float slope = r * r * r * (warp_sum(along) / (float)a.dim);
	for (int p = LANE; p < half; p += 32) {
		TURNED_BACK(p)
		float u = LOAD(x + p), v = LOAD(x + p + half);
		STORE(dx + p, multiply_add(r * a.weight[p], gu, -(u * slope)));
		STORE(dx + p + half, multiply_add(r * a.weight[p + half], gv, -(v * slope)));
	}
}

struct ARGS(rotate_terms) {
	float *terms;
	const TYPE *dy, *x;
	const int *positions;
	const float *cos, *sin, *roots;
	long long dy_stride, x_stride;
	int count, dim, limit, padding;
};

// rotate_terms writes what each row adds to the gradient of the norm's weight, its heads in ascending order. A thread has
// a pair of columns.
ENTRY(NAMED(rotate_terms), 64) {
	int row = BLOCK, half = a.dim / 2, p = 64 * BLOCK_Y + THREAD, position = a.positions[row];
	if (p >= half) return;
	float first = 0.0f, second = 0.0f;
	if (position >= 0 && position < a.limit) {
		const float *cos = a.cos + (long long)position * half, *sin = a.sin + (long long)position * half;
		UNROLL_BY(4)
		for (int head = 0; head < a.count; head++) {
			const TYPE *dy = a.dy + row * a.dy_stride + (long long)head * a.dim;
			const TYPE *x = a.x + row * a.x_stride + (long long)head * a.dim;
			float r = a.roots[(long long)row * a.count + head];
			TURNED_BACK(p)
			first = multiply_add(gu, LOAD(x + p) * r, first);
			second = multiply_add(gv, LOAD(x + p + half) * r, second);
		}
	}
	a.terms[(long long)row * a.dim + p] = first;
	a.terms[(long long)row * a.dim + p + half] = second;
}

#undef TURNED_BACK
