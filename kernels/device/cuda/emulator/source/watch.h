// What looks on while PTX runs: it finds threads that race in shared memory, reads of what nobody wrote, and counts
// what a GPU would do: instructions of a warp, sectors of global memory, turns of the banks of shared memory.
#ifndef WATCH_H
#define WATCH_H

#include "code.h"

// An access is what the lanes of a warp do to memory by one instruction.
struct access {
	int at;                    // the instruction
	enum { READS, WRITES, SWAPS } what;
	enum space space;          // GLOBAL or SHARED
	int warp;
	uint32_t lanes;            // those that take part, by bits
	const uint64_t *addresses; // of each lane, for those that take part
	int bytes;                 // of each lane
};

// watching is what is watched for, by bits: emulator_set's "watch", which calls watch_for. 0 costs nothing. Races in shared
// memory and reads of what nobody wrote there; counts; races in global memory between threads of a launch. With WATCH_ON what is
// found is kept for emulator_found alone, and launches do not fail.
enum { WATCH_RACES = 1, WATCH_COUNTS = 2, WATCH_GLOBAL = 4, WATCH_ON = 8 };
extern int watching;

// watch_for sets what is watched for, and forgets what was counted and found.
void watch_for(int bits);

void watch_launch(const struct code *k, const unsigned grid[3], int threads, unsigned dynamic);
void watch_block(void);                                       // a block begins: shared memory is nobody's
void watch_instruction(int at, int warp, uint32_t lanes);     // a warp executes an instruction
void watch_access(const struct access *a);                    // before what it does is done
void watch_copy(int at, int warp, uint32_t lanes, const uint64_t *shared, const uint64_t *global, const int *bytes); // cp.async begins: it writes 16 bytes of shared memory
void watch_copied(int warp, int lane, uint64_t shared);       // a copy of 16 bytes is waited for: its lane may read it, others behind a barrier
void watch_warp(int warp);                                    // bar.warp.sync: the lanes of a warp see what each wrote
void watch_barrier(void);                                     // bar.sync: all threads of the block do

// watch_end ends a launch. It returns NULL, or what was found, with the line of the text.
const char *watch_end(void);

#endif
