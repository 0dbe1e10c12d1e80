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
	EACH_FOUR {
		float v[4];
		FOUR(c) v[c] = JOINED(load_, TABLE)(table + READ(c));
		FOUR(c) if (EXISTS(c)) JOINED(store_, ROW)(dst + COLUMN(c), v[c]);
	}
}

struct JOINED(BOTH(scatter_add), _args) {
	TABLE *table;
	const ROW *src;
	const int *index;
	int *status;
	long long table_stride, src_stride;
	int rows, width, limit, first; // first is the number of row 0, for complaints
};

// scatter_add: the block of the first row of a number adds all rows of that number, one after the other, and the
// blocks of the others do nothing. A row takes SEARCHED comparisons beside being read and added, a million a launch,
// which at a comparison a cycle and lane is below the time that its memory takes. Where all rows are of one number, one block
// adds them, a thread reading 16 elements at a time.
ENTRY(BOTH(scatter_add), 128) {
	SHARED int index[SEARCHED], found[SEARCHED], counts[4];
	int row = BLOCK, number = a.index[row];
	if (number < 0 || number >= a.limit) {
		if (THREAD == 0) complain(a.status, BAD_INDEX, a.first + row, number);
		return;
	}
	for (int i = THREAD; i < a.rows; i += 128) index[i] = a.index[i];
	barrier();
	int rows = find_rows(index, a.rows, row, found, counts);
	TABLE *table = a.table + number * a.table_stride;
	if (rows == 0) return;
	EACH_FOUR {
		float sums[4];
		FOUR(c) sums[c] = JOINED(load_, TABLE)(table + READ(c));
		int k = 0;
		for (; k + 4 <= rows; k += 4) {
			float terms[4][4];
			FOUR(i) {
				const ROW *src = a.src + found[k + i] * a.src_stride;
				FOUR(c) terms[i][c] = JOINED(load_, ROW)(src + READ(c));
			}
			FOUR(i) FOUR(c) sums[c] = JOINED(ROUNDED_, TABLE)(sums[c] + terms[i][c]);
		}
		for (; k < rows; k++) {
			const ROW *src = a.src + found[k] * a.src_stride;
			FOUR(c) sums[c] = JOINED(ROUNDED_, TABLE)(sums[c] + JOINED(load_, ROW)(src + READ(c)));
		}
		FOUR(c) if (EXISTS(c)) JOINED(store_, TABLE)(table + COLUMN(c), sums[c]);
	}
}

#undef BOTH
