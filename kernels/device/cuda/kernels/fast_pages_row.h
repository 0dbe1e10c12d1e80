// The part of a row of heads of at most WIDE columns, a multiple of 8. Included for each WIDE.
//
// Dynamic shared memory: the queries, then for each warp a step of keys and one of values; in the end the sums of each warp.
// Registers: 4·WIDE/8 sums, 8 scores, 4 shares, 8 of tiles, some 25 of addresses, which are computed where they are used.

#define SUM_PITCH (WIDE + 8) // numbers from row to row of a warp's sums: pairs of 4 rows fall into different banks

FAST_ROW_ARGS(SIZED_ARGS(fast_attend_row))

// bring_members begins to copy the queries of an item from one on: query m is head m mod share of member m / share.
FN void SIZED(bring_members)(bf16 *tile, const struct SIZED_ARGS(fast_attend_row) *a, int first, int from, int total) {
	int piece = THREAD % (WIDE / 8);
	UNROLL for (int i = 0; i < QUERIES; i += FAST_THREADS / (WIDE / 8)) {
		int row = THREAD / (WIDE / 8) + i, query = from + row, inside = row < QUERIES && query < total && 8 * piece < a->dim;
		const bf16 *q = a->q;
		if (inside) {
			q += a->members[first + query / a->share].row * a->q_stride + ((long long)BLOCK_Y * a->share + query % a->share) * a->dim + 8 * piece;
		}
		if (row < QUERIES) copy_later(piece_at(tile, WIDE, row, piece), q, inside ? 16 : 0);
	}
}

// bring_step has a warp begin to copy its keys, or values, of a step; those from count on are zeros.
FN void SIZED(bring_step)(bf16 *tile, const bf16 *pages, long long page, int step, int count, int dim) {
	const bf16 *rows = pages + part_pages[step / 2] * page + (step & 1) * STEP * dim;
	unsigned lane = (unsigned)anew(LANE);
	int piece = (int)(lane % (WIDE / 8)), first = (int)(lane / (WIDE / 8)), left = anew(8 * piece < dim ? count - step * STEP - first : 0);
	const bf16 *p = rows + first * dim + 8 * piece;
	UNROLL for (int i = 0; i < STEP; i += 32 / (WIDE / 8)) {
		copy_later(piece_at(tile, WIDE, first + i, piece), p, i < left ? 16 : 0);
		p += 32 / (WIDE / 8) * dim;
	}
	copies_commit();
}

// keep_sums leaves what a warp has found out for the others.
FN void SIZED(keep_sums)(float *sums, float mixed[WIDE / 8][4], const float top[2], const float sum[2], float scale) {
	int g = LANE >> 2, t = LANE & 3;
	UNROLL for (int i = 0; i < 2; i++) {
		float total = whole_sum(sum[i]);
		float *own = sums + (WARP * QUERIES + g + 8 * i) * SUM_PITCH + 2 * t;
		if (t == 0) {
			warp_tops[WARP][g + 8 * i] = top[i] * scale;
			warp_sums[WARP][g + 8 * i] = total;
		}
		UNROLL for (int c = 0; c < WIDE / 8; c++) {
			two_floats pair = {mixed[c][2 * i], mixed[c][2 * i + 1]};
			*(two_floats *)(own + 8 * c) = pair;
		}
	}
}

// send_part joins what the warps have of a query and writes it: its sums, one a column, then its largest score and its sum
// of powers.
FN void SIZED(send_part)(float *to, const float *sums, int query, int column, int dim) {
	float top = -FAST_INFINITE, total = 0.0f, mixed = 0.0f;
	UNROLL for (int w = 0; w < ROW_WARPS; w++) top = warp_tops[w][query] > top ? warp_tops[w][query] : top;
	float zero = top == -FAST_INFINITE ? 0.0f : top;
	UNROLL for (int w = 0; w < ROW_WARPS; w++) {
		float weight = power_of_two(warp_tops[w][query] - zero);
		total = multiply_add(warp_sums[w][query], weight, total);
		mixed = multiply_add(sums[(w * QUERIES + query) * SUM_PITCH + column], weight, mixed);
	}
	to[column] = mixed;
	if (column != 0) return;
	to[dim] = top;
	to[dim + 1] = total;
}

SIZED_PACKED(SIZED(fast_attend_row), FAST_THREADS, ROW_BLOCKS) {
	DYNAMIC_SHARED(memory);
	const struct row_item item = a.items[BLOCK / a.tiles];
	int from = BLOCK % a.tiles * QUERIES, total = item.members * a.share, count = item.count;
	if (from >= total) return;
	if (THREAD < PART_PAGES) part_pages[THREAD] = a.tables[item.table + least(THREAD, (count - 1) / PAGE)];
	barrier(); // the numbers of pages are there
	const bf16 *k = a.pages + (long long)BLOCK_Y * 2 * PAGE * a.dim, *v = k + PAGE * a.dim;
	bf16 *queries = (bf16 *)memory, *keys = queries + (QUERIES + 2 * STEP * WARP) * WIDE, *values = keys + STEP * WIDE;
	SIZED(bring_members)(queries, &a, item.first, from, total);
	if (WARP * STEP < count) {
		SIZED(bring_step)(keys, k, a.page, WARP, count, a.dim); // and the queries, in one group of copies
		SIZED(bring_step)(values, v, a.page, WARP, count, a.dim);
	} else {
		copies_commit();
		copies_commit();
	}
	copies_wait(1);
	barrier(); // the queries are there
	float mixed[WIDE / 8][4], top[2] = {-FAST_INFINITE, -FAST_INFINITE}, sum[2] = {0.0f, 0.0f};
	clear_tiles(mixed, WIDE / 8);
	UNROLL_BY(1)
	for (int step = WARP; step * STEP < count; step += ROW_WARPS) {
		int next = step + ROW_WARPS, more = next * STEP < count, seen = count - step * STEP;
		float s[2][4];
		unsigned shares[1][4];
		copies_wait(1); // for the keys, which come first of two groups
		warp_barrier();
		clear_tiles(s, 2);
		multiply_rows(s, 1, 2, queries, afresh(left_place(WIDE)), keys, afresh(right_place(WIDE)), WIDE);
		warp_barrier(); // the keys have been read
		if (more) SIZED(bring_step)(keys, k, a.page, next, count, a.dim);
		const int visible[2] = {seen, seen};
		if (seen < STEP) hide(s, 1, 2, visible);
		soften(s, 1, 2, 2, a.scale, top, sum, mixed, WIDE / 8);
		round_tiles(shares, s, 2);
		if (more) copies_wait(1);
		else copies_wait(0);
		warp_barrier();
		mix_rows(mixed, shares, 1, 1, values, afresh(left_place(WIDE)), WIDE);
		warp_barrier(); // the values have been read
		if (more) SIZED(bring_step)(values, v, a.page, next, count, a.dim);
	}
	barrier(); // all has been read, which makes room for sums
	SIZED(keep_sums)((float *)memory, mixed, top, sum, a.scale);
	barrier();
	int own = least(QUERIES, total - from);
	for (int i = THREAD; i < own * a.dim; i += FAST_THREADS) {
		int query = from + i / a.dim;
		long long part = a.members[item.first + query / a.share].part;
		float *to = a.parts + ((part * a.key_heads + BLOCK_Y) * a.share + query % a.share) * (a.dim + 2);
		SIZED(send_part)(to, (const float *)memory, i / a.dim, i % a.dim, a.dim);
	}
}
#undef SUM_PITCH
