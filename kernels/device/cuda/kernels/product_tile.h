// One kernel of a product by tiles; see products.cu. The includer defines
//
//	NAME                       the kernel
//	TYPE, RESULT               the types of left and right, and of the result
//	LEFT_BY_STEP               1 where the steps of an element of left are next to each other, 0 where its rows are
//	RIGHT_BY_STEP              the same of right and its columns
//	QUARTERS                   1 for tiles of 64×64, 2 for 128×128
//
// A thread has 4·QUARTERS rows and as many columns: 4 next to each other in every 64.

#define SIDE (64 * QUARTERS)
#define OWN (4 * QUARTERS)
#define STAGED (SIDE * STEPS / 256) // elements of each operand that a thread brings

struct JOINED(NAME, _args) {
	RESULT *result;
	const RESULT *base; // what sums begin with; none: with 0
	const TYPE *left, *right;
	long long result_stride, base_stride, left_stride, right_stride;
	int rows, columns, steps, padding;
};

// A tile of an operand has SIDE lines, its rows or columns, of STEPS steps. What lies next to each other in memory is
// its width: steps or lines.
#define WIDTH(by_step) ((by_step) ? STEPS : SIDE)

// bring reads this thread's share of the tile that begins at from, of which so many lines and steps are inside the
// operand. What is outside is anything: such lines are not stored, and such steps are not multiplied.
FN void JOINED(NAME, _bring)(TYPE *own, const TYPE *from, long long stride, int by_step, int lines, int steps) {
	int width = WIDTH(by_step), row = THREAD / width, rows = by_step ? lines : steps;
	from += row * stride + least(THREAD % width, (by_step ? steps : lines) - 1);
	if (lines >= SIDE && steps >= STEPS) { // nearly always: loads without conditions are all on their way at once
		UNROLL for (int i = 0; i < STAGED; i++) own[i] = from[256 / width * i * stride];
		return;
	}
	UNROLL for (int i = 0; i < STAGED; i++) {
		own[i] = 0;
		if (row + 256 / width * i < rows) own[i] = from[256 / width * i * stride];
	}
}

// put writes this thread's share to a buffer of shared memory.
FN void JOINED(NAME, _put)(const TYPE *own, float *to, int by_step) {
	int width = WIDTH(by_step), row = THREAD / width, column = THREAD % width;
	to += by_step ? column * PITCH + row : row * PITCH + column;
	UNROLL for (int i = 0; i < STAGED; i++) to[256 / width * i * (by_step ? 1 : PITCH)] = JOINED(load_, TYPE)(own + i);
}

// advance goes one step of all of this thread's chains.
FN void JOINED(NAME, _advance)(float sum[OWN][OWN], const float *left, const float *right) {
	four l[QUARTERS], r[QUARTERS];
	UNROLL for (int i = 0; i < QUARTERS; i++) {
		l[i] = *(const four *)(left + 64 * i);
		r[i] = *(const four *)(right + 64 * i);
	}
	UNROLL for (int i = 0; i < OWN; i++)
		UNROLL for (int j = 0; j < OWN; j++) sum[i][j] = multiply_add(l[i / 4][i % 4], r[j / 4][j % 4], sum[i][j]);
}

ENTRY(NAME, 256) {
	int tile_row, tile_column;
	place_tile(BLOCK, blocks_of(a.rows, SIDE), blocks_of(a.columns, SIDE), &tile_row, &tile_column);
	int first_row = tile_row * SIDE, first_column = tile_column * SIDE;
	int own_row = THREAD / 16 * 4, own_column = THREAD % 16 * 4;
	RESULT *result = a.result + (first_row + own_row) * a.result_stride + first_column + own_column;
	const RESULT *base = a.base + (first_row + own_row) * a.base_stride + first_column + own_column;
	int rows = a.rows - first_row - own_row, columns = a.columns - first_column - own_column;

	float sum[OWN][OWN];
	UNROLL for (int i = 0; i < OWN; i++)
		UNROLL for (int j = 0; j < OWN; j++) {
			int row = i / 4 * 64 + i % 4, column = j / 4 * 64 + j % 4;
			sum[i][j] = a.base && row < rows && column < columns ? JOINED(load_, RESULT)(base + row * a.base_stride + column) : 0.0f;
		}

	const TYPE *lefts = a.left + (LEFT_BY_STEP ? first_row * a.left_stride : first_row);
	const TYPE *rights = a.right + (RIGHT_BY_STEP ? first_column * a.right_stride : first_column);
	TYPE left[STAGED], right[STAGED];
	if (a.steps > 0) {
		JOINED(NAME, _bring)(left, lefts, a.left_stride, LEFT_BY_STEP, a.rows - first_row, a.steps);
		JOINED(NAME, _bring)(right, rights, a.right_stride, RIGHT_BY_STEP, a.columns - first_column, a.steps);
	}
	for (int step = 0, turn = 0; step < a.steps; step += STEPS, turn = !turn) {
		// Two buffers take turns, so that a barrier parts every writing from the reading before last of the same one.
		float *tiles = shared + 2 * turn * STEPS * PITCH;
		JOINED(NAME, _put)(left, tiles, LEFT_BY_STEP);
		JOINED(NAME, _put)(right, tiles + STEPS * PITCH, RIGHT_BY_STEP);
		barrier();
		if (step + STEPS < a.steps) { // on their way while this tile is multiplied
			lefts += LEFT_BY_STEP ? STEPS : STEPS * a.left_stride;
			rights += RIGHT_BY_STEP ? STEPS : STEPS * a.right_stride;
			JOINED(NAME, _bring)(left, lefts, a.left_stride, LEFT_BY_STEP, a.rows - first_row, a.steps - step - STEPS);
			JOINED(NAME, _bring)(right, rights, a.right_stride, RIGHT_BY_STEP, a.columns - first_column, a.steps - step - STEPS);
		}
		int steps = a.steps - step;
		if (steps >= STEPS) {
			UNROLL_BY(4) for (int s = 0; s < STEPS; s++) JOINED(NAME, _advance)(sum, tiles + s * PITCH + own_row, tiles + (STEPS + s) * PITCH + own_column);
		} else {
			UNROLL_BY(1) for (int s = 0; s < steps; s++) JOINED(NAME, _advance)(sum, tiles + s * PITCH + own_row, tiles + (STEPS + s) * PITCH + own_column);
		}
	}

	UNROLL for (int i = 0; i < OWN; i++)
		UNROLL for (int j = 0; j < OWN; j++) {
			int row = i / 4 * 64 + i % 4, column = j / 4 * 64 + j % 4;
			if (row < rows && column < columns) JOINED(store_, RESULT)(result + row * a.result_stride + column, sum[i][j]);
		}
}

#undef NAME
#undef TYPE
#undef RESULT
#undef SIDE
#undef OWN
#undef STAGED
#undef WIDTH
