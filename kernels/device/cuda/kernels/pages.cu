// Writing keys and values to the pages of a cache. A page has, for each layer and key head, 32 positions of keys and
// then 32 of values. Strides, page and dim are in units of TYPE, which may be several elements at once.
#include "attention.h"

// sequence_of_row is the last sequence that begins by a row. Where each has one row, as in decoding, nothing is searched.
FN int sequence_of_row(const int *offsets, int sequences, int row) {
	if (row < sequences && offsets[row] == row && offsets[row + 1] > row) return row;
	int low = 0, high = sequences - 1;
	while (low < high) {
		int middle = (low + high + 1) / 2;
		if (offsets[middle] <= row) low = middle;
		else high = middle - 1;
	}
	return low;
}

#define WRITE_PAGES(name, TYPE)                                                                                      \
	struct name##_args {                                                                                         \
		TYPE *pages;                                                                                         \
		const TYPE *k, *v;                                                                                   \
		const int *offsets, *cached, *starts, *tables;                                                       \
		long long k_stride, v_stride, page;                                                                  \
		int sequences, rows, key_heads, dim;                                                                 \
	};                                                                                                           \
	KERNEL(name, 256) {                                                                                          \
		int width = a.key_heads * a.dim;                                                                     \
		for (int row = BLOCK; row < a.rows; row += BLOCKS) {                                                 \
			int sequence = sequence_of_row(a.offsets, a.sequences, row);                                 \
			int position = a.cached[sequence] + row - a.offsets[sequence];                               \
			TYPE *to = a.pages + a.tables[a.starts[sequence] + position / TILE] * a.page + position % TILE * a.dim; \
			for (int i = THREAD; i < 2 * width; i += THREADS) { /* keys, then values */                  \
				int values = i >= width, own = i - values * width;                                   \
				long long at = (long long)(2 * (own / a.dim) + values) * TILE * a.dim + own % a.dim; \
				to[at] = values ? a.v[row * a.v_stride + own] : a.k[row * a.k_stride + own];         \
			}                                                                                            \
		}                                                                                                    \
	}
WRITE_PAGES(write_pages_2, unsigned short)
WRITE_PAGES(write_pages_4, unsigned)
WRITE_PAGES(write_pages_16, four)
