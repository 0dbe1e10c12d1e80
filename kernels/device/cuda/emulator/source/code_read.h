// What the parts of the reader of PTX share: code_read.c reads a module and its kernels, code_read_operands.c one instruction,
// code_read_words.c the text, code_read_forms.c has the table of what is known, and code_read_paths.c finds where ways meet.
#ifndef CODE_READ_H
#define CODE_READ_H

#include <setjmp.h>
#include "code.h"

// A word of the text, or a single character of what is none. It ends with the text: then it has no length.
struct word {
	const char *text;
	int length, line;
};

// A form is what is known of an opcode: its words in front of its types, and what they mean.
struct form {
	const char *words;
	unsigned char op, mode;
	uint32_t types;       // those that the opcode may end with, by bits of enum type; 0 for an opcode without
	const char *operands; // a letter for each; see code_read_operands.c
	uint32_t from;        // the types that may come behind, of what is converted
	unsigned char space, vector, compare, flush, turned, uniform;
};

// code_form finds the form of an opcode and its types; NULL when it is not known.
const struct form *code_form(const char *opcode, int length, enum type *type, enum type *from);
// code_type is the type of a name without its dot, T_NONE when there is none.
enum type code_type(const char *name, int length);

// code_bytes is the size of a type, 0 of a predicate.
int code_bytes(enum type t);
int code_is_float(enum type t);
int code_is_bits(enum type t);

// A name of registers: %r<24> is 24 of them, tmp is one.
struct registers {
	struct word name;
	int range; // how many numbers may come behind the name; 0 when it is a single register
	enum type type;
	int first;
	int depth; // of the scope that it ends with
};

// A variable in shared memory, or the parameter of a kernel.
struct variable {
	struct word name;
	long bytes; // 0 for that whose size the launch says
	int align;
	enum space space;
	int named; // by the kernel that is read
	long place;
};

struct label {
	struct word name;
	int at;
};

// What an operand waits for until the kernel has been read: where a label or a variable is.
struct pending {
	int at, operand;
	struct word label; // without a length when it is a variable
	int variable;
};

// A list grows: see code_add.
#define LIST(type) struct { type *of; int count, space; }

struct module {
	LIST(struct code) kernels;
};

struct reader {
	const char *at; // behind the word
	int line;
	struct word word; // that is looked at
	jmp_buf out;
	char *wrong;
	size_t wrong_bytes;
	struct module *module;
	LIST(struct variable) variables; // of the module, and behind them those of the kernel
	// The kernel that is read.
	LIST(struct instruction) instructions;
	LIST(struct registers) registers;
	LIST(struct label) labels;
	LIST(struct pending) pending;
	int depth, next_register, most_registers;
};

// code_add gives a list room for one more, of zeros, and is where.
#define code_add(r, list) ((list).of = code_grow((r), (list).of, &(list).count, &(list).space, sizeof *(list).of), &(list).of[(list).count - 1])
void *code_grow(struct reader *r, void *of, int *count, int *space, size_t size);

// code_fail ends reading, with the line and what is wrong there.
_Noreturn void code_fail(struct reader *r, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
// What a word is printed with: "'%.*s'", code_shown(w), w.text.
int code_shown(struct word w);

void code_next(struct reader *r); // looks at the next word
int code_is(struct word w, const char *text);
int code_take(struct reader *r, const char *text);   // goes on behind the text when it is there
void code_expect(struct reader *r, const char *text); // does so, or fails
struct word code_name(struct reader *r);             // takes a name
long code_count(struct reader *r, long most);        // takes a number of 0 to most
uint64_t code_number(struct reader *r, enum type t); // takes a number of a type: its bits, an integer's sign extended

// code_instruction reads an instruction of an opcode that has been taken, and adds it.
void code_instruction(struct reader *r, struct word opcode, int guard, int negated);
// code_predicate takes the predicate of a guard.
int code_predicate(struct reader *r);

// code_paths says of each guarded branch where all ways from it meet.
void code_paths(struct reader *r, struct instruction *instructions, int count);

#endif
