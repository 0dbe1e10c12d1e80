// Comparisons of PTX and what chooses by them.
#include "code_run.h"

#define SETP(name, T, cast, e)                                                      \
	static void name(struct warp *w, struct step *s, uint32_t lanes) {          \
		u32 *d = (u32 *)(w->registers + s->d);                              \
		const T *a = (const T *)(w->registers + s->a);                      \
		const T *b = (const T *)(w->registers + s->b);                      \
		uint32_t holds = 0;                                                 \
		EACH {                                                              \
			const cast x = (cast)a[i];                                  \
			const cast y = (cast)b[i];                                  \
			holds |= (uint32_t)(e) << i;                                \
		}                                                                   \
		*d = (*d & ~lanes) | (holds & lanes);                               \
	}

// The six comparisons, which of floating point are false where a number is NaN.
#define ORDERED(type, T, cast)                                  \
	SETP(eq_##type, T, cast, x == y)                        \
	SETP(ne_##type, T, cast, x < y || x > y)                \
	SETP(lt_##type, T, cast, x < y)                         \
	SETP(le_##type, T, cast, x <= y)                        \
	SETP(gt_##type, T, cast, x > y)                         \
	SETP(ge_##type, T, cast, x >= y)

// The six that are true there, and those that ask for that alone.
#define UNORDERED(type, T)                                      \
	SETP(equ_##type, T, T, !(x < y || x > y))               \
	SETP(neu_##type, T, T, !(x == y))                       \
	SETP(ltu_##type, T, T, !(x >= y))                       \
	SETP(leu_##type, T, T, !(x > y))                        \
	SETP(gtu_##type, T, T, !(x <= y))                       \
	SETP(geu_##type, T, T, !(x < y))                        \
	SETP(num_##type, T, T, x == x && y == y)                \
	SETP(nan_##type, T, T, x != x || y != y)

ORDERED(u16, u32, uint16_t)
ORDERED(s16, u32, int16_t)
ORDERED(u32, u32, uint32_t)
ORDERED(s32, s32, int32_t)
ORDERED(u64, u64, uint64_t)
ORDERED(s64, s64, int64_t)
ORDERED(f32, f32, float)
ORDERED(f64, f64, double)
UNORDERED(f32, f32)
UNORDERED(f64, f64)

enum { COMPARISONS = NAN_ + 1 };
#define SIX(type) [EQ] = eq_##type, [NE] = ne_##type, [LT] = lt_##type, [LE] = le_##type, [GT] = gt_##type, [GE] = ge_##type
#define BELOW(type) SIX(type), [LO] = lt_##type, [LS] = le_##type, [HI] = gt_##type, [HS] = ge_##type
#define EIGHT(type) SIX(type), [EQU] = equ_##type, [NEU] = neu_##type, [LTU] = ltu_##type, [LEU] = leu_##type, \
	[GTU] = gtu_##type, [GEU] = geu_##type, [NUM] = num_##type, [NAN_] = nan_##type
#define SAME(type) [EQ] = eq_##type, [NE] = ne_##type

static doing *const comparisons[][COMPARISONS] = {
	[T_B16] = {SAME(u16)}, [T_U16] = {BELOW(u16)}, [T_S16] = {SIX(s16)},
	[T_B32] = {SAME(u32)}, [T_U32] = {BELOW(u32)}, [T_S32] = {SIX(s32)},
	[T_B64] = {SAME(u64)}, [T_U64] = {BELOW(u64)}, [T_S64] = {SIX(s64)},
	[T_F32] = {EIGHT(f32)}, [T_F64] = {EIGHT(f64)},
};

#define SELP(name, T)                                                               \
	static void name(struct warp *w, struct step *s, uint32_t lanes) {          \
		T *d = result(w, s, lanes);                                         \
		const T *a = (const T *)(w->registers + s->a);                      \
		const T *b = (const T *)(w->registers + s->b);                      \
		const uint32_t p = *(const u32 *)(w->registers + s->c);             \
		EACH d[i] = p >> i & 1 ? a[i] : b[i];                               \
		if (lanes == ALL) return;                                           \
		if (sizeof(T) == 4) keep_words(w, s->d, lanes);                     \
		else keep_doubles(w, s->d, lanes);                                  \
	}
SELP(select_words, u32)
SELP(select_doubles, u64)

doing *do_compare(const struct instruction *t) {
	if (t->flush) return NULL;
	if (t->op == OP_SELP) {
		switch (t->type) {
		case T_B16: case T_U16: case T_S16: case T_B32: case T_U32: case T_S32: case T_F32: return select_words;
		case T_B64: case T_U64: case T_S64: case T_F64: return select_doubles;
		}
		return NULL;
	}
	if (t->type >= sizeof comparisons / sizeof *comparisons || t->compare >= COMPARISONS) return NULL;
	return comparisons[t->type][t->compare];
}
