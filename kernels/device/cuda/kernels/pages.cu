// Writing keys and values to the pages of a cache. A page has, for each layer and key head, 32 positions of keys and
// then 32 of values.
#include "attention.h"

#define WRITE_PAGES(name, TYPE)                                                                           \
	struct name##_args {                                                                              \
		TYPE *pages;                                                                              \
		const TYPE *k, *v;                                                                        \
		const int *offsets, *cached, *starts, *tables;                                            \
		long long k_stride, v_stride, page;                                                       \
		int sequences, rows, key_heads, dim;                                                      \
	};                                                                                                \
	KERNEL(name, 256) {                                                                               \
		for (int row = BLOCK; row < a.rows; row += BLOCKS) {                                      \
			int low = 0, high = a.sequences - 1; /* the last sequence that begins by the row */ \
			while (low < high) {                                                              \
				int middle = (low + high + 1) / 2;                                        \
				if (a.offsets[middle] <= row) low = middle;                               \
				else high = middle - 1;                                                   \
			}                                                                                 \
			int position = a.cached[low] + row - a.offsets[low];                              \
			TYPE *to = a.pages + a.tables[a.starts[low] + position / TILE] * a.page + position % TILE * a.dim; \
			for (int i = THREAD; i < a.key_heads * a.dim; i += THREADS) {                     \
				long long at = (long long)(i / a.dim) * 2 * TILE * a.dim + i % a.dim;     \
				to[at] = a.k[row * a.k_stride + i];                                       \
				to[at + TILE * a.dim] = a.v[row * a.v_stride + i];                        \
			}                                                                                 \
		}                                                                                         \
	}
WRITE_PAGES(write_pages_2, unsigned short)
WRITE_PAGES(write_pages_4, unsigned)
