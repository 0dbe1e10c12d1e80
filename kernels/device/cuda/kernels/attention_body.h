// Attention of a tile of queries. Included for each TYPE and WIDE.
//
// 4 operations an element of a head for each position that a query sees. 32 queries of a block share what it reads.

struct WIDE_ARGS(attend) {
	TYPE *out;
	const TYPE *q, *k, *v;
	const int *offsets;
	// Of pages; absent where keys and values are rows of matrices.
	const int *cached, *starts, *tables;
	long long out_stride, q_stride, k_stride, v_stride;
	// From key head to key head, and from page to page.
	long long head, page;
	int sequences, share, dim;
	// Sequences of one row are not this kernel's.
	int skip_ones;
	int fours;
	float scale;
};

// join_part joins what the rows that see the part from start on have of it.
FN void WIDELY(join_part)(int start, const int seen[4], struct softmax all[4], const struct softmax part[4], float sum[CHUNKS][4][4],
                          float part_sum[CHUNKS][4][4]) {
	UNROLL for (int i = 0; i < 4; i++) {
		float weight = 0.0f, weight_of_part = 0.0f;
		if (start == 0) all[i] = part[i];
		else if (seen[i] > start) join(&all[i], part[i], &weight, &weight_of_part);
		else continue;
		UNROLL for (int c = 0; c < CHUNKS; c++)
			UNROLL for (int j = 0; j < 4; j++)
				sum[c][i][j] = start == 0 ? part_sum[c][i][j]
				                          : multiply_add(part_sum[c][i][j], weight_of_part, sum[c][i][j] * weight);
	}
}

ENTRY(WIDELY(attend), ATTENTION_THREADS) {
	// The last tiles of a sequence see most and begin first.
	int tile, sequence = find_sequence(a.offsets, a.sequences, a.share, BLOCKS - 1 - BLOCK, &tile);
	int first = a.offsets[sequence], rows = a.offsets[sequence + 1] - first;
	int queries = rows * a.share, from = tile * TILE;
	if (from >= queries || (a.skip_ones && rows == 1)) return;
	int cached = a.cached ? a.cached[sequence] : 0;
	int heads = BLOCK_Y * a.share * a.dim; // the column of the first query head
	const TYPE *q = a.q + first * a.q_stride + heads, *k = a.k + BLOCK_Y * a.head, *v = a.v + BLOCK_Y * a.head;
	const int *table = a.tables ? a.tables + a.starts[sequence] : 0;
	struct lines mine = lines_of(from, a.share, a.dim, rows);

	int seen[4], none[4] = {0, 0, 0, 0}; // how many positions the thread's queries see
	UNROLL for (int i = 0; i < 4; i++) {
		int query = from + 4 * (THREAD / 16) + i;
		seen[i] = query < queries ? cached + query / a.share + 1 : 0;
	}
	int least_seen = cached + from / a.share + 1, end = cached + (least(from + TILE, queries) - 1) / a.share + 1;

	struct softmax all[4], part[4];
	float sum[CHUNKS][4][4], part_sum[CHUNKS][4][4];
	for (int start = 0; start < end; start += PART * TILE) {
		UNROLL for (int i = 0; i < 4; i++) part[i] = softmax_of_none();
		UNROLL for (int c = 0; c < CHUNKS; c++) clear_sums(part_sum[c]);
		for (int position = start; position < end && position < start + PART * TILE; position += TILE) {
			struct lines keys = lines_of(0, 1, a.dim, end - position);
			const TYPE *k_tile = k, *v_tile = v;
			if (table) {
				long long page = table[position / TILE] * a.page;
				k_tile += page, v_tile += page;
			} else {
				k_tile += (first + position) * a.k_stride, v_tile += (first + position) * a.v_stride;
			}
			float s[4][2] = {{0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}};
			UNROLL_BY(1)
			for (int c = 0; c < CHUNKS; c++) {
				barrier();
				if (CHUNKS > 1 || position == 0) BRING_ROWS(left_tile, q, a.q_stride, &mine, c * CHUNK, a.fours);
				BRING_ROWS(right_tile, k_tile, a.k_stride, &keys, c * CHUNK, a.fours);
				barrier();
				add_products(s, left_tile, right_tile, least(CHUNK, a.dim - c * CHUNK));
			}
			float raised[4];
			int visible[4];
			UNROLL for (int i = 0; i < 4; i++) visible[i] = seen[i] - position;
			weigh(s, visible, a.scale, part, raised);
			put_scores(scores, s);
			UNROLL for (int c = 0; c < CHUNKS; c++) {
				barrier();
				BRING_ROWS(right_tile, v_tile, a.v_stride, &keys, c * CHUNK, a.fours);
				barrier();
				multiply_sums(part_sum[c], raised);
				mix(part_sum[c], scores, right_tile, position + TILE <= least_seen, none, visible);
			}
		}
		WIDELY(join_part)(start, seen, all, part, sum, part_sum);
	}
	float inverse[4];
	UNROLL for (int i = 0; i < 4; i++) inverse[i] = 1.0f / all[i].sum;
	UNROLL for (int c = 0; c < CHUNKS; c++) {
		barrier();
		put_sums(left_tile, sum[c], inverse);
		barrier();
		SEND_ROWS(a.out + first * a.out_stride + heads, a.out_stride, &mine, c * CHUNK, left_tile);
	}
}
