// A kernel that adds the rows of a matrix to a vector in ascending order, so that sums do not depend on how rows are
// cut into calls. The includer defines
//
//	NAME                 the kernel
//	OPERANDS             the fields from which a term comes
//	TERM(row, column)    an element of the matrix
//
// A block has 32 columns and tiles of 128 rows: eight warps bring a tile while the ninth adds the one before, since
// the chain of additions, four cycles each, is all that cannot be done at once. For rows and columns behind the last
// they bring the last, which is not used.

struct JOINED(NAME, _args) {
	float *sum;
	OPERANDS
	int rows, columns;
};

ENTRY(NAME, 288) {
	SHARED float tiles[2][128][32];
	int column = 32 * BLOCK + LANE, exists = column < a.columns, last = (a.rows + 127) / 128;
	float sum = WARP == 8 && exists ? a.sum[column] : 0.0f;
	for (int tile = 0; tile <= last; tile++) {
		if (WARP < 8 && tile < last) {
			int first = 128 * tile + 16 * WARP;
			float own[16];
			UNROLL for (int i = 0; i < 16; i++) own[i] = TERM(least(first + i, a.rows - 1), least(column, a.columns - 1));
			UNROLL for (int i = 0; i < 16; i++) tiles[tile & 1][16 * WARP + i][LANE] = own[i];
		}
		if (WARP == 8 && tile > 0) {
			float(*from)[32] = tiles[(tile - 1) & 1];
			int rows = least(128, a.rows - 128 * (tile - 1)), row = 0;
			for (; row + 16 <= rows; row += 16)
				UNROLL for (int i = 0; i < 16; i++) sum += from[row + i][LANE];
			for (; row < rows; row++) sum += from[row][LANE];
		}
		barrier();
	}
	if (WARP == 8 && exists) a.sum[column] = sum;
}
