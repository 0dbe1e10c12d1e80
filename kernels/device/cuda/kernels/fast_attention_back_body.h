// The gradients of heads of at most WIDE columns, a multiple of 8. Included for each WIDE.

FAST_ATTEND_BACK_ARGS(SIZED_ARGS(fast_attend_back_queries))
FAST_ATTEND_BACK_ARGS(SIZED_ARGS(fast_attend_back_keys))

// find_dots computes D of a tile of queries whose gradients are in shared memory, each thread of the pieces that it has
// copied.
FN void SIZED(find_dots)(const struct SIZED_ARGS(fast_attend_back_queries) *a, bf16 *d_outs, const bf16 *out, float *to, struct walk w, int total) {
	int pieces = WIDE / 8, row = THREAD / pieces, piece = THREAD % pieces, rows = w.step / a->share, heads = w.step % a->share;
	UNROLL_BY(4)
	for (int i = 0; i < QUERIES; i += FAST_THREADS / pieces) {
		float dot = 0.0f;
		if (w.query < total && 8 * piece < a->dim)
			dot = dot_of_pieces(piece_at(d_outs, WIDE, row + i, piece), out + w.row * a->out_stride + w.head * a->dim + 8 * piece);
		UNROLL for (int mask = WIDE / 16; mask > 0; mask /= 2) dot += shuffle_xor(dot, mask);
		if (piece == 0) {
			block_dots[row + i] = dot;
			if (w.query < total) to[(long long)w.row * a->key_heads * a->share + w.head] = dot;
		}
		walk_on(&w, a->share, rows, heads);
	}
}

// Dynamic shared memory: queries, gradients of their outputs, two tiles of keys and two of values. Registers: WIDE sums,
// 32 products, 16 shares, 12 of tiles, 8 of rows, some 25 of addresses.
SIZED_KERNEL(SIZED(fast_attend_back_queries), FAST_THREADS) {
	DYNAMIC_SHARED(memory);
	bf16 *queries = (bf16 *)memory, *d_outs = queries + QUERIES * WIDE, *keys = d_outs + QUERIES * WIDE, *values = keys + 2 * POSITIONS * WIDE;
	int task = BLOCKS - 1 - BLOCK, head = task % a.key_heads, tile; // the longest of a sequence first
	int sequence = find_sequence(a.offsets, a.sequences, a.share, QUERIES, task / a.key_heads, &tile);
	int first = a.offsets[sequence], total = (a.offsets[sequence + 1] - first) * a.share, from = tile * QUERIES;
	if (from >= total) return;
	int end = (least(from + QUERIES, total) - 1) / a.share + 1, heads = head * a.share * a.dim;
	struct corner c = own_corner(WIDE);
	const bf16 *k = a.k + (first + c.row) * a.k_stride + head * a.dim + 8 * c.piece, *v = a.v + (first + c.row) * a.v_stride + head * a.dim + 8 * c.piece;
	bring_queries(queries, a.q + first * a.q_stride + heads, a.q_stride, d_outs, a.d_out + first * a.d_out_stride + heads, a.d_out_stride,
		QUERIES, walk_from(from, a.share, WIDE), a.share, total, a.dim, WIDE);
	bring_on(keys, POSITIONS, &k, a.k_stride, end, a.dim, WIDE);
	bring_on(values, POSITIONS, &v, a.v_stride, end, a.dim, WIDE);
	copies_commit();
	copies_wait(0);
	long long statistics = ((long long)first * a.key_heads + head) * a.share;
	SIZED(find_dots)(&a, d_outs, a.out + first * a.out_stride + heads, a.dots + statistics, walk_from(from, a.share, WIDE), total);
	barrier();

	int mine = from + 32 * WARP, own_end = mine < total ? (least(mine + 32, total) - 1) / a.share + 1 : 0, all_see = mine / a.share + 1;
	float kept[4], dot[4], sum[2 * WIDE / 8][4];
	UNROLL for (int x = 0; x < 4; x++) {
		int query = mine + 8 * x + (LANE >> 2), row = query / a.share;
		kept[x] = query < total ? a.kept[statistics + (long long)row * a.key_heads * a.share + query - row * a.share] : FAST_INFINITE;
		dot[x] = block_dots[query - from];
	}
	clear_tiles(sum, 2 * WIDE / 8);
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
		unsigned shares[2 * POSITIONS / 16][4], ds[2 * POSITIONS / 16][4];
		clear_tiles(s, 2 * POSITIONS / 8);
		multiply_rows(s, 2, POSITIONS / 8, queries + 32 * WARP * WIDE, left, k_tile, right, WIDE);
		if (next > all_see) {
			int visible[4], query = mine + (anew(LANE) >> 2);
			UNROLL for (int x = 0; x < 4; x++) visible[x] = (query + 8 * x) / a.share + 1 - position;
			hide(s, 2, POSITIONS / 8, visible);
		}
		UNROLL for (int j = 0; j < 2 * POSITIONS / 8; j++)
			UNROLL for (int e = 0; e < 4; e++) s[j][e] = power_of_two(multiply_add(s[j][e], a.scale, -kept[j / (POSITIONS / 8) * 2 + e / 2]));
		round_tiles(shares, s, 2 * POSITIONS / 8);
		clear_tiles(s, 2 * POSITIONS / 8);
		multiply_rows(s, 2, POSITIONS / 8, d_outs + 32 * WARP * WIDE, afresh(left), v_tile, afresh(right), WIDE);
		UNROLL for (int j = 0; j < 2 * POSITIONS / 8; j++)
			UNROLL for (int e = 0; e < 4; e++) s[j][e] = rounded_tile(shares, j, e) * (s[j][e] - dot[j / (POSITIONS / 8) * 2 + e / 2]);
		round_tiles(ds, s, 2 * POSITIONS / 8);
		mix_rows(sum, ds, 2, POSITIONS / 16, k_tile, afresh(left), WIDE);
	}
	float factor[4];
	UNROLL for (int x = 0; x < 4; x++) factor[x] = a.factor;
	put_tiles(queries + 32 * WARP * WIDE, sum, 2, factor, WIDE); // where the warp's own queries were
	barrier();
	send_queries(a.dq + first * a.dq_stride + heads, a.dq_stride, queries, QUERIES, walk_from(anew(from), a.share, WIDE), a.share, total, a.dim, WIDE, 1);
}

// A thread's pieces of the queries that pass and of the gradients of their outputs, and its number of what was kept of them,
// or of D.
struct SIZED(passing) {
	const bf16 *q, *d_out;
	const float *number;
	int head, number_head;
};

// passing_from is before the first tile.
FN struct SIZED(passing) SIZED(passing_from)(const struct SIZED_ARGS(fast_attend_back_keys) *a, int first, int head, int position) {
	struct corner c = own_corner(WIDE);
	int query = position * a->share + c.row, row = first + query / a->share, column = 8 * c.piece;
	struct SIZED(passing) p;
	p.head = query % a->share;
	p.q = a->q + row * a->q_stride + (head * a->share + p.head) * a->dim + column;
	p.d_out = a->d_out + row * a->d_out_stride + (head * a->share + p.head) * a->dim + column;
	query = position * a->share + THREAD % PASSING;
	p.number_head = query % a->share;
	p.number = (THREAD < PASSING ? a->kept : a->dots) + ((long long)(first + query / a->share) * a->key_heads + head) * a->share + p.number_head;
	return p;
}

// bring_steps is bring_passing where heads go on, or do not.
FN void SIZED(bring_steps)(struct SIZED(passing) *p, bf16 *queries, const struct SIZED_ARGS(fast_attend_back_keys) *a, int left, int turn) {
	struct corner c = own_corner(WIDE);
	left = rows_left(c, left, a->dim);
	bf16 *to = piece_at(queries, WIDE, c.row, c.piece);
	UNROLL for (int i = 0; i < PASSING; i += FAST_THREADS / (WIDE / 8)) {
		int bytes = i < left ? 16 : 0;
		copy_later(to + i * WIDE, p->q, bytes);
		copy_later(to + (2 * PASSING + i) * WIDE, p->d_out, bytes);
		p->q += a->steps.q;
		p->d_out += a->steps.d_out;
		if (!turn) continue;
		p->head += a->steps.heads;
		if (p->head >= a->share) {
			p->head -= a->share;
			p->q += a->steps.q_over;
			p->d_out += a->steps.d_out_over;
		}
	}
}

// bring_passing begins to copy a tile of passing queries, and one of gradients two tiles further. From the left-th on they
// become 0.
FN void SIZED(bring_passing)(struct SIZED(passing) *p, bf16 *queries, const struct SIZED_ARGS(fast_attend_back_keys) *a, int left) {
	if (a->steps.heads == 0) SIZED(bring_steps)(p, queries, a, left, 0);
	else SIZED(bring_steps)(p, queries, a, left, 1);
	copies_commit();
}

// next_number reads the thread's number of a tile of passing queries. From the left-th on they have no shares.
FN float SIZED(next_number)(struct SIZED(passing) *p, const struct SIZED_ARGS(fast_attend_back_keys) *a, int left) {
	int thread = anew(THREAD), kept = thread < PASSING;
	float number = kept ? FAST_INFINITE : 0.0f;
	if (thread < 2 * PASSING && thread - (kept ? 0 : PASSING) < left) number = *p->number;
	p->number += a->steps.kept;
	p->number_head += a->steps.kept_heads;
	if (p->number_head >= a->share) {
		p->number_head -= a->share;
		p->number += a->steps.kept_over;
	}
	return number;
}

// hide_before makes products −∞ of passing queries that do not see a position: the thread's first is seen from query
// first + g · share on.
FN void SIZED(hide_before)(float (*s)[4], int first, int share) {
	int lane = anew(LANE), column = 2 * (lane & 3), seeing[4];
	UNROLL for (int x = 0; x < 4; x++) seeing[x] = first + ((lane >> 2) + 8 * x) * share;
	UNROLL for (int j = 0; j < 2 * PASSING / 8; j++)
		UNROLL for (int e = 0; e < 4; e++)
			if (column + j % (PASSING / 8) * 8 + e % 2 < seeing[j / (PASSING / 8) * 2 + e / 2]) s[j][e] = -FAST_INFINITE;
}

// give_shares makes shares of products and what was kept of the tile's queries, rounds them, and leaves them for the other warp of
// the positions, a lane's for the same lane.
FN void SIZED(give_shares)(four_words *to, unsigned (*shares)[4], float (*s)[4], const float *kept, float scale) {
	int lane = anew(LANE);
	UNROLL for (int j = 0; j < PASSING / 8; j++) {
		two_floats of = *(const two_floats *)(kept + 8 * j + 2 * (lane & 3));
		UNROLL for (int i = j; i < 2 * PASSING / 8; i += PASSING / 8)
			UNROLL for (int e = 0; e < 4; e++) s[i][e] = power_of_two(multiply_add(s[i][e], scale, -of[e % 2]));
	}
	round_tiles(shares, s, 2 * PASSING / 8);
	UNROLL for (int i = 0; i < 2 * PASSING / 16; i++) {
		four_words v = {shares[i][0], shares[i][1], shares[i][2], shares[i][3]};
		to[32 * i + lane] = v;
	}
}

// take_shares makes of shares that give_shares has left, of products of gradients and values, and of D what weighs queries:
// P ⊙ (dOut·vᵀ − D), rounded.
FN void SIZED(take_shares)(const four_words *from, unsigned (*slopes)[4], float (*s)[4], const float *dots) {
	int lane = anew(LANE);
	unsigned shares[2 * PASSING / 16][4];
	UNROLL for (int i = 0; i < 2 * PASSING / 16; i++) {
		four_words v = from[32 * i + lane];
		UNROLL for (int e = 0; e < 4; e++) shares[i][e] = v[e];
	}
	UNROLL for (int j = 0; j < PASSING / 8; j++) {
		two_floats dot = *(const two_floats *)(dots + 8 * j + 2 * (lane & 3));
		UNROLL for (int i = j; i < 2 * PASSING / 8; i += PASSING / 8)
			UNROLL for (int e = 0; e < 4; e++) s[i][e] = rounded_tile(shares, i, e) * (s[i][e] - dot[e % 2]);
	}
	round_tiles(slopes, s, 2 * PASSING / 8);
}

// Two warps have the same positions: one computes their shares, which weigh the gradients of outputs for dv, and leaves them
// to the other, which makes of them what weighs queries for dk. Each does two of the four products, so that it has room for
// the sums of 32 positions, and a right tile that it reads from shared memory serves two left tiles.
//
// Dynamic shared memory: keys, values, two tiles of queries and two of gradients of their outputs, shares. Registers: WIDE
// sums, 48 products, 24 of tiles, some 30 of addresses.
SIZED_KERNEL(SIZED(fast_attend_back_keys), FAST_THREADS) {
	DYNAMIC_SHARED(memory);
	bf16 *keys = (bf16 *)memory, *values = keys + OWN_POSITIONS * WIDE, *queries = values + OWN_POSITIONS * WIDE;
	int head = BLOCK % a.key_heads, tile; // the longest of a sequence first
	int sequence = find_sequence(a.offsets, a.sequences, 1, OWN_POSITIONS, BLOCK / a.key_heads, &tile);
	int first = a.offsets[sequence], rows = a.offsets[sequence + 1] - first, total = rows * a.share, position = tile * OWN_POSITIONS;
	if (position >= rows) return;
	struct SIZED(passing) passes = SIZED(passing_from)(&a, first, head, position);
	bring_rows(keys, OWN_POSITIONS, a.k + (first + position) * a.k_stride + head * a.dim, a.k_stride, rows - position, a.dim, WIDE);
	bring_rows(values, OWN_POSITIONS, a.v + (first + position) * a.v_stride + head * a.dim, a.v_stride, rows - position, a.dim, WIDE);
	SIZED(bring_passing)(&passes, queries, &a, total - position * a.share);
	passing[0][THREAD] = SIZED(next_number)(&passes, &a, total - position * a.share);

	int pair = WARP % 2, of_keys = WARP / 2, mine = position + 32 * pair; // the first of the warp's positions
	int unseen = mine < rows ? mine * a.share : 0x7fffffff;               // how many queries see none of them
	four_words *exchanged = (four_words *)(queries + 4 * PASSING * WIDE) + pair * (2 * PASSING / 16) * 32;
	bf16 *own = keys + (of_keys * OWN_POSITIONS + 32 * pair) * WIDE;
	float sum[2 * WIDE / 8][4];
	clear_tiles(sum, 2 * WIDE / 8);
	int buffer = 0;
	UNROLL_BY(1)
	for (int from = position * a.share; from < total; from += PASSING) {
		copies_wait(0);
		barrier(); // the tiles are there, and nobody reads those before them
		const bf16 *multiplied = queries + (buffer + 2 * of_keys) * PASSING * WIDE, *mixed = queries + (buffer + 2 - 2 * of_keys) * PASSING * WIDE;
		const float *numbers = passing[buffer] + (of_keys ? PASSING : 0);
		buffer ^= 1;
		int next = from + PASSING, seen = next > unseen;
		float fetched = 0.0f;
		if (next < total) {
			SIZED(bring_passing)(&passes, queries + buffer * PASSING * WIDE, &a, total - next);
			fetched = SIZED(next_number)(&passes, &a, total - next);
		}
		float s[2 * PASSING / 8][4];
		unsigned weights[2 * PASSING / 16][4]; // shares, or what is made of them
		if (seen) {
			clear_tiles(s, 2 * PASSING / 8);
			multiply_rows(s, 2, PASSING / 8, own, afresh(left_place(WIDE)), multiplied, afresh(right_place(WIDE)), WIDE);
			if (!of_keys) {
				if (from < unseen + 31 * a.share) SIZED(hide_before)(s, unseen - from, a.share);
				SIZED(give_shares)(exchanged, weights, s, numbers, a.scale);
			}
		}
		barrier(); // the shares are there
		if (seen) {
			if (of_keys) SIZED(take_shares)(exchanged, weights, s, numbers);
			mix_rows(sum, weights, 2, PASSING / 16, mixed, afresh(left_place(WIDE)), WIDE);
		}
		passing[buffer][THREAD] = fetched;
	}
	float factor[4];
	UNROLL for (int x = 0; x < 4; x++) factor[x] = of_keys ? a.factor : 1.0f;
	put_tiles(own, sum, 2, factor, WIDE); // where what only this warp has read was
	barrier();
	send_rows(a.dk + (first + position) * a.dk_stride + head * a.dim, a.dk_stride, values, OWN_POSITIONS, rows - position, a.dim, WIDE);
	send_rows(a.dv + (first + position) * a.dv_stride + head * a.dim, a.dv_stride, keys, OWN_POSITIONS, rows - position, a.dim, WIDE);
}
