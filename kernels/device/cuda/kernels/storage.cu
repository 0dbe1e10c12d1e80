// Copies between types and within strided rows, and filling.
#include "dialect.h"

FN float load_f16(const f16 *p) {
	unsigned h = *p, sign = (h & 0x8000u) << 16, e = h >> 10 & 31, m = h & 1023;
	if (e == 31) return float_of(sign | 0x7f800000u | m << 13);
	if (e == 0) { // zero or subnormal: m·2⁻²⁴
		float v = (float)m * 5.96046448e-8f;
		return sign ? -v : v;
	}
	return float_of(sign | (e + 112) << 23 | m << 13);
}
FN f16 round_f16(float v) {
	unsigned u = bits_of(v), sign = u >> 16 & 0x8000u, magnitude = u & 0x7fffffffu;
	if (magnitude > 0x7f800000u) return (f16)(sign | 0x7e00u | (magnitude >> 13 & 0x1ffu));
	if (magnitude >= 0x477ff000u) return (f16)(sign | 0x7c00u); // 65520 and more
	if (magnitude < 0x38800000u) { // subnormal: in units of 2⁻²⁴; the addition rounds to nearest even
		float scaled = float_of(magnitude) * 16777216.0f + 8388608.0f;
		return (f16)(sign | (bits_of(scaled) - 0x4b000000u));
	}
	unsigned rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
	return (f16)(sign | ((rounded - 0x38000000u) >> 13));
}
FN void store_f16(f16 *p, float v) { *p = round_f16(v); }

#define CONVERT(name, FROM, TO)                                                     \
	struct name##_args { TO *dst; const FROM *src; long long n; };              \
	KERNEL(name, 256) {                                                         \
		long long step = (long long)BLOCKS * THREADS;                       \
		for (long long i = (long long)BLOCK * THREADS + THREAD; i < a.n; i += step) \
			store_##TO(a.dst + i, load_##FROM(a.src + i));              \
	}

typedef float f32;
CONVERT(convert_f32_bf16, f32, bf16)
CONVERT(convert_f32_f16, f32, f16)
CONVERT(convert_bf16_f32, bf16, f32)
CONVERT(convert_bf16_f16, bf16, f16)
CONVERT(convert_f16_f32, f16, f32)
CONVERT(convert_f16_bf16, f16, bf16)

// copy_rows copies strided rows of elements of 2 or 4 bytes: one block a row and 256 columns.
#define COPY_ROWS(name, TYPE)                                                                       \
	struct name##_args { TYPE *dst; const TYPE *src; long long dst_stride, src_stride; int rows, width; }; \
	KERNEL(name, 256) {                                                                         \
		for (int row = BLOCK; row < a.rows; row += BLOCKS)                                  \
			for (int column = THREAD; column < a.width; column += THREADS)              \
				a.dst[row * a.dst_stride + column] = a.src[row * a.src_stride + column]; \
	}
COPY_ROWS(copy_rows_2, unsigned short)
COPY_ROWS(copy_rows_4, unsigned)
