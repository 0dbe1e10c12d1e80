// Conversions of PTX, and moves.
#include "code_run.h"

// clamped is a number towards zero, at most as far as the type goes. PTX has NaN become 0, unless either type has 64 bits:
// then it is the top bit alone.
#define CLAMPED(name, F, T, least, most, nan)                                        \
	static inline T name(F x) {                                                 \
		if (x != x) return nan;                                             \
		if (x < (F)least) return least;                                     \
		if (x >= (F)most) return most;                                      \
		return (T)x;                                                        \
	}
CLAMPED(f32_to_u32, float, uint32_t, 0, UINT32_MAX, 0)
CLAMPED(f32_to_s32, float, int32_t, INT32_MIN, INT32_MAX, 0)
CLAMPED(f32_to_u64, float, uint64_t, 0, UINT64_MAX, 1ull << 63)
CLAMPED(f32_to_s64, float, int64_t, INT64_MIN, INT64_MAX, INT64_MIN)
CLAMPED(f64_to_u32, double, uint32_t, 0, UINT32_MAX, 1u << 31)
CLAMPED(f64_to_s32, double, int32_t, INT32_MIN, INT32_MAX, INT32_MIN)
CLAMPED(f64_to_u64, double, uint64_t, 0, UINT64_MAX, 1ull << 63)
CLAMPED(f64_to_s64, double, int64_t, INT64_MIN, INT64_MAX, INT64_MIN)

LANE_OP(u32_of_f32, u32, f32, u32, u32, f32_to_u32(x))
LANE_OP(s32_of_f32, s32, f32, u32, u32, f32_to_s32(x))
LANE_OP(u64_of_f32, u64, f32, u32, u32, f32_to_u64(x))
LANE_OP(s64_of_f32, s64, f32, u32, u32, f32_to_s64(x))
LANE_OP(u32_of_f64, u32, f64, u32, u32, f64_to_u32(x))
LANE_OP(s32_of_f64, s32, f64, u32, u32, f64_to_s32(x))
LANE_OP(u64_of_f64, u64, f64, u32, u32, f64_to_u64(x))
LANE_OP(s64_of_f64, s64, f64, u32, u32, f64_to_s64(x))
LANE_OP(f32_of_u32, f32, u32, u32, u32, x)
LANE_OP(f32_of_s32, f32, s32, u32, u32, x)
LANE_OP(f32_of_u64, f32, u64, u32, u32, x)
LANE_OP(f32_of_s64, f32, s64, u32, u32, x)
LANE_OP(f32_of_f64, f32, f64, u32, u32, x)
LANE_OP(f64_of_u32, f64, u32, u32, u32, x)
LANE_OP(f64_of_s32, f64, s32, u32, u32, x)
LANE_OP(f64_of_u64, f64, u64, u32, u32, x)
LANE_OP(f64_of_s64, f64, s64, u32, u32, x)
LANE_OP(f64_of_f32, f64, f32, u32, u32, x)

// Whole numbers: what is read is made as wide as it may have to be, with its sign if it has one.
LANE_OP(words_of_u16, u32, u32, u32, u32, (uint16_t)x)
LANE_OP(words_of_s16, u32, u32, u32, u32, (int32_t)(int16_t)x)
LANE_OP(words_of_words, u32, u32, u32, u32, x)
LANE_OP(words_of_doubles, u32, u64, u32, u32, x)
LANE_OP(doubles_of_u16, u64, u32, u32, u32, (uint16_t)x)
LANE_OP(doubles_of_s16, u64, u32, u32, u32, (int64_t)(int16_t)x)
LANE_OP(doubles_of_u32, u64, u32, u32, u32, x)
LANE_OP(doubles_of_s32, u64, s32, u32, u32, (int64_t)x)
LANE_OP(doubles_of_doubles, u64, u64, u32, u32, x)

// bf16_of rounds to the nearest, of two as near to the even one; NaN is the one that PTX has.
static inline uint32_t bf16_of(uint32_t bits) {
	if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
	return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
LANE_OP(bf16x2_of_f32, u32, u32, u32, u32, bf16_of(x) << 16 | bf16_of(y)) // the first is the upper half

static const struct { unsigned char type, from, mode; doing *run; } conversions[] = {
	{T_U32, T_F32, ROUND_ZERO_INT, u32_of_f32}, {T_S32, T_F32, ROUND_ZERO_INT, s32_of_f32},
	{T_U64, T_F32, ROUND_ZERO_INT, u64_of_f32}, {T_S64, T_F32, ROUND_ZERO_INT, s64_of_f32},
	{T_U32, T_F64, ROUND_ZERO_INT, u32_of_f64}, {T_S32, T_F64, ROUND_ZERO_INT, s32_of_f64},
	{T_U64, T_F64, ROUND_ZERO_INT, u64_of_f64}, {T_S64, T_F64, ROUND_ZERO_INT, s64_of_f64},
	{T_F32, T_U32, ROUND_NEAREST, f32_of_u32}, {T_F32, T_S32, ROUND_NEAREST, f32_of_s32},
	{T_F32, T_U64, ROUND_NEAREST, f32_of_u64}, {T_F32, T_S64, ROUND_NEAREST, f32_of_s64},
	{T_F64, T_U32, ROUND_NEAREST, f64_of_u32}, {T_F64, T_S32, ROUND_NEAREST, f64_of_s32},
	{T_F64, T_U64, ROUND_NEAREST, f64_of_u64}, {T_F64, T_S64, ROUND_NEAREST, f64_of_s64},
	{T_F32, T_F64, ROUND_NEAREST, f32_of_f64}, {T_F64, T_F32, MODE_NONE, f64_of_f32},
	{T_BF16X2, T_F32, ROUND_NEAREST, bf16x2_of_f32},
};

static doing *do_whole(int type, int from) {
	int doubles = type == T_U64 || type == T_S64;
	if (!doubles && type != T_U16 && type != T_S16 && type != T_U32 && type != T_S32) return NULL;
	switch (from) {
	case T_U16: return doubles ? doubles_of_u16 : words_of_u16;
	case T_S16: return doubles ? doubles_of_s16 : words_of_s16;
	case T_U32: return doubles ? doubles_of_u32 : words_of_words;
	case T_S32: return doubles ? doubles_of_s32 : words_of_words;
	case T_U64: case T_S64: return doubles ? doubles_of_doubles : words_of_doubles;
	}
	return NULL;
}

doing *do_convert(const struct instruction *t) {
	if (t->flush) return NULL;
	for (size_t i = 0; i < sizeof conversions / sizeof *conversions; i++)
		if (conversions[i].type == t->type && conversions[i].from == t->from && conversions[i].mode == t->mode) return conversions[i].run;
	return t->mode == MODE_NONE ? do_whole(t->type, t->from) : NULL;
}

LANE_OP(halves_to_word, u32, u32, u32, u32, (x & 0xffff) | y << 16)
LANE_OP(halves_to_double, u64, u32, u32, u32, x | (uint64_t)y << 32)

static void word_to_halves(struct warp *w, struct step *s, uint32_t lanes) {
	const u32 *a = (const u32 *)(w->registers + s->a);
	u32 *low = (u32 *)(w->registers + s->d), *high = (u32 *)(w->registers + s->b);
	for (int i = 0; i < LANES; i++) {
		const uint32_t x = a[i];
		if ((lanes >> i & 1) == 0) continue;
		low[i] = x & 0xffff;
		high[i] = x >> 16;
	}
}
static void double_to_halves(struct warp *w, struct step *s, uint32_t lanes) {
	const u64 *a = (const u64 *)(w->registers + s->a);
	u32 *low = (u32 *)(w->registers + s->d), *high = (u32 *)(w->registers + s->b);
	for (int i = 0; i < LANES; i++) {
		if ((lanes >> i & 1) == 0) continue;
		low[i] = (uint32_t)a[i];
		high[i] = (uint32_t)(a[i] >> 32);
	}
}
static void move_predicate(struct warp *w, struct step *s, uint32_t lanes) {
	u32 *d = (u32 *)(w->registers + s->d);
	*d = (*d & ~lanes) | (*(const u32 *)(w->registers + s->a) & lanes);
}

doing *do_move(const struct instruction *t) {
	signed char vector = (signed char)t->vector;
	switch (t->type) {
	case T_PRED: return move_predicate;
	case T_B16: case T_U16: case T_S16: return words_of_words;
	case T_B32: case T_U32: case T_S32: case T_F32: return vector == 2 ? word_to_halves : vector == -2 ? halves_to_word : words_of_words;
	case T_B64: case T_U64: case T_S64: case T_F64: return vector == 2 ? double_to_halves : vector == -2 ? halves_to_double : doubles_of_doubles;
	}
	return NULL;
}
