// PTX as the emulator runs it: what the GPU's driver is given, in place of the sources that it was compiled from. So what
// the compiler made of a kernel is tested too: the words in assembly that the sources have, what it reordered around
// them, its addresses and its layout of arguments.
//
// code_read.c makes a module's text into instructions, code_run.c runs a grid of them, 32 lanes of a warp at a time, and
// watch.c looks on. The language is that of the kernels, not all of PTX: what is not known is refused when it is read,
// with its line. (Parallel Thread Execution ISA 7.0.)
#ifndef CODE_H
#define CODE_H

#include <stddef.h>
#include <stdint.h>

// A module is the code of one text.
struct module;

// An operation without its types and its modifiers.
enum operation {
	OP_ABS, OP_ADD, OP_AND, OP_ATOM_CAS, OP_BAR_SYNC, OP_BAR_WARP_SYNC, OP_BFE, OP_BRA, OP_COPY /* cp.async.cg */,
	OP_COPIES_COMMIT, OP_COPIES_WAIT, OP_CVT, OP_CVTA, OP_DIV, OP_EX2, OP_FMA, OP_LD, OP_LDMATRIX, OP_LG2, OP_MAD, OP_MAX,
	OP_MIN, OP_MMA /* m16n8k16, row by col, bf16 into f32 */, OP_MOV, OP_MUL, OP_NEG, OP_NOT, OP_OR, OP_RCP, OP_REM, OP_RET,
	OP_SELP, OP_SETP, OP_SHL, OP_SHR, OP_SHFL, OP_SQRT, OP_ST, OP_SUB, OP_XOR,
	OPERATIONS
};

enum type { T_NONE, T_PRED, T_B8, T_U8, T_S8, T_B16, T_U16, T_S16, T_B32, T_U32, T_S32, T_B64, T_U64, T_S64, T_F32, T_F64, T_BF16X2 };

enum space { GENERIC, GLOBAL, SHARED, PARAM };

// How setp compares. The unordered ones are true where a number is NaN; NUM and NAN ask only for that.
enum comparison { EQ, NE, LT, LE, GT, GE, LO, LS, HI, HS, EQU, NEU, LTU, LEU, GTU, GEU, NUM, NAN_ };

// How the second half of an operation is meant, where it has one.
enum mode {
	MODE_NONE,
	MUL_LO, MUL_HI, MUL_WIDE,      // OP_MUL, OP_MAD
	ROUND_NEAREST, ROUND_ZERO_INT, // .rn, and .rzi to an integer; others are refused
	APPROXIMATE,                   // .approx of OP_EX2, OP_LG2, OP_RCP
	SHUFFLE_XOR, SHUFFLE_INDEX,    // .bfly, .idx
	TO_SPACE, FROM_SPACE,          // OP_CVTA: from a generic address to one in the space, and back
};

struct operand {
	enum { REGISTER, NUMBER, SPECIAL, ADDRESS, PLACE, NOWHERE } kind;
	// REGISTER, and ADDRESS with a register: which. −1 is an ADDRESS without. SPECIAL: an enum special.
	int reg;
	// NUMBER: its bits, of the instruction's type, an integer sign-extended to 64, and so a predicate, of 1 bit. ADDRESS: the bytes to be added, with
	// where a variable or a parameter begins already in it. PLACE: the instruction that a branch goes to.
	uint64_t value;
	// The halves of "mov.b32 {low, high}, r" and the elements of a vector are operands in their order, one after the other.
};

enum special { TID_X, NTID_X, CTAID_X, CTAID_Y, CTAID_Z, NCTAID_X, NCTAID_Y, NCTAID_Z, LANEID };

enum { MOST_OPERANDS = 14 };

struct instruction {
	unsigned char op;       // enum operation
	unsigned char type;     // enum type: what is computed; what is loaded or stored; what a comparison compares; CVT: the result's
	unsigned char from;     // CVT: the type of what is converted
	unsigned char space;    // of LD, ST, ATOM_CAS, CVTA
	unsigned char compare;  // SETP
	unsigned char mode;     // enum mode
	unsigned char flush;    // .ftz: numbers below 2⁻¹²⁶ are 0, in and out
	unsigned char turned;   // LDMATRIX: .trans
	unsigned char vector;   // LD, ST: 1, 2 or 4 elements. MOV: 2 where the first operands are halves of the last, −2 the other way (as a signed char)
	unsigned char operands;
	unsigned char uniform;  // BRA: .uni
	unsigned char negated;  // the guard: @!p
	short guard;            // of BRA and RET alone: a predicate's register, −1 for none
	int line;               // in the text, from 1
	int convergence;        // BRA with a guard: the instruction where all ways from it meet that end, or count when they meet only at the end
	struct operand operand[MOST_OPERANDS];
};

// A kernel. Registers of all kinds are numbered together from 0; each holds up to 64 bits of a lane.
struct code {
	const char *name;
	const struct instruction *instructions;
	int count;
	int registers;
	int threads;    // at most, in a block (.maxntid)
	int parameters; // bytes of its struct
	int shared;     // bytes of its variables in shared memory, those alone that it names
	int dynamic;    // where shared memory begins whose size the launch says: an address in shared memory; −1 when it has none
};

// code_read reads a module's text. Of a text that it does not understand it returns NULL, and in wrong the line and what it is.
struct module *code_read(const char *text, char *wrong, size_t wrong_bytes);
void code_free(struct module *m);
// code_find is NULL when there is no such entry.
const struct code *code_find(const struct module *m, const char *entry);
const struct code *code_at(const struct module *m, int i); // NULL behind the last

// code_run runs a grid of blocks, one block after the other. An address in shared memory is an offset, its variables first and
// then what the launch asked for; one in global memory, and a generic one, is the host's. It returns NULL, or what the kernel did
// wrong, with the line of its text; the string lives until the next call.
const char *code_run(const struct code *k, const void *arguments, const unsigned grid[3], int threads, unsigned dynamic);

// code_inside tells whether bytes of global memory from an address on are the device's: the driver does.
int code_inside(uint64_t address, size_t bytes);

#endif
