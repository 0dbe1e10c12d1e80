// gather and scatter_add between a table of elements of TABLE and rows of elements of ROW; see gather.cu.

#define BOTH(name) JOINED(JOINED(JOINED(name##_, TABLE), _), ROW)

struct JOINED(BOTH(gather), _args) {
	ROW *dst;
	const TABLE *table;
	const int *index;
	int *status;
	long long dst_stride, table_stride;
	int width, limit; // numbers are below limit
};

// gather: a block copies a row.
ENTRY(BOTH(gather), 128) {
	int row = BLOCK, number = a.index[row];
	if (number < 0 || number >= a.limit) {
		if (THREAD == 0) complain(a.status, BAD_INDEX, row, number);
		return;
	}
	const TABLE *table = a.table + number * a.table_stride;
	ROW *dst = a.dst + row * a.dst_stride;
	for (int column = 4 * THREAD; column < a.width; column += 1024) {
		float v[2][4];
		TWO(g) JOINED(read_, TABLE)(v[g], table, GROUP(g), a.width, WHOLE(a.table, a.table_stride, GROUP(g)));
		TWO(g) JOINED(write_, ROW)(dst, v[g], GROUP(g), a.width, WHOLE(a.dst, a.dst_stride, GROUP(g)));
	}
}

struct JOINED(BOTH(scatter_add), _args) {
	TABLE *table;
	const ROW *src;
	const int *keys, *order; // the numbers of rows, ascending, and which row each is
	long long table_stride, src_stride;
	int rows, width, limit;
};

// scatter_add: blocks of places by 1024 columns. That of the first row of a number adds all rows of the number, one after the
// other; a thread has eight columns, and reads four rows at a time.
ENTRY(BOTH(scatter_add), 128) {
	int at = BLOCK, key = a.keys[at], column = 1024 * BLOCK_Y + 4 * THREAD;
	if (key >= a.limit || (at > 0 && a.keys[at - 1] == key) || column >= a.width) return;
	if (at + LONG <= a.rows && a.keys[at + LONG - 1] == key) return;
	TABLE *table = a.table + key * a.table_stride;
	float sums[2][4];
	TWO(g) JOINED(read_, TABLE)(sums[g], table, GROUP(g), a.width, WHOLE(a.table, a.table_stride, GROUP(g)));
	for (int more = 1; more; at += 4) {
		float terms[4][2][4];
		int is[4];
		FOUR(i) {
			is[i] = at + i < a.rows && a.keys[least(at + i, a.rows - 1)] == key;
			if (!is[i]) continue;
			const ROW *src = a.src + a.order[at + i] * a.src_stride;
			TWO(g) JOINED(read_, ROW)(terms[i][g], src, GROUP(g), a.width, WHOLE(a.src, a.src_stride, GROUP(g)));
		}
		FOUR(i) if (is[i]) TWO(g) FOUR(c) sums[g][c] = JOINED(ROUNDED_, TABLE)(sums[g][c] + terms[i][g][c]);
		more = is[3];
	}
	TWO(g) JOINED(write_, TABLE)(table, sums[g], GROUP(g), a.width, WHOLE(a.table, a.table_stride, GROUP(g)));
}

#define scatter_add_long JOINED(BOTH(scatter_add), _long)
struct JOINED(scatter_add_long, _args) {
	TABLE *table;
	const ROW *src;
	const int *keys, *order;
	long long table_stride, src_stride;
	int rows, width, limit;
};

// scatter_add_long: blocks of every LONG-th place by 32 columns. A number with so many rows has such a place; the block of
// its first adds them all. One warp adds, a lane has a column, while all threads read the rows that follow.
ENTRY(scatter_add_long, LONG_THREADS) {
	SHARED four tiles[2][LONG_ROWS][LONG_COLUMNS / 4];
	int place = LONG * BLOCK, key = a.keys[place];
	if (key >= a.limit || (place >= LONG && a.keys[place - LONG] == key)) return;
	int from = first_at(a.keys, most(0, place - LONG), place, key);
	if (from + LONG > a.rows || a.keys[from + LONG - 1] != key) return;
	int end = first_at(a.keys, from + LONG, a.rows, key + 1);
	int own = THREAD / (LONG_COLUMNS / 4), aside = THREAD % (LONG_COLUMNS / 4); // in a tile
	int column = LONG_COLUMNS * BLOCK_Y + 4 * aside, whole = WHOLE(a.src, a.src_stride, column), sum_column = LONG_COLUMNS * BLOCK_Y + LANE;
	TABLE *to = a.table + key * a.table_stride + least(sum_column, a.width - 1);
	float v[LONG_STEPS][4], sum = JOINED(load_, TABLE)(to);
	for (int tile = 0, next = from; next - LONG_ROWS < end; tile ^= 1, next += LONG_ROWS) {
		if (next > from) {
			UNROLL for (int s = 0; s < LONG_STEPS; s++) {
				tiles[tile][own + s * (LONG_ROWS / LONG_STEPS)][aside] = (four){v[s][0], v[s][1], v[s][2], v[s][3]};
			}
			barrier();
		}
		UNROLL for (int s = 0; s < LONG_STEPS; s++) {
			int at = next + own + s * (LONG_ROWS / LONG_STEPS);
			if (at < end) JOINED(read_, ROW)(v[s], a.src + a.order[at] * a.src_stride, column, a.width, whole);
		}
		if (next == from || WARP != 0) continue;
		int rows = least(LONG_ROWS, end - (next - LONG_ROWS));
		UNROLL_BY(8)
		for (int i = 0; i < rows; i++) sum = JOINED(ROUNDED_, TABLE)(sum + ((const float *)tiles[tile][i])[LANE]);
	}
	if (WARP == 0 && sum_column < a.width) JOINED(store_, TABLE)(to, sum);
}
#undef scatter_add_long

#undef BOTH
