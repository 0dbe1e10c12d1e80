// Heads of at most WIDE columns, a multiple of 8. Included for each WIDE. Dynamic shared memory and registers are those of
// fast_attention_body.h.

FAST_TILE_ARGS(SIZED_ARGS(fast_attend_tile))

// bring_positions begins to copy keys and values from a position on, which lie in two pages; those from end on become 0.
FN void SIZED(bring_positions)(bf16 *keys, bf16 *values, const bf16 *pages, const int *table, long long page, int position, int end, int dim) {
	UNROLL for (int i = 0; i < POSITIONS / PAGE; i++) {
		int own = position + i * PAGE;
		const bf16 *rows = pages + table[least(own, end - 1) / PAGE] * page;
		bring_rows(keys + i * PAGE * WIDE, PAGE, rows, dim, end - own, dim, WIDE);
		bring_rows(values + i * PAGE * WIDE, PAGE, rows + PAGE * dim, dim, end - own, dim, WIDE);
	}
	copies_commit();
}

SIZED_KERNEL(SIZED(fast_attend_tile), FAST_THREADS) {
	DYNAMIC_SHARED(memory);
	bf16 *queries = (bf16 *)memory, *keys = queries + QUERIES * WIDE, *values = keys + 2 * POSITIONS * WIDE;
	int task = BLOCKS - 1 - BLOCK, head = task % a.key_heads, tile; // the longest of a sequence first
	int sequence = find_sequence(a.offsets, a.sequences, a.share, QUERIES, task / a.key_heads, &tile);
	int first = a.offsets[sequence], rows = a.offsets[sequence + 1] - first, total = rows * a.share, from = tile * QUERIES;
	if (from >= total || (a.skip_ones && rows == 1)) return;
	int cached = a.cached[sequence], end = cached + (least(from + QUERIES, total) - 1) / a.share + 1;
	const int *table = a.tables + a.starts[sequence];
	const bf16 *pages = a.pages + (long long)head * 2 * PAGE * a.dim;
	bring_queries(queries, a.q + first * a.q_stride + head * a.share * a.dim, a.q_stride, 0, 0, 0, QUERIES, walk_from(from, a.share, WIDE), a.share, total, a.dim, WIDE);
	SIZED(bring_positions)(keys, values, pages, table, a.page, 0, end, a.dim); // and the queries, in one group of copies

	int mine = from + 32 * WARP, own_end = mine < total ? cached + (least(mine + 32, total) - 1) / a.share + 1 : 0;
	int all_see = cached + mine / a.share + 1;
	float top[4], sum[4], out[2 * WIDE / 8][4];
	UNROLL for (int x = 0; x < 4; x++) {
		top[x] = -FAST_INFINITE;
		sum[x] = 0.0f;
	}
	clear_tiles(out, 2 * WIDE / 8);
	int buffer = 0;
	UNROLL_BY(1)
	for (int position = 0; position < end; position += POSITIONS) {
		copies_wait(0);
		barrier(); // the tiles are there, and nobody reads those before them
		const bf16 *k_tile = keys + buffer * POSITIONS * WIDE, *v_tile = values + buffer * POSITIONS * WIDE;
		buffer ^= 1;
		int next = position + POSITIONS;
		if (next < end)
			SIZED(bring_positions)(keys + buffer * POSITIONS * WIDE, values + buffer * POSITIONS * WIDE, pages, table, a.page, next, end, a.dim);
		if (position >= own_end) continue;
		struct place left = afresh(left_place(WIDE)), right = afresh(right_place(WIDE));
		float s[2 * POSITIONS / 8][4];
		clear_tiles(s, 2 * POSITIONS / 8);
		multiply_rows(s, 2, POSITIONS / 8, queries + 32 * WARP * WIDE, left, k_tile, right, WIDE);
		if (next > all_see) {
			int visible[4], query = mine + (anew(LANE) >> 2);
			UNROLL for (int x = 0; x < 4; x++) visible[x] = cached + (query + 8 * x) / a.share + 1 - position;
			hide(s, 2, POSITIONS / 8, visible);
		}
		UNROLL for (int half = 0; half < 2; half++) {
			soften(s + half * POSITIONS / 16, 2, POSITIONS / 16, POSITIONS / 8, a.scale, top, sum, out, WIDE / 8);
			mix_half(out, s + half * POSITIONS / 16, POSITIONS / 16, POSITIONS / 8, v_tile + half * (POSITIONS / 2) * WIDE, afresh(left), WIDE);
		}
	}
	float inverse[4];
	UNROLL for (int x = 0; x < 4; x++) inverse[x] = 1.0f / whole_sum(sum[x]);
	put_tiles(queries + 32 * WARP * WIDE, out, 2, inverse, WIDE); // where the warp's own queries were
	barrier();
	send_queries(a.out + first * a.out_stride + head * a.share * a.dim, a.out_stride, queries, QUERIES, walk_from(anew(from), a.share, WIDE), a.share, total, a.dim, WIDE, a.at_once);
}
