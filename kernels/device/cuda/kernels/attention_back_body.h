// The gradients of attention. Included for each TYPE and WIDE.
//
// With P the shares and D = rowsum(dOut ⊙ out): dv = Pᵀ·dOut, ds = P ⊙ (dOut·vᵀ − D), dq = scale·ds·k, dk = scale·dsᵀ·q.

ATTEND_BACK_ARGS(WIDE_ARGS(attend_back_queries))
ATTEND_BACK_ARGS(WIDE_ARGS(attend_back_keys))

// row_dot is D, of a row that is there, from a column on; 16 threads compute it.
FN float WIDELY(row_dot)(const struct WIDE_ARGS(attend_back_queries) *a, long long row, int column, int there) {
	const TYPE *x = a->d_out + row * a->d_out_stride + column, *y = a->out + row * a->out_stride + column;
	float dot = 0.0f;
	UNROLL_BY(1)
	for (int j = THREAD % 16; there && j < a->dim; j += 16) dot = multiply_add(LOAD(x + j), LOAD(y + j), dot);
	return sum_of_row(dot, 0.0f);
}

// The gradient of a tile of queries: 6 operations an element of a head for each position that a query sees.
ENTRY(WIDELY(attend_back_queries), ATTENTION_THREADS) {
	int tile, sequence = find_sequence(a.offsets, a.sequences, a.share, BLOCKS - 1 - BLOCK, &tile);
	int first = a.offsets[sequence], rows = a.offsets[sequence + 1] - first;
	int queries = rows * a.share, from = tile * TILE;
	if (from >= queries) return;
	int heads = BLOCK_Y * a.share * a.dim;
	const TYPE *q = a.q + first * a.q_stride + heads, *d_out = a.d_out + first * a.d_out_stride + heads;
	const TYPE *k = a.k + first * a.k_stride + BLOCK_Y * a.dim, *v = a.v + first * a.v_stride + BLOCK_Y * a.dim;
	struct lines mine = lines_of(from, a.share, a.dim, rows);
	int end = (least(from + TILE, queries) - 1) / a.share + 1, least_seen = from / a.share + 1;

	int seen[4], none[4] = {0, 0, 0, 0};
	float mean[4]; // D
	struct softmax all[4];
	float sum[CHUNKS][4][4];
	UNROLL for (int i = 0; i < 4; i++) {
		int query = from + 4 * (THREAD / 16) + i, row = query / a.share;
		seen[i] = query < queries ? row + 1 : 0;
		mean[i] = WIDELY(row_dot)(&a, first + row, heads + query % a.share * a.dim, query < queries);
		all[i] = softmax_of_none();
	}
	UNROLL for (int c = 0; c < CHUNKS; c++) clear_sums(sum[c]);
	UNROLL_BY(1)
	for (int position = 0; position < end; position += TILE) {
		struct lines keys = lines_of(0, 1, a.dim, end - position);
		const TYPE *k_tile = k + position * a.k_stride, *v_tile = v + position * a.v_stride;
		float s[4][2] = {{0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}}, ds[4][2] = {{0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}};
		UNROLL_BY(1)
		for (int c = 0; c < CHUNKS; c++) {
			barrier();
			BRING_ROWS(left_tile, q, a.q_stride, &mine, c * CHUNK, a.fours);
			BRING_ROWS(right_tile, k_tile, a.k_stride, &keys, c * CHUNK, a.fours);
			barrier();
			add_products(s, left_tile, right_tile, least(CHUNK, a.dim - c * CHUNK));
			barrier();
			BRING_ROWS(left_tile, d_out, a.d_out_stride, &mine, c * CHUNK, a.fours);
			BRING_ROWS(right_tile, v_tile, a.v_stride, &keys, c * CHUNK, a.fours);
			barrier();
			add_products(ds, left_tile, right_tile, least(CHUNK, a.dim - c * CHUNK));
		}
		float raised[4];
		int visible[4];
		UNROLL for (int i = 0; i < 4; i++) visible[i] = seen[i] - position;
		weigh(s, visible, a.scale, all, raised);
		UNROLL for (int i = 0; i < 4; i++)
			UNROLL for (int j = 0; j < 2; j++) ds[i][j] = s[i][j] * (ds[i][j] - mean[i]); // mix passes over what is not seen
		put_scores(scores, ds);
		UNROLL for (int c = 0; c < CHUNKS; c++) {
			barrier();
			BRING_ROWS(right_tile, k_tile, a.k_stride, &keys, c * CHUNK, a.fours);
			barrier();
			multiply_sums(sum[c], raised);
			mix(sum[c], scores, right_tile, position + TILE <= least_seen, none, visible);
		}
	}
	float factor[4];
	UNROLL for (int i = 0; i < 4; i++) {
		int query = from + 4 * (THREAD / 16) + i;
		float inverse = 1.0f / all[i].sum;
		four statistics = {score_of_zero(all[i].top), inverse, mean[i], 0.0f};
		factor[i] = inverse * a.scale;
		if (query < queries && THREAD % 16 == 0)
			a.statistics[((long long)(first + query / a.share) * a.key_heads + BLOCK_Y) * a.share + query % a.share] = statistics;
	}
	UNROLL for (int c = 0; c < CHUNKS; c++) {
		barrier();
		put_sums(left_tile, sum[c], factor);
		barrier();
		SEND_ROWS(a.dq + first * a.dq_stride + heads, a.dq_stride, &mine, c * CHUNK, left_tile);
	}
}

// The gradients of a tile of keys and values, summed over rows and their query heads in ascending order: 8 operations
// an element of a head for each query that sees a position.
ENTRY(WIDELY(attend_back_keys), ATTENTION_THREADS) {
	int tile, sequence = find_sequence(a.offsets, a.sequences, 1, BLOCK, &tile);
	int first = a.offsets[sequence], rows = a.offsets[sequence + 1] - first;
	int queries = rows * a.share, position = tile * TILE;
	if (position >= rows) return;
	int heads = BLOCK_Y * a.share * a.dim;
	const TYPE *q = a.q + first * a.q_stride + heads, *d_out = a.d_out + first * a.d_out_stride + heads;
	const TYPE *k = a.k + (first + position) * a.k_stride + BLOCK_Y * a.dim;
	const TYPE *v = a.v + (first + position) * a.v_stride + BLOCK_Y * a.dim;
	const four *statistics = a.statistics + ((long long)first * a.key_heads + BLOCK_Y) * a.share;
	struct lines keys = lines_of(0, 1, a.dim, rows - position);

	int seeing[4]; // the first query that sees the thread's keys
	float dk[CHUNKS][4][4], dv[CHUNKS][4][4];
	UNROLL for (int i = 0; i < 4; i++) {
		int key = position + 4 * (THREAD / 16) + i;
		seeing[i] = key < rows ? key * a.share : queries;
	}
	UNROLL for (int c = 0; c < CHUNKS; c++) {
		clear_sums(dk[c]);
		clear_sums(dv[c]);
	}
	UNROLL_BY(1)
	for (int from = position * a.share; from < queries; from += TILE) {
		struct lines mine = lines_of(from, a.share, a.dim, rows);
		float s[4][2] = {{0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}}, ds[4][2] = {{0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}, {0.0f, 0.0f}};
		UNROLL_BY(1)
		for (int c = 0; c < CHUNKS; c++) {
			barrier();
			BRING_ROWS(left_tile, k, a.k_stride, &keys, c * CHUNK, a.fours);
			BRING_ROWS(right_tile, q, a.q_stride, &mine, c * CHUNK, a.fours);
			barrier();
			add_products(s, left_tile, right_tile, least(CHUNK, a.dim - c * CHUNK));
			barrier();
			BRING_ROWS(left_tile, v, a.v_stride, &keys, c * CHUNK, a.fours);
			BRING_ROWS(right_tile, d_out, a.d_out_stride, &mine, c * CHUNK, a.fours);
			barrier();
			add_products(ds, left_tile, right_tile, least(CHUNK, a.dim - c * CHUNK));
		}
		UNROLL for (int j = 0; j < 2; j++) {
			int query = from + THREAD % 16 + 16 * j, row = query / a.share;
			four own = {0.0f, 0.0f, 0.0f, 0.0f};
			if (query < queries) own = statistics[(long long)row * a.key_heads * a.share + query % a.share];
			UNROLL for (int i = 0; i < 4; i++) {
				int seen = query < queries && query >= seeing[i];
				s[i][j] = seen ? exponential(s[i][j] * a.scale - own[0]) * own[1] : 0.0f;
				ds[i][j] = seen ? s[i][j] * (ds[i][j] - own[2]) * a.scale : 0.0f;
			}
		}
		int all = from >= (position + TILE - 1) * a.share && from + TILE <= queries;
		int low[4], high[4];
		UNROLL for (int i = 0; i < 4; i++) low[i] = seeing[i] - from, high[i] = queries - from;
		put_scores(scores, s);
		UNROLL for (int c = 0; c < CHUNKS; c++) {
			barrier();
			BRING_ROWS(right_tile, d_out, a.d_out_stride, &mine, c * CHUNK, a.fours);
			barrier();
			mix(dv[c], scores, right_tile, all, low, high);
		}
		barrier();
		put_scores(scores, ds);
		UNROLL for (int c = 0; c < CHUNKS; c++) {
			barrier();
			BRING_ROWS(right_tile, q, a.q_stride, &mine, c * CHUNK, a.fours);
			barrier();
			mix(dk[c], scores, right_tile, all, low, high);
		}
	}
	const float one[4] = {1.0f, 1.0f, 1.0f, 1.0f};
	TYPE *to_k = a.dk + (first + position) * a.dk_stride + BLOCK_Y * a.dim, *to_v = a.dv + (first + position) * a.dv_stride + BLOCK_Y * a.dim;
	UNROLL for (int c = 0; c < CHUNKS; c++) {
		barrier();
		put_sums(left_tile, dk[c], one);
		put_sums(right_tile, dv[c], one);
		barrier();
		SEND_ROWS(to_k, a.dk_stride, &keys, c * CHUNK, left_tile);
		SEND_ROWS(to_v, a.dv_stride, &keys, c * CHUNK, right_tile);
	}
}
