// What watch.c keeps of each word of memory.
#ifndef WATCH_CELLS_H
#define WATCH_CELLS_H

#include <stdint.h>

// Time is counted in epochs: of the blocks of a launch one after the other, from barrier to barrier, and of each warp, from
// one of its own barriers to the next. Two accesses of different threads are in no order when they are of the same epoch of
// a block, and, of a warp's, of the same epoch of the warp.
struct moment {
	uint32_t epoch; // 0: never
	uint32_t warp_epoch;
	int32_t at;     // the instruction
	int16_t thread;
};

// A cell is what is known of 4 bytes, or of one where the bytes of a word are not always used together. Of its readers, the
// last warp and the last one before that was another are enough: when two warps have read in an epoch, every
// writing of that epoch is a race with one of them.
struct cell {
	struct moment written, read, also;
	uint32_t readers;        // lanes of the last warp that read, in its epoch
	int32_t elder;           // the last instruction by which an earlier block read, plus 1
	int16_t elder_thread;
	int16_t copier;          // the thread whose copy is under way, plus 1
	uint8_t swapped;         // written by an instruction that is one with its reading
	uint8_t split;           // this cell is of a word whose bytes have cells of their own
};

// Words of global memory that a launch has met are in pages.
enum { PAGE_BYTES = 1024, PAGE_WORDS = PAGE_BYTES / 4 };

struct words {
	struct cell words[PAGE_WORDS];
	struct cell (*bytes)[4]; // of split words; NULL where there is none
};

// cells_page is the page of an address, a new one where there was none since cells_forget.
struct words *cells_page(uint64_t address);
void cells_forget(void);

#endif
