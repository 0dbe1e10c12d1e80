// How PTX is run: each instruction of a kernel becomes a step, which is a function that computes all lanes of a warp at once.
//
// A register of 32 bits or fewer is 32 words in a row, one of each lane, a register of 64 bits 32 double words, and a
// predicate one word of which a lane has a bit. What lies above a value's own bits is not defined: whoever reads 16 bits of
// a word masks it. Constants and special registers have places among the registers, so that every operand is a place.
//
// code_run.c runs grids, blocks and their barriers, code_warp.c a warp, code_run_steps.c makes steps of instructions, and
// code_run_arithmetic.c, code_run_compare.c, code_run_convert.c, code_run_memory.c and code_run_tensor.c have the functions.
#ifndef CODE_RUN_H
#define CODE_RUN_H

#include "code.h"
#include "emulator.h"
#include "watch.h"

enum { LANES = 32, MOST_WARPS = 32, MOST_COPIES = 256, MOST_NODES = 80 };

#define ALL 0xffffffffu

// Lanes of registers. Memory is read as what it was not written as.
typedef uint32_t u32 __attribute__((may_alias));
typedef int32_t s32 __attribute__((may_alias));
typedef uint64_t u64 __attribute__((may_alias));
typedef int64_t s64 __attribute__((may_alias));
typedef float f32 __attribute__((may_alias));
typedef double f64 __attribute__((may_alias));
typedef uint16_t u16 __attribute__((may_alias));

// EACH does something for every lane. Lanes do not depend on each other: a place is either the same register or another.
#ifdef __clang__
#define EACH _Pragma("clang loop vectorize(assume_safety)") for (int i = 0; i < LANES; i++)
#else
#define EACH _Pragma("GCC ivdep") for (int i = 0; i < LANES; i++)
#endif

struct warp;
struct step;

// A doing computes an instruction for some lanes of a warp, at least one.
typedef void doing(struct warp *w, struct step *s, uint32_t lanes);

// How a warp goes on behind a step.
enum kind {
	PLAIN,     // the next one
	FALLIBLE,  // the same, unless it says what is wrong
	JUMP,      // BRA
	END,       // RET
	TOGETHER,  // an instruction of all lanes at once
	BARRIER,   // bar.sync
};

// How wide a register is, which is how its lanes lie.
enum width { UNUSED, BITS, WORDS, DOUBLES };

// An allocation of the device, from an address up to another.
struct extent { uint64_t from, to; };

struct step {
	doing *run;
	unsigned char kind, guarded, negated;
	unsigned char space, vector, bytes, widens; // of memory: elements, the bytes of one, and whether it has a sign
	unsigned char wide;   // the address is of 64 bits
	uint16_t doubles;     // operands that are registers of 64 bits
	u32 guard;            // places, in bytes from where a warp's registers begin
	u32 d, a, b, c;       // the result and what it is computed from
	int target, convergence, at;
	int64_t offset, offset_b; // of addresses
	struct extent known;  // the allocation where it was last
	const struct instruction *text;
	const u32 *more;      // the place of each operand
};

// A program is a kernel made ready.
struct program {
	const struct code *code;
	struct program *next;
	struct step *steps;
	u32 *places;          // of the operands of all steps
	size_t bytes;         // of a warp's registers
	u32 specials[LANEID + 1];
	struct constant { u32 place; enum width width; uint64_t value; } *constants;
	int constant_count;
	char *registers;      // of the warps so far
	int warps;
};

// program_of makes a kernel ready, once. It returns NULL when there is an instruction that nothing here runs, and which in wrong.
struct program *program_of(const struct code *k, char *wrong, size_t wrong_bytes);

// do_* finds the function of an instruction: NULL when there is none.
doing *do_arithmetic(const struct instruction *t);
doing *do_compare(const struct instruction *t);
doing *do_convert(const struct instruction *t);
doing *do_move(const struct instruction *t);
doing *do_memory(const struct instruction *t);
doing *do_together(const struct instruction *t);

// Lanes of a warp that are at one place, on their way to a node.
struct fragment {
	int at, node;
	uint32_t lanes;
	int waits; // for the other lanes of the warp
};

// A node is where lanes meet again that a branch has parted.
struct node {
	int at, parent;
	uint32_t expected, arrived;
	int used;
};

// A copy by cp.async that is under way.
struct copy { uint64_t to, from; int bytes, group; };

enum state { RUNNING, AT_BARRIER, ENDED };

struct warp {
	char *registers;
	int number;
	uint32_t lanes, ended; // those that there are, and those of them that have ended
	enum state state;
	int fragments;
	struct fragment fragment[LANES]; // the last one is the first to go on
	struct node node[MOST_NODES];
	int copies[LANES], groups[LANES]; // of each lane: those under way, and groups that were committed in the block
	struct copy copy[LANES][MOST_COPIES];
};

// What runs at the moment.
struct running {
	struct program *program;
	const char *arguments;
	unsigned char *shared;
	uint64_t shared_bytes;
	unsigned block[3];
	const char *wrong; // what the kernel did wrong
};
extern struct running running;

// wrong_in says what a kernel did wrong, once, with the line and the block.
void wrong_in(const struct step *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

// run_warp runs a warp for so many steps, or until it cannot go on without others.
void run_warp(struct warp *w, long steps);
// begin_warp has all its lanes at the first instruction.
void begin_warp(struct warp *w);
// pass_barrier has a warp go on behind a barrier.
void pass_barrier(struct warp *w);

uint64_t code_random(void);

// result is where a doing puts lanes: the register, or aside when not all lanes have a result.
extern _Alignas(64) char aside[LANES * 8];
static inline void *result(struct warp *w, const struct step *s, uint32_t lanes) { return lanes == ALL ? w->registers + s->d : aside; }

static inline void keep_words(struct warp *w, u32 place, uint32_t lanes) {
	u32 *d = (u32 *)(w->registers + place);
	const u32 *from = (const u32 *)aside;
	EACH d[i] = lanes >> i & 1 ? from[i] : d[i];
}
static inline void keep_doubles(struct warp *w, u32 place, uint32_t lanes) {
	u64 *d = (u64 *)(w->registers + place);
	const u64 *from = (const u64 *)aside;
	EACH d[i] = lanes >> i & 1 ? from[i] : d[i];
}

// LANE_OP makes a doing of an expression in x, y and z, the lane's operands a, b and c.
#define LANE_OP(name, D, A, B, C, expression)                                            \
	static void name(struct warp *w, struct step *s, uint32_t lanes) {              \
		D *d = result(w, s, lanes);                                             \
		const A *a = (const A *)(w->registers + s->a);                          \
		const B *b = (const B *)(w->registers + s->b);                          \
		const C *c = (const C *)(w->registers + s->c);                          \
		EACH {                                                                  \
			const A x = a[i];                                               \
			const B y = b[i];                                               \
			const C z = c[i];                                               \
			(void)x, (void)y, (void)z;                                      \
			d[i] = (D)(expression);                                         \
		}                                                                       \
		if (lanes == ALL) return;                                               \
		if (sizeof(D) == 4) keep_words(w, s->d, lanes);                         \
		else keep_doubles(w, s->d, lanes);                                      \
	}

#endif
