// Every opcode that is known. What is not in the table is refused: nothing is guessed from an opcode's likeness to another.
#include <string.h>
#include "code_read.h"

static const struct {
	const char *name;
	enum type type;
	unsigned char bytes, is_float, is_bits;
} types[] = {
	{"pred", T_PRED, 0, 0, 0},
	{"b8", T_B8, 1, 0, 1}, {"u8", T_U8, 1, 0, 0}, {"s8", T_S8, 1, 0, 0},
	{"b16", T_B16, 2, 0, 1}, {"u16", T_U16, 2, 0, 0}, {"s16", T_S16, 2, 0, 0},
	{"b32", T_B32, 4, 0, 1}, {"u32", T_U32, 4, 0, 0}, {"s32", T_S32, 4, 0, 0},
	{"b64", T_B64, 8, 0, 1}, {"u64", T_U64, 8, 0, 0}, {"s64", T_S64, 8, 0, 0},
	{"f32", T_F32, 4, 1, 0}, {"f64", T_F64, 8, 1, 0},
	{"bf16x2", T_BF16X2, 4, 0, 1},
};

enum { TYPES = sizeof types / sizeof *types };

// They are in the order of enum type, which begins with none.
int code_bytes(enum type t) { return t == T_NONE ? 0 : types[t - 1].bytes; }
int code_is_float(enum type t) { return t != T_NONE && types[t - 1].is_float; }
int code_is_bits(enum type t) { return t != T_NONE && types[t - 1].is_bits; }

enum type code_type(const char *name, int length) {
	for (int i = 0; i < TYPES; i++)
		if (strncmp(types[i].name, name, (size_t)length) == 0 && types[i].name[length] == 0) return types[i].type;
	return T_NONE;
}

// Sets of types.
enum {
	PRED = 1 << T_PRED,
	B16 = 1 << T_B16, B32 = 1 << T_B32, B64 = 1 << T_B64,
	U16 = 1 << T_U16, U32 = 1 << T_U32, U64 = 1 << T_U64,
	S16 = 1 << T_S16, S32 = 1 << T_S32, S64 = 1 << T_S64,
	F32 = 1 << T_F32, F64 = 1 << T_F64, BF16X2 = 1 << T_BF16X2,
	BITS = B16 | B32 | B64,
	UNSIGNED = U16 | U32 | U64,
	SIGNED = S16 | S32 | S64,
	WHOLE = UNSIGNED | SIGNED,
	REAL = F32 | F64,
	BYTE = 1 << T_B8 | 1 << T_U8 | 1 << T_S8,
	SCALAR = BYTE | BITS | WHOLE | REAL,
	NARROW = U16 | S16 | U32 | S32, // half of a product
};

// In the order of their words. Where numbers are rounded the opcode has to say how: without .rn the assembler may make one
// rounding of two.
static const struct form forms[] = {
	{"abs", OP_ABS, MODE_NONE, S16 | S32 | S64 | F32 | F64, "ds"},
	{"add", OP_ADD, MODE_NONE, WHOLE, "dss"},
	{"add.rn", OP_ADD, ROUND_NEAREST, REAL, "dss"},
	{"and", OP_AND, MODE_NONE, PRED | BITS, "dss"},
	{"atom.global.cas", OP_ATOM_CAS, MODE_NONE, B32, "dAss", .space = GLOBAL},
	{"bar.sync", OP_BAR_SYNC, MODE_NONE, 0, "0"},
	{"bar.warp.sync", OP_BAR_WARP_SYNC, MODE_NONE, 0, "*"},
	{"bfe", OP_BFE, MODE_NONE, U32, "dsuu"},
	{"bra", OP_BRA, MODE_NONE, 0, "L"},
	{"bra.uni", OP_BRA, MODE_NONE, 0, "L", .uniform = 1},
	{"cp.async.cg.shared.global", OP_COPY, MODE_NONE, 0, "TGku"},
	{"cp.async.commit_group", OP_COPIES_COMMIT, MODE_NONE, 0, ""},
	{"cp.async.wait_group", OP_COPIES_WAIT, MODE_NONE, 0, "n"},
	{"cvt", OP_CVT, MODE_NONE, WHOLE, "df", .from = WHOLE},
	{"cvt", OP_CVT, MODE_NONE, F64, "df", .from = F32},
	{"cvt.rn", OP_CVT, ROUND_NEAREST, BF16X2, "dff", .from = F32},
	{"cvt.rn", OP_CVT, ROUND_NEAREST, F32, "df", .from = U32 | S32 | U64 | S64 | F64},
	{"cvt.rn", OP_CVT, ROUND_NEAREST, F64, "df", .from = U32 | S32 | U64 | S64},
	{"cvt.rzi", OP_CVT, ROUND_ZERO_INT, U32 | S32 | U64 | S64, "df", .from = REAL},
	{"cvta.global", OP_CVTA, FROM_SPACE, U64, "ds", .space = GLOBAL},
	{"cvta.to.global", OP_CVTA, TO_SPACE, U64, "ds", .space = GLOBAL},
	{"div", OP_DIV, MODE_NONE, WHOLE, "dss"},
	{"div.rn", OP_DIV, ROUND_NEAREST, REAL, "dss"},
	{"ex2.approx.ftz", OP_EX2, APPROXIMATE, F32, "ds", .flush = 1},
	{"fma.rn", OP_FMA, ROUND_NEAREST, REAL, "dsss"},
	{"ld", OP_LD, MODE_NONE, SCALAR, "VA", .space = GENERIC, .vector = 1},
	{"ld.v2", OP_LD, MODE_NONE, SCALAR, "VA", .space = GENERIC, .vector = 2},
	{"ld.v4", OP_LD, MODE_NONE, SCALAR, "VA", .space = GENERIC, .vector = 4},
	{"ld.global", OP_LD, MODE_NONE, SCALAR, "VA", .space = GLOBAL, .vector = 1},
	{"ld.global.v2", OP_LD, MODE_NONE, SCALAR, "VA", .space = GLOBAL, .vector = 2},
	{"ld.global.v4", OP_LD, MODE_NONE, SCALAR, "VA", .space = GLOBAL, .vector = 4},
	{"ld.param", OP_LD, MODE_NONE, SCALAR, "VA", .space = PARAM, .vector = 1},
	{"ld.param.v2", OP_LD, MODE_NONE, SCALAR, "VA", .space = PARAM, .vector = 2},
	{"ld.param.v4", OP_LD, MODE_NONE, SCALAR, "VA", .space = PARAM, .vector = 4},
	{"ld.shared", OP_LD, MODE_NONE, SCALAR, "VA", .space = SHARED, .vector = 1},
	{"ld.shared.v2", OP_LD, MODE_NONE, SCALAR, "VA", .space = SHARED, .vector = 2},
	{"ld.shared.v4", OP_LD, MODE_NONE, SCALAR, "VA", .space = SHARED, .vector = 4},
	{"ldmatrix.sync.aligned.m8n8.x4.shared", OP_LDMATRIX, MODE_NONE, B16, "RT", .space = SHARED},
	{"ldmatrix.sync.aligned.m8n8.x4.trans.shared", OP_LDMATRIX, MODE_NONE, B16, "RT", .space = SHARED, .turned = 1},
	{"lg2.approx.ftz", OP_LG2, APPROXIMATE, F32, "ds", .flush = 1},
	{"mad.lo", OP_MAD, MUL_LO, WHOLE, "dsss"},
	{"mad.wide", OP_MAD, MUL_WIDE, NARROW, "DssS"},
	{"max", OP_MAX, MODE_NONE, WHOLE | REAL, "dss"},
	{"min", OP_MIN, MODE_NONE, WHOLE | REAL, "dss"},
	{"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16", OP_MMA, MODE_NONE, F32, "FRQF"},
	{"mov", OP_MOV, MODE_NONE, PRED | BITS | WHOLE | REAL, "dm"},
	{"mul.hi", OP_MUL, MUL_HI, WHOLE, "dss"},
	{"mul.lo", OP_MUL, MUL_LO, WHOLE, "dss"},
	{"mul.rn", OP_MUL, ROUND_NEAREST, REAL, "dss"},
	{"mul.wide", OP_MUL, MUL_WIDE, NARROW, "Dss"},
	{"neg", OP_NEG, MODE_NONE, SIGNED | REAL, "ds"},
	{"not", OP_NOT, MODE_NONE, PRED | BITS, "ds"},
	{"or", OP_OR, MODE_NONE, PRED | BITS, "dss"},
	{"rcp.approx.ftz", OP_RCP, APPROXIMATE, F32, "ds", .flush = 1},
	{"rcp.rn", OP_RCP, ROUND_NEAREST, REAL, "ds"},
	{"rem", OP_REM, MODE_NONE, WHOLE, "dss"},
	{"ret", OP_RET, MODE_NONE, 0, ""},
	{"selp", OP_SELP, MODE_NONE, BITS | WHOLE | REAL, "dssp"},
	{"setp.eq", OP_SETP, MODE_NONE, BITS | WHOLE | REAL, "Pss", .compare = EQ},
	{"setp.equ", OP_SETP, MODE_NONE, REAL, "Pss", .compare = EQU},
	{"setp.ge", OP_SETP, MODE_NONE, WHOLE | REAL, "Pss", .compare = GE},
	{"setp.geu", OP_SETP, MODE_NONE, REAL, "Pss", .compare = GEU},
	{"setp.gt", OP_SETP, MODE_NONE, WHOLE | REAL, "Pss", .compare = GT},
	{"setp.gtu", OP_SETP, MODE_NONE, REAL, "Pss", .compare = GTU},
	{"setp.hi", OP_SETP, MODE_NONE, UNSIGNED, "Pss", .compare = HI},
	{"setp.hs", OP_SETP, MODE_NONE, UNSIGNED, "Pss", .compare = HS},
	{"setp.le", OP_SETP, MODE_NONE, WHOLE | REAL, "Pss", .compare = LE},
	{"setp.leu", OP_SETP, MODE_NONE, REAL, "Pss", .compare = LEU},
	{"setp.lo", OP_SETP, MODE_NONE, UNSIGNED, "Pss", .compare = LO},
	{"setp.ls", OP_SETP, MODE_NONE, UNSIGNED, "Pss", .compare = LS},
	{"setp.lt", OP_SETP, MODE_NONE, WHOLE | REAL, "Pss", .compare = LT},
	{"setp.ltu", OP_SETP, MODE_NONE, REAL, "Pss", .compare = LTU},
	{"setp.nan", OP_SETP, MODE_NONE, REAL, "Pss", .compare = NAN_},
	{"setp.ne", OP_SETP, MODE_NONE, BITS | WHOLE | REAL, "Pss", .compare = NE},
	{"setp.neu", OP_SETP, MODE_NONE, REAL, "Pss", .compare = NEU},
	{"setp.num", OP_SETP, MODE_NONE, REAL, "Pss", .compare = NUM},
	{"shfl.sync.bfly", OP_SHFL, SHUFFLE_XOR, B32, "dsuu*"},
	{"shfl.sync.idx", OP_SHFL, SHUFFLE_INDEX, B32, "dsuu*"},
	{"shl", OP_SHL, MODE_NONE, BITS, "dsu"},
	{"shr", OP_SHR, MODE_NONE, BITS | WHOLE, "dsu"},
	{"sqrt.rn", OP_SQRT, ROUND_NEAREST, REAL, "ds"},
	{"st", OP_ST, MODE_NONE, SCALAR, "AW", .space = GENERIC, .vector = 1},
	{"st.v2", OP_ST, MODE_NONE, SCALAR, "AW", .space = GENERIC, .vector = 2},
	{"st.v4", OP_ST, MODE_NONE, SCALAR, "AW", .space = GENERIC, .vector = 4},
	{"st.global", OP_ST, MODE_NONE, SCALAR, "AW", .space = GLOBAL, .vector = 1},
	{"st.global.v2", OP_ST, MODE_NONE, SCALAR, "AW", .space = GLOBAL, .vector = 2},
	{"st.global.v4", OP_ST, MODE_NONE, SCALAR, "AW", .space = GLOBAL, .vector = 4},
	{"st.shared", OP_ST, MODE_NONE, SCALAR, "AW", .space = SHARED, .vector = 1},
	{"st.shared.v2", OP_ST, MODE_NONE, SCALAR, "AW", .space = SHARED, .vector = 2},
	{"st.shared.v4", OP_ST, MODE_NONE, SCALAR, "AW", .space = SHARED, .vector = 4},
	{"sub", OP_SUB, MODE_NONE, WHOLE, "dss"},
	{"sub.rn", OP_SUB, ROUND_NEAREST, REAL, "dss"},
	{"xor", OP_XOR, MODE_NONE, PRED | BITS, "dss"},
};

// type_of takes a type off the front of what follows an opcode's words: ".u32.u64". T_NONE when there is none of the set.
static enum type type_of(const char **rest, int *length, uint32_t set) {
	int n = 1;
	if (*length == 0 || **rest != '.') return T_NONE;
	while (n < *length && (*rest)[n] != '.') n++;
	enum type t = code_type(*rest + 1, n - 1);
	*rest += n;
	*length -= n;
	return set >> t & 1 ? t : T_NONE;
}

const struct form *code_form(const char *opcode, int length, enum type *type, enum type *from) {
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		const struct form *f = &forms[i];
		if (f->words[0] != opcode[0]) continue;
		int n = (int)strlen(f->words), left = length - n;
		if (left < 0 || strncmp(f->words, opcode, (size_t)n) != 0) continue;
		const char *rest = opcode + n;
		*type = *from = T_NONE;
		if (f->types != 0 && (*type = type_of(&rest, &left, f->types)) == T_NONE) continue;
		if (f->from != 0 && (*from = type_of(&rest, &left, f->from)) == T_NONE) continue;
		if (left == 0) return f;
	}
	return NULL;
}
