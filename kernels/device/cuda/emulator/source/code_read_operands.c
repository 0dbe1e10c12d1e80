// One instruction of PTX and its operands. A form has a letter for each of them:
//
//	d  a register of the type that is written           D  one of twice its bytes
//	s  a register or a number of the type               S  one of twice its bytes
//	f  a register or a number of what is converted      u  a register or a number of 32 bits
//	p  a predicate that is read                         P  one that is written
//	V  what is loaded, a vector in braces               W  what is stored, so too
//	A  an address in the form's space                   T, G  one in shared memory, one in global memory
//	F  four f32 in braces                               R, Q  four b32 in braces, and two
//	m  what is moved: a register, a number, a special register, where a variable is, halves in braces
//	n  how many                                         L  a label
//	0, k, *  a number that has to be 0, 16, −1
#include <string.h>
#include "code_read.h"

static const struct {
	const char *name;
	enum special special;
} specials[] = {
	{"%tid.x", TID_X}, {"%ntid.x", NTID_X}, {"%ctaid.x", CTAID_X}, {"%ctaid.y", CTAID_Y}, {"%ctaid.z", CTAID_Z},
	{"%nctaid.x", NCTAID_X}, {"%nctaid.y", NCTAID_Y}, {"%nctaid.z", NCTAID_Z}, {"%laneid", LANEID},
};

// find_register finds a declared register; −1 when there is none of the name. What is declared last hides what was before.
static int find_register(const struct reader *r, struct word w, enum type *type) {
	int stem = w.length, number = 0;
	while (stem > 0 && w.text[stem - 1] >= '0' && w.text[stem - 1] <= '9') stem--;
	int digits = w.length - stem, counted = digits > 0 && digits < 8 && (digits == 1 || w.text[stem] != '0');
	for (int i = stem; counted && i < w.length; i++) number = 10 * number + (w.text[i] - '0');
	for (int i = r->registers.count - 1; i >= 0; i--) {
		const struct registers *one = &r->registers.of[i];
		int length = one->range > 0 ? stem : w.length;
		if (one->name.length != length || memcmp(one->name.text, w.text, (size_t)length) != 0) continue;
		if (one->range > 0 && !(counted && number < one->range)) continue;
		*type = one->type;
		return one->first + (one->range > 0 ? number : 0);
	}
	return -1;
}

// fits tells whether a register of one type may hold a number of another: of as many bytes, and no fraction where the other
// is a whole number. What is loaded and stored may be in a wider one.
static int fits(enum type held, enum type t, int wider) {
	if ((held == T_PRED) != (t == T_PRED)) return 0;
	if (wider && !code_is_float(held) && !code_is_float(t) && code_bytes(held) >= code_bytes(t)) return 1;
	return code_bytes(held) == code_bytes(t) && (code_is_bits(held) || code_is_bits(t) || code_is_float(held) == code_is_float(t));
}

static struct operand *add_operand(struct reader *r, struct instruction *i) {
	if (i->operands == MOST_OPERANDS) code_fail(r, i->line, "an instruction has more than %d operands", MOST_OPERANDS);
	return &i->operand[i->operands++];
}

// take_register takes a register for a type.
static int take_register(struct reader *r, enum type t, int wider) {
	struct word w = r->word;
	enum type held;
	int reg = find_register(r, w, &held);
	if (reg < 0) {
		if (w.length == 0 || w.text[0] != '%') code_name(r); // fails where there is not even a name
		code_fail(r, w.line, "no register '%.*s' is declared", code_shown(w), w.text);
	}
	if (!fits(held, t, wider)) code_fail(r, w.line, "register '%.*s' is not of the instruction's type", code_shown(w), w.text);
	code_next(r);
	return reg;
}

static void add_register(struct reader *r, struct instruction *i, enum type t, int wider) {
	int reg = take_register(r, t, wider);
	*add_operand(r, i) = (struct operand){.kind = REGISTER, .reg = reg};
}

static int is_number(struct word w) { return w.length > 0 && (code_is(w, "-") || (w.text[0] >= '0' && w.text[0] <= '9')); }

static void add_number(struct reader *r, struct instruction *i, enum type t) {
	uint64_t value = code_number(r, t);
	*add_operand(r, i) = (struct operand){.kind = NUMBER, .reg = -1, .value = value};
}

static void add_source(struct reader *r, struct instruction *i, enum type t, int wider) {
	if (is_number(r->word)) add_number(r, i, t);
	else add_register(r, i, t, wider);
}

// add_constant adds a number that can only be one.
static void add_constant(struct reader *r, struct instruction *i, int64_t want, const char *why) {
	struct word w = r->word;
	uint64_t value = code_number(r, T_S32);
	if ((int64_t)value != want) code_fail(r, w.line, "got %lld, want %lld: %s", (long long)value, (long long)want, why);
	*add_operand(r, i) = (struct operand){.kind = NUMBER, .reg = -1, .value = value};
}

// add_count adds how many groups of copies may be under way.
static void add_count(struct reader *r, struct instruction *i) {
	long count = code_count(r, 1 << 16);
	*add_operand(r, i) = (struct operand){.kind = NUMBER, .reg = -1, .value = (uint64_t)count};
}

// add_vector adds elements in braces; a single one has none.
static void add_vector(struct reader *r, struct instruction *i, int elements, enum type t, int wider, int numbers) {
	if (elements > 1) code_expect(r, "{");
	for (int e = 0; e < elements; e++) {
		if (e > 0) code_expect(r, ",");
		if (numbers) add_source(r, i, t, wider);
		else add_register(r, i, t, wider);
	}
	if (elements > 1) code_expect(r, "}");
}

// find_variable takes a variable's name, one of the kernel before one of the module.
static int find_variable(struct reader *r) {
	struct word w = code_name(r);
	for (int v = r->variables.count - 1; v >= 0; v--) {
		struct word name = r->variables.of[v].name;
		if (name.length == w.length && memcmp(name.text, w.text, (size_t)w.length) == 0) return v;
	}
	code_fail(r, w.line, "no register and no variable '%.*s' is declared", code_shown(w), w.text);
}

// name_variable has where a variable is be added to the last operand's value, once the kernel has been read and it is known.
static void name_variable(struct reader *r, const struct instruction *i, int variable) {
	r->variables.of[variable].named = 1;
	if (r->variables.of[variable].space == PARAM) return; // begins at 0
	struct pending *p = code_add(r, r->pending);
	p->at = (int)(i - r->instructions.of);
	p->operand = i->operands - 1;
	p->variable = variable;
}

// add_address adds "[register+bytes]" or "[variable+bytes]".
static void add_address(struct reader *r, struct instruction *i, enum space space, long bytes) {
	code_expect(r, "[");
	struct word w = r->word;
	struct operand *o = add_operand(r, i);
	enum type held;
	int variable = -1;
	*o = (struct operand){.kind = ADDRESS, .reg = find_register(r, w, &held)};
	if (o->reg >= 0) {
		code_next(r);
		int is = !code_is_float(held) ? code_bytes(held) : 0;
		if (is != 8 && !(is == 4 && space == SHARED)) code_fail(r, w.line, "register '%.*s' holds no address of that space", code_shown(w), w.text);
	} else {
		variable = find_variable(r);
		if (r->variables.of[variable].space != space) code_fail(r, w.line, "'%.*s' is in another space", code_shown(w), w.text);
	}
	if (code_take(r, "+") || code_is(r->word, "-")) o->value = code_number(r, T_S32);
	code_expect(r, "]");
	if (variable < 0) return;
	if (space == PARAM && ((int64_t)o->value < 0 || (int64_t)o->value + bytes > r->variables.of[variable].bytes))
		code_fail(r, w.line, "%ld bytes from %lld on are not all of the parameter's %ld", bytes, (long long)o->value, r->variables.of[variable].bytes);
	name_variable(r, i, variable);
}

// add_moved adds what mov takes.
static void add_moved(struct reader *r, struct instruction *i, enum type t) {
	struct word w = r->word;
	enum type held;
	if (code_is(w, "{")) {
		if (t != T_B32 && t != T_B64) code_fail(r, w.line, "the emulator knows halves of b32 and of b64 alone");
		if (i->vector != 0) code_fail(r, w.line, "halves are moved to halves");
		i->vector = (unsigned char)-2;
		add_vector(r, i, 2, t == T_B32 ? T_B16 : T_B32, 0, 0);
		return;
	}
	if (i->vector != 0) {
		add_register(r, i, t, 0);
		return;
	}
	for (size_t s = 0; s < sizeof specials / sizeof *specials; s++) {
		if (!code_is(w, specials[s].name)) continue;
		if (code_bytes(t) != 4 || code_is_float(t)) code_fail(r, w.line, "'%s' is of 32 bits", specials[s].name);
		*add_operand(r, i) = (struct operand){.kind = SPECIAL, .reg = (int)specials[s].special};
		code_next(r);
		return;
	}
	if (is_number(w) || find_register(r, w, &held) >= 0 || (w.length > 0 && w.text[0] == '%')) {
		add_source(r, i, t, 0);
		return;
	}
	int variable = find_variable(r);
	if (code_bytes(t) < 4 || code_is_float(t)) code_fail(r, w.line, "where '%.*s' is does not fit the instruction's type", code_shown(w), w.text);
	*add_operand(r, i) = (struct operand){.kind = NUMBER, .reg = -1};
	name_variable(r, i, variable);
}

// add_written adds the register that an instruction writes; of mov, halves in braces too.
static void add_written(struct reader *r, struct instruction *i, enum type t) {
	if (i->op == OP_MOV && code_is(r->word, "{")) {
		if (t != T_B32 && t != T_B64) code_fail(r, r->word.line, "the emulator knows halves of b32 and of b64 alone");
		i->vector = 2;
		add_vector(r, i, 2, t == T_B32 ? T_B16 : T_B32, 0, 0);
		return;
	}
	add_register(r, i, t, 0);
}

static void add_label(struct reader *r, struct instruction *i) {
	struct word w = code_name(r);
	*add_operand(r, i) = (struct operand){.kind = PLACE, .reg = -1};
	struct pending *p = code_add(r, r->pending);
	*p = (struct pending){.at = (int)(i - r->instructions.of), .operand = i->operands - 1, .label = w};
}

// wide is the type of twice the bytes.
static enum type wide(enum type t) { return t == T_U16 ? T_U32 : t == T_S16 ? T_S32 : t == T_U32 ? T_U64 : T_S64; }

static void operand(struct reader *r, struct instruction *i, char letter) {
	enum type t = i->type;
	switch (letter) {
	case 'd': add_written(r, i, t); break;
	case 'D': add_register(r, i, wide(t), 0); break;
	case 's': add_source(r, i, t, 0); break;
	case 'S': add_source(r, i, wide(t), 0); break;
	case 'f': add_source(r, i, i->from, 0); break;
	case 'u': add_source(r, i, T_B32, 0); break;
	case 'p': case 'P': add_register(r, i, T_PRED, 0); break;
	case 'V': add_vector(r, i, i->vector, t, 1, 0); break;
	case 'W': add_vector(r, i, i->vector, t, 1, 1); break;
	case 'A': add_address(r, i, i->space, (long)(i->vector == 0 ? 1 : i->vector) * code_bytes(t)); break;
	case 'T': add_address(r, i, SHARED, 16); break;
	case 'G': add_address(r, i, GLOBAL, 16); break;
	case 'F': add_vector(r, i, 4, T_F32, 0, 0); break;
	case 'R': add_vector(r, i, 4, T_B32, 0, 0); break;
	case 'Q': add_vector(r, i, 2, T_B32, 0, 0); break;
	case 'm': add_moved(r, i, t); break;
	case 'n': add_count(r, i); break;
	case 'L': add_label(r, i); break;
	case '0': add_constant(r, i, 0, "the emulator knows one barrier, of all threads"); break;
	case 'k': add_constant(r, i, 16, "the emulator knows copies of 16 bytes"); break;
	case '*': add_constant(r, i, -1, "the emulator knows what all lanes do together"); break;
	}
}

int code_predicate(struct reader *r) { return take_register(r, T_PRED, 0); }

void code_instruction(struct reader *r, struct word opcode, int guard, int negated) {
	enum type type, from;
	const struct form *f = code_form(opcode.text, opcode.length, &type, &from);
	if (f == NULL) code_fail(r, opcode.line, "the emulator does not know '%.*s'", code_shown(opcode), opcode.text);
	if (guard >= 0 && f->op != OP_BRA && f->op != OP_RET)
		code_fail(r, opcode.line, "the emulator knows guards of bra and of ret, not of '%.*s'", code_shown(opcode), opcode.text);
	if (guard > INT16_MAX) code_fail(r, opcode.line, "a guard's predicate is behind more than %d registers", INT16_MAX);
	struct instruction *i = code_add(r, r->instructions);
	*i = (struct instruction){
		.op = f->op, .type = (unsigned char)type, .from = (unsigned char)from, .space = f->space, .compare = f->compare, .mode = f->mode,
		.flush = f->flush, .turned = f->turned, .vector = f->vector, .uniform = f->uniform,
		.guard = (short)guard, .negated = (unsigned char)negated, .line = opcode.line,
	};
	for (const char *letter = f->operands; *letter != 0; letter++) {
		if (letter != f->operands) code_expect(r, ",");
		operand(r, i, *letter);
	}
	code_expect(r, ";");
}
