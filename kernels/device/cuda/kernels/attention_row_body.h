// Included for each TYPE.

struct ARGS(attend_row) {
	float *parts;
	const TYPE *q, *k, *v;
	// parts_before is how many parts the rows before a sequence's have; sequences of other than one row have none.
	const int *offsets, *cached, *starts, *parts_before, *tables;
	long long q_stride, head, page;
	int sequences, key_heads, share, dim;
	int fours;
	float scale;
};

// bring_by_warp fills a warp's tile with columns first … first+63 of so many positions of a page.
FN void NAMED(bring_by_warp)(four *tile, const TYPE *keys, int count, int first, int dim, int fours) {
	int column = LANE % 16 * 4;
	four *to = tile + LANE / 16 * PITCH + LANE % 16;
	UNROLL_BY(8)
	for (int i = LANE / 16; i < TILE; i += 2, to += 2 * PITCH) {
		const TYPE *p = keys + (long long)i * dim + first + column;
		four x = {0.0f, 0.0f, 0.0f, 0.0f};
		if (fours) {
			if (i < count && first + column < dim) x = JOINED(load_four_, TYPE)(p);
		} else {
			UNROLL for (int e = 0; e < 4; e++)
				if (i < count && first + column + e < dim) x[e] = LOAD(p + e);
		}
		*to = x;
	}
}

ENTRY(NAMED(attend_row), ATTENTION_THREADS) {
	int low = 0, high = a.sequences - 1;
	while (low < high) {
		int middle = (low + high + 1) / 2;
		if (a.parts_before[middle] <= BLOCK) low = middle;
		else high = middle - 1;
	}
	int start = (BLOCK - a.parts_before[low]) * PART * TILE, end = least(a.cached[low] + 1, start + PART * TILE);
	int tiles = (end - start + TILE - 1) / TILE;
	const int *table = a.tables + a.starts[low] + start / TILE;
	const TYPE *q = a.q + a.offsets[low] * a.q_stride + (long long)BLOCK_Y * a.share * a.dim;
	const TYPE *k = a.k + BLOCK_Y * a.head, *v = a.v + BLOCK_Y * a.head;
	int chunks = (a.dim + CHUNK - 1) / CHUNK;

	for (int i = THREAD; i < a.share * chunks * CHUNK; i += ATTENTION_THREADS) {
		int column = i % (chunks * CHUNK);
		((float *)row_queries)[i / (chunks * CHUNK) * WIDEST + column] =
			column < a.dim ? LOAD(q + i / (chunks * CHUNK) * a.dim + column) : 0.0f;
	}
	// Scores: a warp takes two tiles of keys, a lane a key.
	four *own = row_keys + WARP * TILE * PITCH;
	float s[2][ROW_SHARE];
	UNROLL for (int round = 0; round < 2; round++) {
		int tile = WARP + round * ROW_WARPS, count = end - start - tile * TILE;
		const TYPE *keys = tile < tiles ? k + table[tile] * a.page : 0;
		UNROLL for (int h = 0; h < ROW_SHARE; h++) s[round][h] = 0.0f;
		UNROLL_BY(1)
		for (int c = 0; c < chunks; c++) {
			barrier();
			if (keys) NAMED(bring_by_warp)(own, keys, count, c * CHUNK, a.dim, a.fours);
			barrier();
			if (!keys) continue;
			int columns = least(CHUNK, a.dim - c * CHUNK);
			UNROLL_BY(1)
			for (int d = 0; d < columns; d += 4) {
				four x = own[LANE * PITCH + d / 4];
				UNROLL for (int h = 0; h < ROW_SHARE; h++) {
					if (h >= a.share) continue;
					four y = row_queries[h * (WIDEST / 4) + (c * CHUNK + d) / 4];
					UNROLL for (int e = 0; e < 4; e++) s[round][h] = multiply_add(y[e], x[e], s[round][h]);
				}
			}
		}
	}
	UNROLL for (int round = 0; round < 2; round++) {
		int tile = WARP + round * ROW_WARPS;
		UNROLL for (int h = 0; h < ROW_SHARE; h++) {
			s[round][h] = start + tile * TILE + LANE < end ? s[round][h] * a.scale : -INFINITE;
			float top = warp_most(s[round][h]);
			if (LANE == 0) row_tops[tile][h] = top;
		}
	}
	barrier();
	// Their exponentials, with the largest score up to their tile.
	float *scores = (float *)row_keys;
	UNROLL for (int round = 0; round < 2; round++) {
		int tile = WARP + round * ROW_WARPS;
		UNROLL for (int h = 0; h < ROW_SHARE; h++) {
			if (h >= a.share || tile >= tiles) continue;
			float top = -INFINITE, raised = 0.0f;
			UNROLL_BY(1)
			for (int t = 0; t <= tile; t++) raised = raise(&top, row_tops[t][h]);
			float p = start + tile * TILE + LANE < end ? exponential(s[round][h] - score_of_zero(top)) : 0.0f;
			float sum = warp_sum(p);
			scores[h * PART * TILE + tile * TILE + LANE] = p;
			if (LANE != 0) continue;
			row_raised[tile][h] = raised;
			row_sums[tile][h] = sum;
		}
	}
	barrier();
	float *parts = a.parts + ((long long)BLOCK * a.key_heads + BLOCK_Y) * a.share * part_size(a.dim);
	if (THREAD < a.share) {
		struct softmax part = softmax_of_none();
		for (int t = 0; t < tiles; t++) {
			float raised = raise(&part.top, row_tops[t][THREAD]);
			part.sum = multiply_add(part.sum, raised, row_sums[t][THREAD]);
		}
		parts[THREAD * part_size(a.dim) + a.dim] = part.top;
		parts[THREAD * part_size(a.dim) + a.dim + 1] = part.sum;
	}
	// The mix of the values: a thread takes a column.
	for (int column = THREAD; column < a.dim; column += ATTENTION_THREADS) {
		float sum[ROW_SHARE];
		UNROLL for (int h = 0; h < ROW_SHARE; h++) sum[h] = 0.0f;
		for (int tile = 0; tile < tiles; tile++) {
			const TYPE *values = v + table[tile] * a.page + column;
			UNROLL for (int h = 0; h < ROW_SHARE; h++)
				if (h < a.share) sum[h] = sum[h] * row_raised[tile][h];
			int count = least(TILE, end - start - tile * TILE);
			UNROLL_BY(1)
			for (int t = 0; t < count; t += 8) {
				float x[8];
				UNROLL for (int e = 0; e < 8; e++) x[e] = t + e < count ? LOAD(values + (long long)(t + e) * a.dim) : 0.0f;
				UNROLL for (int h = 0; h < ROW_SHARE; h++) {
					if (h >= a.share) continue;
					const float *p = scores + h * PART * TILE + tile * TILE + t;
					UNROLL for (int e = 0; e < 8; e++) sum[h] = t + e < count ? multiply_add(p[e], x[e], sum[h]) : sum[h];
				}
			}
		}
		UNROLL for (int h = 0; h < ROW_SHARE; h++)
			if (h < a.share) parts[h * part_size(a.dim) + column] = sum[h];
	}
}

struct ARGS(attend_join) {
	TYPE *out;
	const float *parts;
	const int *offsets, *parts_before;
	long long out_stride;
	int sequences, heads, dim;
};

// attend_join has a block for each sequence and query head.
ENTRY(NAMED(attend_join), ATTENTION_THREADS) {
	int from = a.parts_before[BLOCK], to = a.parts_before[BLOCK + 1];
	if (from == to) return;
	for (int column = THREAD; column < a.dim; column += ATTENTION_THREADS) {
		struct softmax all = softmax_of_none();
		float sum = 0.0f;
		for (int i = from; i < to; i++) {
			const float *p = a.parts + ((long long)i * a.heads + BLOCK_Y) * part_size(a.dim);
			struct softmax part;
			part.top = p[a.dim];
			part.sum = p[a.dim + 1];
			float weight = 0.0f, weight_of_part = 1.0f;
			if (i == from) all = part;
			else join(&all, part, &weight, &weight_of_part);
			sum = i == from ? p[column] : multiply_add(p[column], weight_of_part, sum * weight);
		}
		float inverse = 1.0f / all.sum;
		STORE(a.out + a.offsets[BLOCK] * a.out_stride + (long long)BLOCK_Y * a.dim + column, sum * inverse);
	}
}
