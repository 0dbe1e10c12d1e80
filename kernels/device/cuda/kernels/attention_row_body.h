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

// row_scores computes the scores of a part: a warp takes tiles WARP and WARP + ROW_WARPS of keys, a lane a key.
FN void NAMED(row_scores)(const struct ARGS(attend_row) *a, const struct row_part *part, const TYPE *k, float s[2][ROW_SHARE]) {
	four *own = row_keys + WARP * TILE * PITCH;
	UNROLL for (int round = 0; round < 2; round++) {
		int tile = WARP + round * ROW_WARPS, count = part->positions - tile * TILE;
		const TYPE *keys = count > 0 ? k + part->table[tile] * a->page : 0;
		UNROLL for (int h = 0; h < ROW_SHARE; h++) s[round][h] = 0.0f;
		UNROLL_BY(1)
		for (int first = 0; first < a->dim; first += CHUNK) {
			barrier();
			if (keys) NAMED(bring_by_warp)(own, keys, count, first, a->dim, a->fours);
			barrier();
			int columns = keys ? least(CHUNK, a->dim - first) : 0;
			UNROLL_BY(1)
			for (int d = 0; d < columns; d += 4) {
				four x = own[LANE * PITCH + d / 4];
				UNROLL for (int h = 0; h < ROW_SHARE; h++) {
					if (h >= a->share) continue;
					four y = row_queries[h * (WIDEST / 4) + (first + d) / 4];
					UNROLL for (int e = 0; e < 4; e++) s[round][h] = multiply_add(y[e], x[e], s[round][h]);
				}
			}
		}
		UNROLL for (int h = 0; h < ROW_SHARE; h++) {
			s[round][h] = LANE < count ? s[round][h] * a->scale : -INFINITE;
			float top = warp_most(s[round][h]);
			if (LANE == 0) row_tops[tile][h] = top;
		}
	}
}

// row_mix adds up the values of a part: a thread takes a column.
FN void NAMED(row_mix)(const struct ARGS(attend_row) *a, const struct row_part *part, const TYPE *v, const float *terms, float *to) {
	for (int column = THREAD; column < a->dim; column += ATTENTION_THREADS) {
		float sum[ROW_SHARE];
		UNROLL for (int h = 0; h < ROW_SHARE; h++) sum[h] = 0.0f;
		for (int tile = 0; tile * TILE < part->positions; tile++) {
			const TYPE *values = v + part->table[tile] * a->page + column;
			UNROLL for (int h = 0; h < ROW_SHARE; h++)
				if (h < a->share) sum[h] = sum[h] * row_raised[tile][h];
			int count = least(TILE, part->positions - tile * TILE);
			UNROLL_BY(1)
			for (int t = 0; t < count; t += 8) {
				float x[8];
				UNROLL for (int e = 0; e < 8; e++) x[e] = t + e < count ? LOAD(values + (long long)(t + e) * a->dim) : 0.0f;
				UNROLL for (int h = 0; h < ROW_SHARE; h++) {
					if (h >= a->share) continue;
					const float *p = terms + h * PART * TILE + tile * TILE + t;
					UNROLL for (int e = 0; e < 8; e++) sum[h] = t + e < count ? multiply_add(p[e], x[e], sum[h]) : sum[h];
				}
			}
		}
		UNROLL for (int h = 0; h < ROW_SHARE; h++)
			if (h < a->share) to[h * part_size(a->dim) + column] = sum[h];
	}
}

ENTRY(NAMED(attend_row), ATTENTION_THREADS) {
	if (BLOCK >= a.parts_before[a.sequences]) return; // there is room for more parts
	int sequence = sequence_of_part(a.parts_before, a.sequences, BLOCK);
	int start = (BLOCK - a.parts_before[sequence]) * PART * TILE;
	struct row_part part = {a.tables + a.starts[sequence] + start / TILE, least(a.cached[sequence] + 1 - start, PART * TILE)};
	const TYPE *q = a.q + a.offsets[sequence] * a.q_stride + (long long)BLOCK_Y * a.share * a.dim;

	int padded = (a.dim + CHUNK - 1) / CHUNK * CHUNK;
	for (int i = THREAD; i < a.share * padded; i += ATTENTION_THREADS) {
		int h = i / padded, column = i % padded;
		((float *)row_queries)[h * WIDEST + column] = column < a.dim ? LOAD(q + h * a.dim + column) : 0.0f;
	}
	float s[2][ROW_SHARE];
	NAMED(row_scores)(&a, &part, a.k + BLOCK_Y * a.head, s);
	barrier(); // the keys have been read and make room for the terms
	float *terms = (float *)row_keys;
	row_terms(s, part.positions, a.share, terms);
	barrier();
	float *to = a.parts + ((long long)BLOCK * a.key_heads + BLOCK_Y) * a.share * part_size(a.dim);
	if (THREAD < a.share) {
		struct softmax own = row_softmax(part.positions, THREAD);
		to[THREAD * part_size(a.dim) + a.dim] = own.top;
		to[THREAD * part_size(a.dim) + a.dim + 1] = own.sum;
	}
	NAMED(row_mix)(&a, &part, a.v + BLOCK_Y * a.head, terms, to);
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
