// What the parts of the emulated driver share.
#ifndef EMULATOR_H
#define EMULATOR_H

#include <stddef.h>
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

// Kernels are in a table that their constructors fill.
struct kernel {
	const char *name;
	void (*start)(const void *);
	size_t size; // of its struct
	int threads; // at most, in a block
};
struct kernel *emulator_kernel(const char *name);

// emulator_run runs a grid of blocks, one block after the other. It returns NULL, or what the kernel did wrong.
const char *emulator_run(const struct kernel *k, const void *args, const unsigned grid[3], int threads, unsigned shared);

// MOST_DYNAMIC is the most bytes of dynamic shared memory of a block: what compute capability 8.6 has, the least of all.
enum { MOST_DYNAMIC = 99 << 10 };

// DYNAMIC is the most that a block has without leave, with what its kernel declares.
enum { DYNAMIC = 48 << 10 };

// A function is a kernel of a module, by its PTX or by the sources.
struct function {
	const char *name;
	const struct kernel *kernel;
	const struct code *code; // NULL where the sources run
	struct function *next;
	size_t size; // of its struct
	int threads; // at most, in a block
	int fixed;   // bytes of shared memory that it declares, as far as is known
	int dynamic; // bytes of dynamic shared memory that it has leave for
};

// module_load is NULL when PTX is not understood, and why in wrong.
struct loaded *module_load(const char *text, int as_code, char *wrong, size_t wrong_bytes);
void module_unload(struct loaded *l);
struct function *module_function(const struct loaded *l, const char *name); // NULL when there is none

// functions_as_code counts launches that ran as PTX.
extern long functions_as_code;

// function_run runs a grid of blocks. It returns NULL, or what the kernel did wrong.
const char *function_run(const struct function *f, const void *arguments, const unsigned grid[3], int threads, unsigned shared);

// emulator_extent finds the device's allocation that an address is in, or the nearest one: 0 when there is none.
int emulator_extent(uint64_t address, uint64_t *from, uint64_t *to);

// The order in which the threads of a block run: 0 ascending, 1 descending, anything else a seed.
extern uint64_t emulator_order;

// emulator_enqueue has a stream do something once it is waited for, on a copy of the argument.
EXPORT void emulator_enqueue(void *stream, void (*run)(void *), void *argument, size_t size);

// watch_for sets what is watched for while PTX runs: see watch.h.
void watch_for(int bits);

#endif
