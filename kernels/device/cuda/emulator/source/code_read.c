// PTX's directives: modules, kernels, registers and variables. See code_read.h for the other parts.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "code_read.h"
#include "emulator.h"

// What GPUs have at most: threads of a block, bytes of parameters, and of shared memory that is not asked for at a launch.
enum { MOST_THREADS = 1024, MOST_PARAMETERS = 4352, MOST_SHARED = 48 << 10, MOST_REGISTERS = 1 << 20, MOST_ALIGNED = 128 };

void code_free(struct module *m) {
	if (m == NULL) return;
	for (int i = 0; i < m->kernels.count; i++) {
		free((void *)m->kernels.of[i].name);
		free((void *)m->kernels.of[i].instructions);
	}
	free(m->kernels.of);
	free(m);
}

const struct code *code_at(const struct module *m, int i) { return i >= 0 && i < m->kernels.count ? &m->kernels.of[i] : NULL; }

const struct code *code_find(const struct module *m, const char *entry) {
	for (int i = 0; i < m->kernels.count; i++)
		if (strcmp(m->kernels.of[i].name, entry) == 0) return &m->kernels.of[i];
	return NULL;
}

// unknown fails at the word.
static _Noreturn void unknown(struct reader *r) {
	if (r->word.length == 0) code_fail(r, r->word.line, "the text ends too early");
	code_fail(r, r->word.line, "the emulator does not know '%.*s'", code_shown(r->word), r->word.text);
}

static int same(struct word a, struct word b) { return a.length == b.length && memcmp(a.text, b.text, (size_t)a.length) == 0; }

// take_type takes a type of registers or of variables, with its dot.
static enum type take_type(struct reader *r) {
	enum type t = r->word.length > 1 && r->word.text[0] == '.' ? code_type(r->word.text + 1, r->word.length - 1) : T_NONE;
	if (t == T_NONE || t == T_BF16X2) unknown(r);
	code_next(r);
	return t;
}

// variable reads "[.align N] .type name[[count]]" of .shared, of .extern .shared or of .param, and what is behind it.
static void variable(struct reader *r, enum space space, int dynamic, const char *behind) {
	struct word at = r->word;
	int align = code_take(r, ".align") ? (int)code_count(r, MOST_ALIGNED) : 0;
	enum type t = take_type(r);
	long bytes = code_bytes(t), most = space == PARAM ? MOST_PARAMETERS : MOST_SHARED;
	if (bytes == 0) code_fail(r, at.line, "a predicate is in no memory");
	if (align == 0) align = (int)bytes;
	if ((align & (align - 1)) != 0) code_fail(r, at.line, "an alignment of %d bytes is no power of two", align);
	struct word name = code_name(r);
	for (int v = 0; v < r->variables.count; v++)
		if (same(r->variables.of[v].name, name)) code_fail(r, name.line, "'%.*s' is declared twice", code_shown(name), name.text);
	if (dynamic) {
		bytes = 0;
		code_expect(r, "[");
		code_expect(r, "]");
	} else if (code_take(r, "[")) {
		bytes *= code_count(r, most);
		code_expect(r, "]");
	}
	if (!dynamic && (bytes == 0 || bytes > most))
		code_fail(r, name.line, "'%.*s' has %ld bytes, want 1 to %ld", code_shown(name), name.text, bytes, most);
	code_expect(r, behind);
	*code_add(r, r->variables) = (struct variable){.name = name, .bytes = bytes, .align = align, .space = space};
}

// declare reads "type name<count>, …;" of .reg.
static void declare(struct reader *r) {
	enum type t = take_type(r);
	do {
		struct word name = code_name(r);
		int range = 0;
		if (code_take(r, "<")) {
			range = (int)code_count(r, MOST_REGISTERS);
			code_expect(r, ">");
			if (range == 0) code_fail(r, name.line, "want at least one register '%.*s'", code_shown(name), name.text);
		}
		for (int i = 0; i < r->registers.count; i++)
			if (r->registers.of[i].depth == r->depth && same(r->registers.of[i].name, name))
				code_fail(r, name.line, "'%.*s' is declared twice", code_shown(name), name.text);
		*code_add(r, r->registers) = (struct registers){name, range, t, r->next_register, r->depth};
		r->next_register += range > 0 ? range : 1;
		if (r->next_register > r->most_registers) r->most_registers = r->next_register;
		if (r->most_registers > MOST_REGISTERS) code_fail(r, name.line, "a kernel has more than %d registers", MOST_REGISTERS);
	} while (code_take(r, ","));
	code_expect(r, ";");
}

// leave ends a scope: what it has declared is forgotten.
static void leave(struct reader *r) {
	while (r->registers.count > 0 && r->registers.of[r->registers.count - 1].depth == r->depth)
		r->next_register = r->registers.of[--r->registers.count].first;
	r->depth--;
}

static void label(struct reader *r, struct word name) {
	for (int i = 0; i < r->labels.count; i++)
		if (same(r->labels.of[i].name, name)) code_fail(r, name.line, "label '%.*s' is there twice", code_shown(name), name.text);
	*code_add(r, r->labels) = (struct label){name, r->instructions.count};
}

// statement reads one of a kernel's.
static void statement(struct reader *r) {
	if (code_take(r, "{")) {
		r->depth++;
	} else if (code_take(r, ".reg")) {
		declare(r);
	} else if (code_take(r, ".shared")) {
		variable(r, SHARED, 0, ";");
	} else if (code_take(r, ".pragma")) {
		if (!code_take(r, "\"nounroll\"")) unknown(r);
		code_expect(r, ";");
	} else if (code_take(r, "@")) {
		int negated = code_take(r, "!"), guard = code_predicate(r);
		struct word opcode = r->word;
		if (opcode.length > 0) code_next(r);
		code_instruction(r, opcode, guard, negated);
	} else {
		struct word w = r->word;
		if (w.length == 0 || w.text[0] == '.') unknown(r);
		code_next(r);
		if (code_take(r, ":")) label(r, w);
		else code_instruction(r, w, -1, 0);
	}
}

// lay_out gives the variables that the kernel names their places in shared memory.
static void lay_out(struct reader *r, struct code *k) {
	long at = 0;
	k->dynamic = -1;
	for (int dynamic = 0; dynamic < 2; dynamic++) { // what the launch asks for is behind all others
		for (int i = 0; i < r->variables.count; i++) {
			struct variable *v = &r->variables.of[i];
			if (v->space != SHARED || !v->named || (v->bytes == 0) != dynamic) continue;
			v->place = (at + v->align - 1) & -(long)v->align;
			if (!dynamic) at = v->place + v->bytes;
			else if (v->place > k->dynamic) k->dynamic = (int)v->place;
		}
		if (!dynamic && at > MOST_SHARED) code_fail(r, r->word.line, "a kernel's variables in shared memory have %ld bytes, want at most %d", at, MOST_SHARED);
		if (!dynamic) k->shared = (int)at;
	}
	for (int i = 0; i < r->variables.count; i++) { // and all that the launch asks for is the same memory
		struct variable *v = &r->variables.of[i];
		if (v->space == SHARED && v->bytes == 0) v->place = k->dynamic;
	}
}

// settle gives operands what was not known of them when they were read.
static void settle(struct reader *r) {
	for (int i = 0; i < r->pending.count; i++) {
		struct pending *p = &r->pending.of[i];
		struct operand *o = &r->instructions.of[p->at].operand[p->operand];
		if (p->label.length == 0) {
			o->value += (uint64_t)r->variables.of[p->variable].place;
			continue;
		}
		int at = -1;
		for (int l = 0; l < r->labels.count && at < 0; l++)
			if (same(r->labels.of[l].name, p->label)) at = r->labels.of[l].at;
		if (at < 0) code_fail(r, p->label.line, "there is no label '%.*s'", code_shown(p->label), p->label.text);
		if (at == r->instructions.count) code_fail(r, p->label.line, "there is no instruction behind label '%.*s'", code_shown(p->label), p->label.text);
		o->value = (uint64_t)at;
	}
}

// body reads a kernel's braces and what they hold.
static void body(struct reader *r) {
	r->instructions.count = r->registers.count = r->labels.count = r->pending.count = 0;
	r->next_register = r->most_registers = 0;
	r->depth = 1;
	for (code_expect(r, "{"); r->depth > 0;) {
		if (!code_is(r->word, "}")) {
			statement(r);
			continue;
		}
		leave(r);
		if (r->depth > 0) code_next(r);
	}
	int n = r->instructions.count;
	const struct instruction *last = n > 0 ? &r->instructions.of[n - 1] : NULL;
	if (last == NULL || last->guard >= 0 || (last->op != OP_RET && last->op != OP_BRA))
		code_fail(r, r->word.line, "a kernel goes on behind its last instruction");
}

// limits reads what a kernel says of its launches.
static void limits(struct reader *r, struct code *k) {
	k->threads = MOST_THREADS;
	for (;;) {
		if (code_take(r, ".maxntid")) {
			int line = r->word.line;
			long threads = code_count(r, MOST_THREADS);
			for (int i = 0; i < 2 && code_take(r, ","); i++) threads *= code_count(r, MOST_THREADS);
			if (threads < 1 || threads > MOST_THREADS) code_fail(r, line, "a block has %ld threads, want 1 to %d", threads, MOST_THREADS);
			k->threads = (int)threads;
		} else if (code_take(r, ".minnctapersm")) {
			code_count(r, MOST_THREADS);
		} else {
			return;
		}
	}
}

// entry reads a kernel behind .entry.
static void entry(struct reader *r) {
	struct word name = code_name(r);
	struct module *m = r->module;
	for (int i = 0; i < m->kernels.count; i++)
		if (code_is(name, m->kernels.of[i].name)) code_fail(r, name.line, "'%.*s' is declared twice", code_shown(name), name.text);
	struct code *k = code_add(r, m->kernels);
	k->name = strndup(name.text, (size_t)name.length);
	if (k->name == NULL) code_fail(r, name.line, "there is no memory for a kernel's name");
	int variables = r->variables.count;
	for (int i = 0; i < variables; i++) r->variables.of[i].named = 0;
	code_expect(r, "(");
	if (!code_take(r, ")")) {
		code_expect(r, ".param");
		variable(r, PARAM, 0, ")");
		k->parameters = (int)r->variables.of[variables].bytes;
	}
	limits(r, k);
	body(r);
	lay_out(r, k);
	settle(r);
	code_paths(r, r->instructions.of, r->instructions.count);
	k->count = r->instructions.count;
	k->registers = r->most_registers;
	size_t bytes = (size_t)k->count * sizeof *k->instructions;
	struct instruction *instructions = malloc(bytes);
	if (instructions == NULL) code_fail(r, name.line, "there is no memory for a kernel's instructions");
	k->instructions = memcpy(instructions, r->instructions.of, bytes);
	r->variables.count = variables;
	code_expect(r, "}");
}

// head reads what the text is for: no other version has been looked at.
static void head(struct reader *r) {
	static const char *const words[] = {".version", "7.0", ".target", "sm_80", ".address_size", "64"};
	code_next(r);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) code_expect(r, words[i]);
}

static void read_module(struct reader *r) {
	head(r);
	while (r->word.length > 0) {
		if (code_take(r, ".extern")) {
			code_expect(r, ".shared");
			variable(r, SHARED, 1, ";");
		} else if (code_take(r, ".shared")) {
			variable(r, SHARED, 0, ";");
		} else {
			int visible = code_take(r, ".visible");
			if (!code_take(r, ".entry")) {
				if (visible) code_expect(r, ".entry");
				unknown(r);
			}
			entry(r);
		}
	}
}

// attempt reports whether all has been read; code_fail comes back here.
static int attempt(struct reader *r) {
	if (setjmp(r->out) != 0) return 0;
	read_module(r);
	return 1;
}

struct module *code_read(const char *text, char *wrong, size_t wrong_bytes) {
	struct module *m = calloc(1, sizeof *m);
	if (m == NULL) {
		if (wrong_bytes > 0) snprintf(wrong, wrong_bytes, "line 1: there is no memory for a module");
		return NULL;
	}
	struct reader r = {.at = text, .line = 1, .wrong = wrong, .wrong_bytes = wrong_bytes, .module = m};
	int read = attempt(&r);
	free(r.variables.of);
	free(r.instructions.of);
	free(r.registers.of);
	free(r.labels.of);
	free(r.pending.of);
	if (read) return m;
	code_free(m);
	return NULL;
}

// What tests call: code_read, code_free and code_at.
EXPORT struct module *emulator_read(const char *text, char *wrong, size_t wrong_bytes) { return code_read(text, wrong, wrong_bytes); }
EXPORT void emulator_free(struct module *m) { code_free(m); }
EXPORT const struct code *emulator_at(const struct module *m, int i) { return code_at(m, i); }
