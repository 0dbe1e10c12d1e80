// A kernel's instructions are made into steps, once: which function computes each, and where its operands are.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "code_run.h"

enum { HASHED = 4096, LINE = 64 };

// What a kernel is made ready with.
struct maker {
	struct program *program;
	unsigned char *strict, *loose; // the width of each register: as what it is computed with, and what is loaded to it or stored
	u32 *places;                   // of each register; 0 while it has none
	int *constants;                // by a hash, one more than the constant's number
	u32 *next;                     // place of an operand
	char *wrong;
	size_t wrong_bytes;
};

static int refuse(struct maker *m, const struct instruction *t, const char *what) {
	snprintf(m->wrong, m->wrong_bytes, "line %d: %s", t->line, what);
	return 0;
}

static enum width width_of(int type) {
	switch (type) {
	case T_PRED: return BITS;
	case T_B64: case T_U64: case T_S64: case T_F64: return DOUBLES;
	case T_NONE: return UNUSED;
	}
	return WORDS;
}

static int bytes_of(int type) {
	switch (type) {
	case T_B8: case T_U8: case T_S8: return 1;
	case T_B16: case T_U16: case T_S16: return 2;
	case T_B64: case T_U64: case T_S64: case T_F64: return 8;
	}
	return 4;
}

// width_in is how wide an instruction takes an operand.
static enum width width_in(const struct instruction *t, int n) {
	enum width own = width_of(t->type), wide = bytes_of(t->type) == 2 ? WORDS : DOUBLES;
	signed char halves = (signed char)t->vector;
	switch (t->op) {
	case OP_MUL: case OP_MAD: return t->mode == MUL_WIDE && (n == 0 || n == 3) ? wide : own;
	case OP_SHL: case OP_SHR: return n == 2 ? WORDS : own;
	case OP_BFE: return n >= 2 ? WORDS : own;
	case OP_SETP: return n == 0 ? BITS : own;
	case OP_SELP: return n == 3 ? BITS : own;
	case OP_CVT: return n == 0 ? own : width_of(t->from);
	case OP_CVTA: return DOUBLES;
	case OP_MOV: return (halves == 2 && n < 2) || (halves == -2 && n > 0) ? WORDS : own;
	case OP_SHFL: case OP_MMA: case OP_LDMATRIX: case OP_COPY: case OP_ATOM_CAS: return WORDS;
	}
	return own;
}

static int note(struct maker *m, const struct instruction *t, int reg, enum width width) {
	if (reg < 0 || reg >= m->program->code->registers) return refuse(m, t, "there is no such register");
	if (m->strict[reg] != UNUSED && m->strict[reg] != width) return refuse(m, t, "a register has been used as one of another width");
	m->strict[reg] = (unsigned char)width;
	return 1;
}

// measure finds how wide registers are.
static int measure(struct maker *m) {
	const struct code *k = m->program->code;
	for (int i = 0; i < k->count; i++) {
		const struct instruction *t = &k->instructions[i];
		if (t->guard >= 0 && !note(m, t, t->guard, BITS)) return 0;
		for (int n = 0; n < t->operands; n++) {
			const struct operand *o = &t->operand[n];
			if (o->kind != REGISTER) continue;
			enum width width = width_in(t, n);
			if (t->op != OP_LD && t->op != OP_ST) {
				if (!note(m, t, o->reg, width)) return 0;
			} else if (o->reg < 0 || o->reg >= k->registers) {
				return refuse(m, t, "there is no such register");
			} else if (width > m->loose[o->reg]) {
				m->loose[o->reg] = (unsigned char)width;
			}
		}
	}
	for (int r = 0; r < k->registers; r++) {
		if (m->strict[r] == UNUSED) m->strict[r] = m->loose[r] == UNUSED ? DOUBLES : m->loose[r];
		if (m->strict[r] < m->loose[r]) {
			snprintf(m->wrong, m->wrong_bytes, "a register of 32 bits is loaded or stored as one of 64");
			return 0;
		}
	}
	return 1;
}

// take takes room among a warp's registers.
static u32 take(struct program *p, enum width width) {
	size_t bytes = width == BITS ? 4 : width == WORDS ? 4 * LANES : 8 * LANES;
	if (width != BITS) p->bytes = (p->bytes + LINE - 1) & ~(size_t)(LINE - 1);
	u32 place = (u32)p->bytes;
	p->bytes += bytes;
	return place;
}

static u32 place_of_register(struct maker *m, int reg) {
	if (m->places[reg] == 0) m->places[reg] = take(m->program, m->strict[reg]);
	return m->places[reg];
}

static u32 place_of_constant(struct maker *m, enum width width, uint64_t value) {
	struct program *p = m->program;
	if (width == WORDS) value = (uint32_t)value;
	if (width == BITS) value = value & 1 ? ALL : 0;
	unsigned at = (unsigned)((value * 0x9e3779b97f4a7c15ull >> 50) + (unsigned)width) % HASHED;
	int tries = 0;
	for (; m->constants[at] != 0 && tries < HASHED; at = (at + 1) % HASHED, tries++) {
		struct constant *c = &p->constants[m->constants[at] - 1];
		if (c->width == width && c->value == value) return c->place;
	}
	if ((p->constant_count & (p->constant_count - 1)) == 0)
		p->constants = realloc(p->constants, sizeof *p->constants * (size_t)(p->constant_count == 0 ? 1 : 2 * p->constant_count));
	p->constants[p->constant_count++] = (struct constant){take(p, width), width, value};
	if (tries < HASHED) m->constants[at] = p->constant_count;
	return p->constants[p->constant_count - 1].place;
}

static u32 place_of(struct maker *m, const struct operand *o, enum width width) {
	struct program *p = m->program;
	switch (o->kind) {
	case REGISTER: return place_of_register(m, o->reg);
	case NUMBER: return place_of_constant(m, width, o->value);
	case SPECIAL:
		if (p->specials[o->reg] == 0) p->specials[o->reg] = take(p, WORDS);
		return p->specials[o->reg];
	default: return 0;
	}
}

// address makes an operand the step's address: a register and what is added.
static int address(struct maker *m, const struct instruction *t, const struct operand *o, u32 *place, int64_t *offset, unsigned char *wide) {
	if (o->kind != ADDRESS) return refuse(m, t, "an address is wanted");
	*offset = (int64_t)o->value;
	*wide = o->reg < 0 || m->strict[o->reg] == DOUBLES;
	*place = o->reg < 0 ? place_of_constant(m, DOUBLES, 0) : place_of_register(m, o->reg);
	if (o->reg >= 0 && m->strict[o->reg] == BITS) return refuse(m, t, "a predicate is no address");
	return 1;
}

// memory fills in the step of a load, a store, a swap, a copy or of matrices.
static int memory(struct maker *m, struct step *s) {
	const struct instruction *t = s->text;
	s->space = t->space;
	s->bytes = (unsigned char)bytes_of(t->type);
	s->vector = t->vector == 0 ? 1 : t->vector;
	s->widens = t->type == T_S8 || t->type == T_S16 || t->type == T_S32;
	if (s->space == PARAM) s->known.to = (uint64_t)m->program->code->parameters;
	switch (t->op) {
	case OP_LD: return t->operands == s->vector + 1 && address(m, t, &t->operand[s->vector], &s->a, &s->offset, &s->wide);
	case OP_ST: return t->operands == s->vector + 1 && address(m, t, &t->operand[0], &s->a, &s->offset, &s->wide);
	case OP_ATOM_CAS: return t->operands == 4 && address(m, t, &t->operand[1], &s->a, &s->offset, &s->wide);
	case OP_LDMATRIX: s->space = SHARED; return t->operands == 5 && address(m, t, &t->operand[4], &s->a, &s->offset, &s->wide);
	}
	unsigned char wide;
	s->space = GLOBAL;
	if (t->operands != 4 || !address(m, t, &t->operand[0], &s->a, &s->offset, &s->wide)) return 0;
	return address(m, t, &t->operand[1], &s->b, &s->offset_b, &wide) && wide;
}

static doing *function_of(const struct instruction *t, enum kind *kind) {
	*kind = PLAIN;
	switch (t->op) {
	case OP_BRA: *kind = JUMP; return NULL;
	case OP_RET: *kind = END; return NULL;
	case OP_BAR_SYNC: *kind = BARRIER; return NULL;
	case OP_SHFL: case OP_MMA: case OP_LDMATRIX: case OP_BAR_WARP_SYNC: *kind = TOGETHER; return do_together(t);
	case OP_LD: case OP_ST: case OP_ATOM_CAS: case OP_COPY: *kind = FALLIBLE; return do_memory(t);
	case OP_COPIES_COMMIT: case OP_COPIES_WAIT: return do_memory(t);
	case OP_SETP: case OP_SELP: return do_compare(t);
	case OP_CVT: return do_convert(t);
	case OP_MOV: case OP_CVTA: return do_move(t);
	}
	return do_arithmetic(t);
}

static int make_step(struct maker *m, int at) {
	struct step *s = &m->program->steps[at];
	const struct instruction *t = &m->program->code->instructions[at];
	enum kind kind;
	s->text = t;
	s->at = at;
	s->run = function_of(t, &kind);
	s->kind = (unsigned char)kind;
	if (s->run == NULL && kind != JUMP && kind != END && kind != BARRIER) return refuse(m, t, "the emulator does not run this instruction");
	s->guarded = t->guard >= 0;
	s->negated = t->negated;
	if (s->guarded) s->guard = place_of_register(m, t->guard);
	if (kind == JUMP) {
		s->target = (int)t->operand[0].value;
		s->convergence = t->convergence;
	}
	u32 *more = m->next;
	m->next += t->operands;
	s->more = more;
	for (int n = 0; n < t->operands; n++) {
		const struct operand *o = &t->operand[n];
		more[n] = place_of(m, o, o->kind == NUMBER && (t->op == OP_ST || t->op == OP_LD) ? width_of(t->type) : width_in(t, n));
		if ((o->kind == REGISTER && m->strict[o->reg] == DOUBLES) || (o->kind == NUMBER && width_in(t, n) == DOUBLES)) s->doubles |= (uint16_t)(1 << n);
	}
	u32 *places[] = {&s->d, &s->a, &s->b, &s->c};
	for (int n = 0; n < t->operands && n < 4; n++) *places[n] = s->more[n];
	if (t->op == OP_MOV && t->vector == 2) s->b = s->more[1], s->a = s->more[2];
	if (t->op == OP_LD || t->op == OP_ST || t->op == OP_ATOM_CAS || t->op == OP_COPY || t->op == OP_LDMATRIX)
		if (!memory(m, s)) return m->wrong[0] != 0 ? 0 : refuse(m, t, "the emulator does not run this instruction");
	return 1;
}

static struct program *make(const struct code *k, char *wrong, size_t wrong_bytes) {
	size_t n = (size_t)k->registers + 1;
	struct program *p = calloc(1, sizeof *p);
	struct maker m = {p, calloc(n, 1), calloc(n, 1), calloc(n, sizeof *m.places), calloc(HASHED, sizeof *m.constants), NULL, wrong, wrong_bytes};
	size_t operands = 0;
	for (int i = 0; i < k->count; i++) operands += k->instructions[i].operands;
	p->code = k;
	p->bytes = 8 * LANES; // what an operand that is not there is read from
	p->steps = calloc((size_t)k->count, sizeof *p->steps);
	p->places = m.next = calloc(operands + 1, sizeof *p->places);
	wrong[0] = 0;
	int made = measure(&m);
	for (int i = 0; i < k->count && made; i++) made = make_step(&m, i);
	free(m.strict);
	free(m.loose);
	free(m.places);
	free(m.constants);
	p->bytes = (p->bytes + 8 * LANES + LINE - 1) & ~(size_t)(LINE - 1); // of the last predicate too as much can be read
	if (made) return p;
	free(p->constants);
	free(p->steps);
	free(p->places);
	free(p);
	return NULL;
}

// Programs by their kernels.
static struct program *programs[1024];

static struct program **chain(const struct code *k) { return &programs[(uintptr_t)k / sizeof *k % (sizeof programs / sizeof *programs)]; }

struct program *program_of(const struct code *k, char *wrong, size_t wrong_bytes) {
	struct program **first = chain(k);
	for (struct program *p = *first; p != NULL; p = p->next)
		if (p->code == k) return p;
	struct program *p = make(k, wrong, wrong_bytes);
	if (p == NULL) return NULL;
	p->next = *first;
	*first = p;
	return p;
}
