// Arithmetic of PTX by lanes. Floating point is IEEE's, to nearest; a NaN that comes out is the host's. Of the approximate
// instructions the exact value is computed in double precision and rounded, which is nearer than a GPU comes.
#include <math.h>
#include "code_run.h"

#define UNARY(name, T, e) LANE_OP(name, T, T, u32, u32, e)
#define BINARY(name, T, e) LANE_OP(name, T, T, T, u32, e)
#define TERNARY(name, T, e) LANE_OP(name, T, T, T, T, e)

BINARY(add_32, u32, x + y)
BINARY(add_64, u64, x + y)
BINARY(add_f32, f32, x + y)
BINARY(add_f64, f64, x + y)
BINARY(sub_32, u32, x - y)
BINARY(sub_64, u64, x - y)
BINARY(sub_f32, f32, x - y)
BINARY(sub_f64, f64, x - y)
BINARY(mul_32, u32, x * y)
BINARY(mul_64, u64, x * y)
BINARY(mul_f32, f32, x * y)
BINARY(mul_f64, f64, x * y)
BINARY(mul_hi_u32, u32, (uint64_t)x * y >> 32)
BINARY(mul_hi_s32, s32, (int64_t)x * y >> 32)
BINARY(mul_hi_u64, u64, (unsigned __int128)x * y >> 64)
BINARY(mul_hi_s64, s64, (__int128)x * y >> 64)
LANE_OP(mul_hi_u16, u32, u32, u32, u32, (x & 0xffff) * (y & 0xffff) >> 16)
LANE_OP(mul_hi_s16, s32, u32, u32, u32, (int32_t)(int16_t)x * (int16_t)y >> 16)
LANE_OP(mul_wide_u16, u32, u32, u32, u32, (x & 0xffff) * (y & 0xffff))
LANE_OP(mul_wide_s16, s32, u32, u32, u32, (int32_t)(int16_t)x * (int16_t)y)
LANE_OP(mul_wide_u32, u64, u32, u32, u32, (uint64_t)x * y)
LANE_OP(mul_wide_s32, s64, s32, s32, u32, (int64_t)x * y)
TERNARY(mad_32, u32, x * y + z)
TERNARY(mad_64, u64, x * y + z)
LANE_OP(mad_wide_u32, u64, u32, u32, u64, (uint64_t)x * y + z)
LANE_OP(mad_wide_s32, u64, s32, s32, u64, (uint64_t)((int64_t)x * y) + z)
LANE_OP(mad_wide_u16, u32, u32, u32, u32, (x & 0xffff) * (y & 0xffff) + z)
LANE_OP(mad_wide_s16, u32, u32, u32, u32, (uint32_t)((int32_t)(int16_t)x * (int16_t)y) + z)
TERNARY(fma_f32, f32, __builtin_fmaf(x, y, z))
TERNARY(fma_f64, f64, __builtin_fma(x, y, z))

// What a division by zero gives PTX leaves open; here all bits are set.
BINARY(div_u32, u32, y == 0 ? ~0u : x / y)
BINARY(div_u64, u64, y == 0 ? ~0ull : x / y)
BINARY(div_s32, s32, y == 0 ? -1 : y == -1 ? (int32_t)(0 - (uint32_t)x) : x / y)
BINARY(div_s64, s64, y == 0 ? -1 : y == -1 ? (int64_t)(0 - (uint64_t)x) : x / y)
BINARY(rem_u32, u32, y == 0 ? ~0u : x % y)
BINARY(rem_u64, u64, y == 0 ? ~0ull : x % y)
BINARY(rem_s32, s32, y == 0 ? -1 : y == -1 ? 0 : x % y)
BINARY(rem_s64, s64, y == 0 ? -1 : y == -1 ? 0 : x % y)
static inline int32_t quotient(int32_t x, int32_t y) { return y == 0 ? -1 : x / y; }
static inline int32_t remainder_of(int32_t x, int32_t y) { return y == 0 ? -1 : x % y; }
BINARY(div_u16, u32, quotient((int32_t)(x & 0xffff), (int32_t)(y & 0xffff)))
BINARY(div_s16, u32, quotient((int16_t)x, (int16_t)y))
BINARY(rem_u16, u32, remainder_of((int32_t)(x & 0xffff), (int32_t)(y & 0xffff)))
BINARY(rem_s16, u32, remainder_of((int16_t)x, (int16_t)y))
BINARY(div_f32, f32, x / y)
BINARY(div_f64, f64, x / y)
UNARY(rcp_f32, f32, 1.0f / x)
UNARY(rcp_f64, f64, 1.0 / x)
UNARY(sqrt_f32, f32, __builtin_sqrtf(x))
UNARY(sqrt_f64, f64, __builtin_sqrt(x))

// flushed is a number with those below 2⁻¹²⁶ made 0.
static inline float flushed(float x) { return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0, x) : x; }

UNARY(rcp_approx, f32, flushed((float)(1.0 / (double)flushed(x))))
UNARY(ex2_approx, f32, flushed((float)exp2((double)flushed(x))))
UNARY(lg2_approx, f32, flushed((float)log2((double)flushed(x))))

// Of two numbers of which one is NaN, the least and the most are the other; −0 is below +0.
static inline float least_f32(float x, float y) {
	if (x != x || y != y) return x == x ? x : y == y ? y : __builtin_nanf("0x3fffff");
	return x < y || (x == y && __builtin_signbit(x)) ? x : y;
}
static inline float most_f32(float x, float y) {
	if (x != x || y != y) return x == x ? x : y == y ? y : __builtin_nanf("0x3fffff");
	return x > y || (x == y && !__builtin_signbit(x)) ? x : y;
}
static inline double least_f64(double x, double y) {
	if (x != x || y != y) return x == x ? x : y;
	return x < y || (x == y && __builtin_signbit(x)) ? x : y;
}
static inline double most_f64(double x, double y) {
	if (x != x || y != y) return x == x ? x : y;
	return x > y || (x == y && !__builtin_signbit(x)) ? x : y;
}
BINARY(min_f32, f32, least_f32(x, y))
BINARY(max_f32, f32, most_f32(x, y))
BINARY(min_f64, f64, least_f64(x, y))
BINARY(max_f64, f64, most_f64(x, y))
BINARY(min_u16, u32, (uint16_t)x < (uint16_t)y ? x : y)
BINARY(max_u16, u32, (uint16_t)x > (uint16_t)y ? x : y)
BINARY(min_s16, u32, (int16_t)x < (int16_t)y ? x : y)
BINARY(max_s16, u32, (int16_t)x > (int16_t)y ? x : y)
BINARY(min_u32, u32, x < y ? x : y)
BINARY(max_u32, u32, x > y ? x : y)
BINARY(min_s32, s32, x < y ? x : y)
BINARY(max_s32, s32, x > y ? x : y)
BINARY(min_u64, u64, x < y ? x : y)
BINARY(max_u64, u64, x > y ? x : y)
BINARY(min_s64, s64, x < y ? x : y)
BINARY(max_s64, s64, x > y ? x : y)

UNARY(neg_32, u32, 0 - x)
UNARY(neg_64, u64, 0 - x)
UNARY(neg_f32, u32, x ^ 0x80000000u)
UNARY(neg_f64, u64, x ^ 1ull << 63)
UNARY(abs_s16, u32, (int16_t)x < 0 ? 0 - x : x)
UNARY(abs_s32, s32, x < 0 ? (int32_t)(0 - (uint32_t)x) : x)
UNARY(abs_s64, s64, x < 0 ? (int64_t)(0 - (uint64_t)x) : x)
UNARY(abs_f32, u32, x & 0x7fffffffu)
UNARY(abs_f64, u64, x & ~(1ull << 63))

BINARY(and_32, u32, x & y)
BINARY(and_64, u64, x & y)
BINARY(or_32, u32, x | y)
BINARY(or_64, u64, x | y)
BINARY(xor_32, u32, x ^ y)
BINARY(xor_64, u64, x ^ y)
UNARY(not_32, u32, ~x)
UNARY(not_64, u64, ~x)

// The number of places is 32 bits always, and stops at the width.
LANE_OP(shl_16, u32, u32, u32, u32, y > 15 ? 0 : x << (y & 15))
LANE_OP(shl_32, u32, u32, u32, u32, y > 31 ? 0 : x << (y & 31))
LANE_OP(shl_64, u64, u64, u32, u32, y > 63 ? 0 : x << (y & 63))
LANE_OP(shr_u16, u32, u32, u32, u32, y > 15 ? 0 : (x & 0xffff) >> (y & 15))
LANE_OP(shr_u32, u32, u32, u32, u32, y > 31 ? 0 : x >> (y & 31))
LANE_OP(shr_u64, u64, u64, u32, u32, y > 63 ? 0 : x >> (y & 63))
LANE_OP(shr_s16, s32, u32, u32, u32, (int32_t)(int16_t)x >> (y > 15 ? 15 : y))
LANE_OP(shr_s32, s32, s32, u32, u32, x >> (y > 31 ? 31 : y))
LANE_OP(shr_s64, s64, s64, u32, u32, x >> (y > 63 ? 63 : y))

// field is so many bits of a number of so many, from a place on; what is not there is the sign of what is.
static inline uint64_t field(uint64_t x, uint32_t place, uint32_t bits, uint32_t width, int is_signed) {
	place &= 0xff, bits &= 0xff;
	uint32_t top = place + bits - 1;
	if (top > width - 1) top = width - 1;
	uint64_t fill = is_signed && bits != 0 && (x >> top & 1) ? ~0ull : 0;
	uint64_t there = place >= width ? 0 : x >> place;
	uint32_t have = place >= width ? 0 : width - place;
	if (bits < have) have = bits;
	uint64_t mask = have >= 64 ? ~0ull : (1ull << have) - 1;
	return (there & mask) | (fill & ~mask);
}
LANE_OP(bfe_u32, u32, u32, u32, u32, field(x, y, z, 32, 0))
LANE_OP(bfe_s32, u32, u32, u32, u32, field(x, y, z, 32, 1))
LANE_OP(bfe_u64, u64, u64, u32, u32, field(x, y, z, 64, 0))
LANE_OP(bfe_s64, u64, u64, u32, u32, field(x, y, z, 64, 1))

// Predicates are a bit of each lane.
#define PREDICATE_OP(name, e)                                                        \
	static void name(struct warp *w, struct step *s, uint32_t lanes) {          \
		u32 *d = (u32 *)(w->registers + s->d);                              \
		const uint32_t x = *(const u32 *)(w->registers + s->a);             \
		const uint32_t y = *(const u32 *)(w->registers + s->b);             \
		(void)y;                                                            \
		*d = (*d & ~lanes) | ((e) & lanes);                                 \
	}
PREDICATE_OP(and_pred, x & y)
PREDICATE_OP(or_pred, x | y)
PREDICATE_OP(xor_pred, x ^ y)
PREDICATE_OP(not_pred, ~x)

// An operation by the kind of its type: bits count where signs do not.
struct row {
	unsigned char op, mode, flush;
	doing *pred, *bits16, *u16, *s16, *bits32, *u32, *s32, *bits64, *u64, *s64, *f32, *f64;
};

static const struct row rows[] = {
	{OP_ADD, MODE_NONE, 0, .bits16 = add_32, .bits32 = add_32, .bits64 = add_64},
	{OP_ADD, ROUND_NEAREST, 0, .f32 = add_f32, .f64 = add_f64},
	{OP_SUB, MODE_NONE, 0, .bits16 = sub_32, .bits32 = sub_32, .bits64 = sub_64},
	{OP_SUB, ROUND_NEAREST, 0, .f32 = sub_f32, .f64 = sub_f64},
	{OP_MUL, MUL_LO, 0, .bits16 = mul_32, .bits32 = mul_32, .bits64 = mul_64},
	{OP_MUL, MUL_HI, 0, .u16 = mul_hi_u16, .s16 = mul_hi_s16, .u32 = mul_hi_u32, .s32 = mul_hi_s32, .u64 = mul_hi_u64, .s64 = mul_hi_s64},
	{OP_MUL, MUL_WIDE, 0, .u16 = mul_wide_u16, .s16 = mul_wide_s16, .u32 = mul_wide_u32, .s32 = mul_wide_s32},
	{OP_MUL, ROUND_NEAREST, 0, .f32 = mul_f32, .f64 = mul_f64},
	{OP_MAD, MUL_LO, 0, .bits16 = mad_32, .bits32 = mad_32, .bits64 = mad_64},
	{OP_MAD, MUL_WIDE, 0, .u16 = mad_wide_u16, .s16 = mad_wide_s16, .u32 = mad_wide_u32, .s32 = mad_wide_s32},
	{OP_FMA, ROUND_NEAREST, 0, .f32 = fma_f32, .f64 = fma_f64},
	{OP_DIV, MODE_NONE, 0, .u16 = div_u16, .s16 = div_s16, .u32 = div_u32, .s32 = div_s32, .u64 = div_u64, .s64 = div_s64},
	{OP_DIV, ROUND_NEAREST, 0, .f32 = div_f32, .f64 = div_f64},
	{OP_REM, MODE_NONE, 0, .u16 = rem_u16, .s16 = rem_s16, .u32 = rem_u32, .s32 = rem_s32, .u64 = rem_u64, .s64 = rem_s64},
	{OP_RCP, ROUND_NEAREST, 0, .f32 = rcp_f32, .f64 = rcp_f64},
	{OP_RCP, APPROXIMATE, 1, .f32 = rcp_approx},
	{OP_SQRT, ROUND_NEAREST, 0, .f32 = sqrt_f32, .f64 = sqrt_f64},
	{OP_EX2, APPROXIMATE, 1, .f32 = ex2_approx},
	{OP_LG2, APPROXIMATE, 1, .f32 = lg2_approx},
	{OP_MIN, MODE_NONE, 0, .u16 = min_u16, .s16 = min_s16, .u32 = min_u32, .s32 = min_s32, .u64 = min_u64, .s64 = min_s64, .f32 = min_f32, .f64 = min_f64},
	{OP_MAX, MODE_NONE, 0, .u16 = max_u16, .s16 = max_s16, .u32 = max_u32, .s32 = max_s32, .u64 = max_u64, .s64 = max_s64, .f32 = max_f32, .f64 = max_f64},
	{OP_NEG, MODE_NONE, 0, .bits16 = neg_32, .bits32 = neg_32, .bits64 = neg_64, .f32 = neg_f32, .f64 = neg_f64},
	{OP_ABS, MODE_NONE, 0, .s16 = abs_s16, .s32 = abs_s32, .s64 = abs_s64, .f32 = abs_f32, .f64 = abs_f64},
	{OP_AND, MODE_NONE, 0, .pred = and_pred, .bits16 = and_32, .bits32 = and_32, .bits64 = and_64},
	{OP_OR, MODE_NONE, 0, .pred = or_pred, .bits16 = or_32, .bits32 = or_32, .bits64 = or_64},
	{OP_XOR, MODE_NONE, 0, .pred = xor_pred, .bits16 = xor_32, .bits32 = xor_32, .bits64 = xor_64},
	{OP_NOT, MODE_NONE, 0, .pred = not_pred, .bits16 = not_32, .bits32 = not_32, .bits64 = not_64},
	{OP_SHL, MODE_NONE, 0, .bits16 = shl_16, .bits32 = shl_32, .bits64 = shl_64},
	{OP_SHR, MODE_NONE, 0, .u16 = shr_u16, .s16 = shr_s16, .u32 = shr_u32, .s32 = shr_s32, .u64 = shr_u64, .s64 = shr_s64},
	{OP_BFE, MODE_NONE, 0, .u32 = bfe_u32, .s32 = bfe_s32, .u64 = bfe_u64, .s64 = bfe_s64},
};

static doing *either(doing *own, doing *bits) { return own != NULL ? own : bits; }

doing *do_arithmetic(const struct instruction *t) {
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *r = &rows[i];
		if (r->op != t->op || r->mode != t->mode || r->flush != t->flush) continue;
		switch (t->type) {
		case T_PRED: return r->pred;
		case T_B16: case T_U16: return either(r->u16, r->bits16);
		case T_S16: return either(r->s16, r->bits16);
		case T_B32: case T_U32: return either(r->u32, r->bits32);
		case T_S32: return either(r->s32, r->bits32);
		case T_B64: case T_U64: return either(r->u64, r->bits64);
		case T_S64: return either(r->s64, r->bits64);
		case T_F32: return r->f32;
		case T_F64: return r->f64;
		}
		return NULL;
	}
	return NULL;
}
