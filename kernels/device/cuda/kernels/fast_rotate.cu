// Heads of BF16 on their way to attention, 16 bytes at a time: what rotate.cu does, of heads of 16, 32, 64, 128, 256 or 512
// columns.
//
// A lane has eight pairs (x[p], x[p+dim/2]) of four heads of a row, so that it reads their rotation once; as many lanes as it
// takes have a head each. Every lane of a warp takes part in sums, those without work with heads that are there.
#include "fast_rows.h"

#define HEADS 4 // that a lane has

// place is where a lane works.
struct place {
	int row, head, pair, works;
};

// place_of finds the place of a lane that has unit number so many of four heads, of those of rows first and on.
FN struct place place_of(int unit, int first, int rows, int count, int lanes) {
	int units = (count + HEADS - 1) / HEADS, row = first + unit / units;
	struct place at = {least(row, rows - 1), unit % units * HEADS, 8 * (LANE & (lanes - 1)), row < rows};
	return at;
}

// lanes_sum adds the values of the lanes that have a head; lanes is a power of two.
FN float lanes_sum(float v, int lanes) {
	for (int mask = lanes / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
	return v;
}

// turned are heads that fast_rotate turns.
struct turned {
	bf16 *y;
	const bf16 *x;
	const float *weight;
	float *roots;
	long long y_stride, x_stride;
	int count, padding;
};

struct fast_rotate_args {
	struct turned first, second; // both have a norm or none has
	const int *positions;
	const float *cos, *sin;
	int *status;
	int rows, dim, limit; // positions are below limit
	float eps;
};

// fast_rotate turns the heads of two operands of the same rows, such as queries and keys; the second may have none. A unit has
// heads of one of them.
KERNEL(fast_rotate, 128) {
	int half = a.dim / 2, lanes = half / 8, unit = (128 * BLOCK + THREAD) / lanes;
	int firsts = (a.first.count + HEADS - 1) / HEADS, units = firsts + (a.second.count + HEADS - 1) / HEADS;
	int row = unit / units, second = unit % units >= firsts, count = second ? a.second.count : a.first.count;
	struct place at = {least(row, a.rows - 1), (unit % units - (second ? firsts : 0)) * HEADS, 8 * (LANE & (lanes - 1)), row < a.rows};
	int position = a.positions[at.row];
	if (position < 0 || position >= a.limit) {
		if (at.works && at.head == 0 && at.pair == 0) complain(a.status, BAD_POSITION, at.row, position);
		at.works = 0;
		position = 0;
	}
	const bf16 *x = (second ? a.second.x + at.row * a.second.x_stride : a.first.x + at.row * a.first.x_stride) + at.pair;
	bf16 *y = (second ? a.second.y + at.row * a.second.y_stride : a.first.y + at.row * a.first.y_stride) + at.pair;
	const float *weight = second ? a.second.weight : a.first.weight;
	float *roots = second ? a.second.roots : a.first.roots;
	eight low[HEADS], high[HEADS];
	UNROLL for (int h = 0; h < HEADS; h++) {
		long long head = (long long)least(at.head + h, count - 1) * a.dim;
		low[h] = read_eight(x + head);
		high[h] = read_eight(x + head + half);
	}
	float cos[8], sin[8], scale[8], upper[8];
	read_numbers(cos, a.cos + (long long)position * half + at.pair);
	read_numbers(sin, a.sin + (long long)position * half + at.pair);
	if (weight) {
		read_numbers(scale, weight + at.pair);
		read_numbers(upper, weight + at.pair + half);
	}
	UNROLL for (int h = 0; h < HEADS; h++) {
		float u[8], v[8], turned[8], other[8];
		EIGHT(i) {
			u[i] = element(low[h], i);
			v[i] = element(high[h], i);
		}
		int works = at.works && at.head + h < count;
		if (weight) {
			float squares = 0.0f;
			EIGHT(i) squares = multiply_add(v[i], v[i], multiply_add(u[i], u[i], squares));
			float r = 1.0f / root(lanes_sum(squares, lanes) / (float)a.dim + a.eps);
			if (works && at.pair == 0) roots[(long long)at.row * count + at.head + h] = r;
			EIGHT(i) {
				u[i] = u[i] * r * scale[i];
				v[i] = v[i] * r * upper[i];
			}
		}
		EIGHT(i) {
			turned[i] = multiply_add(u[i], cos[i], -(v[i] * sin[i]));
			other[i] = multiply_add(v[i], cos[i], u[i] * sin[i]);
		}
		if (works) {
			write_eight(y + (long long)(at.head + h) * a.dim, turned);
			write_eight(y + (long long)(at.head + h) * a.dim + half, other);
		}
	}
}

struct fast_rotate_back_args {
	bf16 *dx;
	const bf16 *dy, *x;
	const int *positions;
	const float *cos, *sin, *weight, *roots; // no weight, no norm
	float *terms;                            // none: of a frozen weight
	int *status;
	long long dx_stride, dy_stride, x_stride;
	int rows, count, dim, limit;
};

#define BACK_ROWS 32 // of a block

// fast_rotate_back leaves in terms what the block's rows add to the gradient of the weight, in an order that the shape alone
// decides.
KERNEL(fast_rotate_back, 128) {
	SHARED float shared[128][17];
	int half = a.dim / 2, lanes = half / 8, group = THREAD / lanes, groups = 128 / lanes, pair = 8 * (LANE & (lanes - 1));
	int begin = BACK_ROWS * BLOCK, end = least(a.rows, begin + BACK_ROWS), all = (end - begin) * ((a.count + HEADS - 1) / HEADS);
	float first[8], second[8], low_terms[8], high_terms[8];
	EIGHT(i) first[i] = second[i] = 1.0f;
	if (a.weight) {
		read_numbers(first, a.weight + pair);
		read_numbers(second, a.weight + pair + half);
	}
	EIGHT(i) low_terms[i] = high_terms[i] = 0.0f;
	for (int unit = 0; unit < all; unit += groups) {
		struct place at = place_of(unit + group, begin, end, a.count, lanes);
		int position = a.positions[at.row];
		if (position < 0 || position >= a.limit) {
			if (at.works && at.head == 0 && at.pair == 0) complain(a.status, BAD_POSITION, at.row, position);
			at.works = 0;
			position = 0;
		}
		const bf16 *dy = a.dy + at.row * a.dy_stride + at.pair, *x = a.x + at.row * a.x_stride + at.pair;
		bf16 *dx = a.dx + at.row * a.dx_stride + at.pair;
		eight dys[HEADS][2], xs[HEADS][2];
		UNROLL for (int h = 0; h < HEADS; h++) {
			long long head = (long long)least(at.head + h, a.count - 1) * a.dim;
			dys[h][0] = read_eight(dy + head);
			dys[h][1] = read_eight(dy + head + half);
			xs[h][0] = xs[h][1] = dys[h][0];
			if (a.weight) {
				xs[h][0] = read_eight(x + head);
				xs[h][1] = read_eight(x + head + half);
			}
		}
		float cos[8], sin[8];
		read_numbers(cos, a.cos + (long long)position * half + at.pair);
		read_numbers(sin, a.sin + (long long)position * half + at.pair);
		UNROLL for (int h = 0; h < HEADS; h++) {
			float gu[8], gv[8];
			EIGHT(i) { // the rotation by the opposite angle
				float du = element(dys[h][0], i), dv = element(dys[h][1], i);
				gu[i] = multiply_add(du, cos[i], dv * sin[i]);
				gv[i] = multiply_add(dv, cos[i], -(du * sin[i]));
			}
			int works = at.works && at.head + h < a.count;
			if (a.weight) {
				float along = 0.0f, r = a.roots[(long long)at.row * a.count + least(at.head + h, a.count - 1)];
				EIGHT(i) {
					along = multiply_add(gu[i] * first[i], element(xs[h][0], i), along);
					along = multiply_add(gv[i] * second[i], element(xs[h][1], i), along);
				}
				float slope = r * r * r * (lanes_sum(along, lanes) / (float)a.dim);
				EIGHT(i) {
					float u = element(xs[h][0], i), v = element(xs[h][1], i);
					if (works) {
						low_terms[i] = multiply_add(gu[i], u * r, low_terms[i]);
						high_terms[i] = multiply_add(gv[i], v * r, high_terms[i]);
					}
					gu[i] = multiply_add(r * first[i], gu[i], -(u * slope));
					gv[i] = multiply_add(r * second[i], gv[i], -(v * slope));
				}
			}
			if (works) {
				write_eight(dx + (long long)(at.head + h) * a.dim, gu);
				write_eight(dx + (long long)(at.head + h) * a.dim + half, gv);
			}
		}
	}
	if (!a.terms) return;
	EIGHT(i) {
		shared[THREAD][i] = low_terms[i];
		shared[THREAD][i + 8] = high_terms[i];
	}
	barrier();
	for (int column = THREAD; column < a.dim; column += 128) {
		int upper = column >= half, in_half = column - (upper ? half : 0);
		float sum = 0.0f;
		for (int g = 0; g < groups; g++) sum += shared[g * lanes + in_half / 8][in_half % 8 + (upper ? 8 : 0)];
		a.terms[(long long)BLOCK * a.dim + column] = sum;
	}
}
