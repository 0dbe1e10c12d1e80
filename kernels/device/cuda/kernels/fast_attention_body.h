// Attention of heads of at most WIDE columns, a multiple of 8. Included for each WIDE.
//
// 4 operations an element of a head for each position that a query sees. Dynamic shared memory: queries, then two tiles
// of keys and two of values. Registers: WIDE sums, 32 products, 16 shares, 12 of tiles, 8 of rows, some 25 of addresses.

struct SIZED_ARGS(fast_attend) {
	bf16 *out; // absent when only kept is asked for
	const bf16 *q, *k, *v;
	const int *offsets;
	float *kept; // of each query head of each row, the logarithm to base 2 of the sum that the softmax divides by; may be absent
	long long out_stride, q_stride, k_stride, v_stride;
	int sequences, key_heads, share, dim;
	int at_once; // out can be written 16 bytes at a time
	float scale; // of the products, times log₂ e; positive
};

SIZED_KERNEL(SIZED(fast_attend), FAST_THREADS) {
	DYNAMIC_SHARED(memory);
	bf16 *queries = (bf16 *)memory, *keys = queries + QUERIES * WIDE, *values = keys + 2 * POSITIONS * WIDE;
	int task = BLOCKS - 1 - BLOCK, head = task % a.key_heads, tile; // the longest of a sequence first
	int sequence = find_sequence(a.offsets, a.sequences, a.share, QUERIES, task / a.key_heads, &tile);
	int first = a.offsets[sequence], total = (a.offsets[sequence + 1] - first) * a.share, from = tile * QUERIES;
	if (from >= total) return;
	int end = (least(from + QUERIES, total) - 1) / a.share + 1;
	struct corner c = own_corner(WIDE);
	const bf16 *k = a.k + (first + c.row) * a.k_stride + head * a.dim + 8 * c.piece, *v = a.v + (first + c.row) * a.v_stride + head * a.dim + 8 * c.piece;
	bring_queries(queries, a.q + first * a.q_stride + head * a.share * a.dim, a.q_stride, 0, 0, 0, QUERIES, walk_from(from, a.share, WIDE), a.share, total, a.dim, WIDE);
	bring_on(keys, POSITIONS, &k, a.k_stride, end, a.dim, WIDE);
	bring_on(values, POSITIONS, &v, a.v_stride, end, a.dim, WIDE);
	copies_commit();

	int mine = from + 32 * WARP, own_end = mine < total ? (least(mine + 32, total) - 1) / a.share + 1 : 0, all_see = mine / a.share + 1;
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
		if (next < end) {
			bring_on(keys + buffer * POSITIONS * WIDE, POSITIONS, &k, a.k_stride, end - next, a.dim, WIDE);
			bring_on(values + buffer * POSITIONS * WIDE, POSITIONS, &v, a.v_stride, end - next, a.dim, WIDE);
			copies_commit();
		}
		if (position >= own_end) continue;
		struct place left = afresh(left_place(WIDE)), right = afresh(right_place(WIDE));
		float s[2 * POSITIONS / 8][4];
		clear_tiles(s, 2 * POSITIONS / 8);
		multiply_rows(s, 2, POSITIONS / 8, queries + 32 * WARP * WIDE, left, k_tile, right, WIDE);
		if (next > all_see) {
			int visible[4], query = mine + (anew(LANE) >> 2);
			UNROLL for (int x = 0; x < 4; x++) visible[x] = (query + 8 * x) / a.share + 1 - position;
			hide(s, 2, POSITIONS / 8, visible);
		}
		UNROLL for (int half = 0; half < 2; half++) {
			soften(s + half * POSITIONS / 16, 2, POSITIONS / 16, POSITIONS / 8, a.scale, top, sum, out, WIDE / 8);
			if (a.out) mix_half(out, s + half * POSITIONS / 16, POSITIONS / 16, POSITIONS / 8, v_tile + half * (POSITIONS / 2) * WIDE, afresh(left), WIDE);
		}
	}

	mine = anew(mine);
	float inverse[4];
	UNROLL for (int x = 0; x < 4; x++) {
		float all = whole_sum(sum[x]);
		inverse[x] = 1.0f / all;
		int query = mine + 8 * x + (LANE >> 2), row = query / a.share;
		if (a.kept && (LANE & 3) == 0 && query < total)
			a.kept[((long long)(first + row) * a.key_heads + head) * a.share + query - row * a.share] = multiply_add(top[x], a.scale, binary_logarithm(all));
	}
	if (!a.out) return;
	put_tiles(queries + 32 * WARP * WIDE, out, 2, inverse, WIDE); // where the warp's own queries were
	barrier();
	send_queries(a.out + first * a.out_stride + head * a.share * a.dim, a.out_stride, queries, QUERIES, walk_from(anew(from), a.share, WIDE), a.share, total, a.dim, WIDE, a.at_once);
}
