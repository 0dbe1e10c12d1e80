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
const struct kernel *emulator_kernel(const char *name);

// emulator_run runs a grid of blocks, one block after the other. It returns NULL, or what the kernel did wrong.
const char *emulator_run(const struct kernel *k, const void *args, const unsigned grid[3], int threads);

// The order in which the threads of a block run: 0 ascending, 1 descending, anything else a seed.
extern uint64_t emulator_order;

// emulator_enqueue has a stream do something once it is waited for, on a copy of the argument.
EXPORT void emulator_enqueue(void *stream, void (*run)(void *), void *argument, size_t size);

#endif
