// Races. What two threads of a block do to the same bytes of shared memory, one of them writing, is in order only by a
// barrier: bar.sync, or bar.warp.sync where both are lanes of a warp. Nothing else orders: not that lanes of a warp go
// together, nor a shuffle, nor a product of tensor cores, which wait for each other and promise nothing of memory (PTX ISA,
// "Memory Consistency Model"; "shfl.sync", "mma"). Since all barriers are of whole warps and whole blocks, counting them
// tells of any two accesses whether one was before the other, in whatever order they happen here: see watch_cells.h.
//
// Lanes that write the same bytes by one instruction race too, whatever they write: which is kept is not said. Lanes that
// read them do not.
//
// A copy by cp.async writes from where it begins to where its thread waits for it; until then nobody, its own thread
// included, may use the bytes. From there on it is a writing of that thread, at the time of the wait.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "emulator.h"
#include "watch.h"
#include "watch_cells.h"
#include "watch_counts.h"

enum { MOST_SHARED = 100 << 10, MOST_WARPS = 32, MOST_FINDINGS = 8 };

int watching;

static const struct code *code; // that runs
static uint32_t epoch, began;   // now, and when the block began
static uint32_t warp_epochs[MOST_WARPS];
static long block; // of the launch
static struct words shared[MOST_SHARED / PAGE_BYTES];

enum fault { UNWRITTEN, READ_AFTER, WRITE_AFTER, WRITE_OVER, BY_LANES, READ_COPY, WRITE_COPY, FAULTS };

struct finding {
	enum fault fault;
	enum space space;
	int at, other; // instructions
	int thread, other_thread;
	uint64_t address;
	long block, count;
	int blocks; // the two are of different blocks
};
static struct finding findings[MOST_FINDINGS];
static int found;

static void find(struct finding f) {
	for (int i = 0; i < found; i++)
		if (findings[i].fault == f.fault && findings[i].at == f.at && findings[i].other == f.other) {
			findings[i].count++;
			return;
		}
	if (found == MOST_FINDINGS) return;
	f.count = 1;
	f.block = block;
	findings[found++] = f;
}

// doing is one lane's part of an access.
struct doing {
	const struct access *access;
	int thread;
	uint64_t address;
};

static void conflict(const struct doing *d, enum fault fault, int other, int other_thread, int blocks) {
	find((struct finding){.fault = fault, .space = d->access->space, .at = d->access->at, .other = other, .thread = d->thread,
		.other_thread = other_thread, .address = d->address, .blocks = blocks});
}

// since tells whether something happened in this block; in global memory it may have been in an earlier one.
static int since(const struct moment *m) { return m->epoch >= began; }

// unordered tells whether what another thread did, in this block or an earlier one, is in no order with what a thread does now.
static int unordered(const struct moment *m, int thread) {
	if (m->epoch == 0) return 0;
	if (!since(m)) return 1; // blocks are in no order
	if (m->epoch < epoch || m->thread == thread) return 0;
	return m->thread / 32 != thread / 32 || m->warp_epoch == warp_epochs[thread / 32];
}

// forget_block makes a word of shared memory be of no block.
static void forget_block(struct cell *c) {
	uint8_t split = c->split;
	*c = (struct cell){.split = split};
}

static struct moment now(const struct doing *d) {
	return (struct moment){epoch, warp_epochs[d->thread / 32], d->access->at, (int16_t)d->thread};
}

// look_at_writing compares what a thread does with the last writing before.
static void look_at_writing(const struct cell *c, const struct doing *d) {
	int writes = d->access->what != READS;
	if (c->copier != 0) conflict(d, writes ? WRITE_COPY : READ_COPY, c->written.at, c->copier - 1, 0);
	else if (unordered(&c->written, d->thread) && !(c->swapped && d->access->what == SWAPS)) {
		int lanes = writes && c->written.at == d->access->at && c->written.thread / 32 == d->thread / 32 && since(&c->written);
		conflict(d, lanes ? BY_LANES : writes ? WRITE_OVER : READ_AFTER, c->written.at, c->written.thread, !since(&c->written));
	}
}

// look_at_readings compares a writing with the readings before.
static void look_at_readings(const struct cell *c, const struct doing *d) {
	int warp = d->thread / 32;
	const struct moment *r = &c->read;
	if (c->elder != 0) conflict(d, WRITE_AFTER, c->elder - 1, c->elder_thread, 1);
	if (c->also.epoch != 0 && unordered(&c->also, d->thread)) conflict(d, WRITE_AFTER, c->also.at, c->also.thread, !since(&c->also));
	if (r->epoch == 0) return;
	if (!since(r) || r->thread / 32 != warp) {
		if (unordered(r, d->thread)) conflict(d, WRITE_AFTER, r->at, r->thread, !since(r));
	} else if (r->epoch == epoch && r->warp_epoch == warp_epochs[warp]) {
		uint32_t others = c->readers & ~(1u << (d->thread & 31));
		if (others != 0) conflict(d, WRITE_AFTER, r->at, warp * 32 + __builtin_ctz(others), 0);
	}
}

static void keep_reading(struct cell *c, const struct doing *d) {
	struct moment m = now(d), *r = &c->read;
	int same = r->epoch != 0 && since(r) && r->thread / 32 == d->thread / 32;
	if (r->epoch != 0 && !since(r)) {
		c->elder = r->at + 1;
		c->elder_thread = r->thread;
	} else if (!same) c->also = *r;
	int together = same && r->epoch == m.epoch && r->warp_epoch == m.warp_epoch;
	c->readers = (together ? c->readers : 0) | 1u << (d->thread & 31);
	c->read = m;
}

static void touch(struct cell *c, const struct doing *d) {
	enum space space = d->access->space;
	int reads = d->access->what != WRITES, writes = d->access->what != READS;
	if (space == SHARED && c->written.epoch < began) {
		if (reads) conflict(d, UNWRITTEN, -1, -1, 0);
		if (c->read.epoch < began) forget_block(c);
	}
	look_at_writing(c, d);
	if (writes) {
		if (d->access->what != SWAPS) look_at_readings(c, d);
		c->written = now(d);
		c->swapped = d->access->what == SWAPS;
		if (c->copier != 0) c->copier = 0; // it was told
	} else keep_reading(c, d);
}

static struct cell *bytes_of(struct words *page, int word) {
	struct cell *whole = &page->words[word];
	if (page->bytes == NULL) page->bytes = calloc(PAGE_WORDS, sizeof *page->bytes);
	if (!whole->split) {
		for (int i = 0; i < 4; i++) page->bytes[word][i] = *whole;
		whole->split = 1;
	}
	return page->bytes[word];
}

static struct words *page_of(enum space space, uint64_t address) {
	if (space != SHARED) return cells_page(address);
	return address < MOST_SHARED ? &shared[address / PAGE_BYTES] : NULL;
}

// go_through does something to the cells of bytes from an address on.
static void go_through(enum space space, uint64_t address, int bytes, void (*act)(struct cell *, const struct doing *), struct doing *d) {
	uint64_t end = address + (uint64_t)bytes;
	while (address < end) {
		struct words *page = page_of(space, address);
		if (page == NULL) return; // the one who runs says so
		int word = (int)(address % PAGE_BYTES / 4);
		if (address % 4 == 0 && address + 4 <= end && !page->words[word].split) {
			d->address = address;
			act(&page->words[word], d);
			address += 4;
			continue;
		}
		struct cell *cells = bytes_of(page, word);
		do {
			d->address = address;
			act(&cells[address % 4], d);
		} while (++address < end && address % 4 != 0);
	}
}

static char told[16 << 10]; // what was found, a launch a line
static size_t told_bytes;

void watch_for(int bits) {
	watching = bits;
	counts_forget();
	told_bytes = 0;
}

// emulator_found writes what was found since watch_for, a launch a line, and a 0 behind it. It returns how many bytes there are before
// the 0, which may be more than there is room for.
EXPORT int64_t emulator_found(char *text, int64_t room) {
	if (room > 0) snprintf(text, (size_t)room, "%.*s", (int)told_bytes, told);
	return (int64_t)told_bytes;
}

void watch_launch(const struct code *k, const unsigned grid[3], int threads, unsigned dynamic) {
	code = k;
	found = 0;
	block = -1;
	began = epoch + 1;
	if (watching & WATCH_GLOBAL) cells_forget();
	if (watching & WATCH_COUNTS) counts_launch(k, (long)grid[0] * grid[1] * grid[2], threads, dynamic);
}

void watch_block(void) {
	block++;
	began = ++epoch;
	memset(warp_epochs, 0, sizeof warp_epochs);
}

void watch_barrier(void) { epoch++; }

void watch_warp(int warp) { warp_epochs[warp]++; }

void watch_instruction(int at, int warp, uint32_t lanes) {
	(void)warp;
	if (watching & WATCH_COUNTS) counts_instruction(at, lanes);
}

static int looked_for(enum space space) { return (watching & (space == SHARED ? WATCH_RACES : WATCH_GLOBAL)) != 0; }

void watch_access(const struct access *a) {
	if (watching & WATCH_COUNTS) counts_access(a);
	if (!looked_for(a->space)) return;
	struct doing d = {.access = a};
	for (uint32_t left = a->lanes; left != 0; left &= left - 1) {
		int lane = __builtin_ctz(left);
		d.thread = a->warp * 32 + lane;
		go_through(a->space, a->addresses[lane], a->bytes, touch, &d);
	}
}

static void begin_copy(struct cell *c, const struct doing *d) {
	touch(c, d);
	c->copier = (int16_t)(d->thread + 1);
}

static void end_copy(struct cell *c, const struct doing *d) {
	if (c->copier != d->thread + 1) return; // somebody has written it, which was told
	int at = c->written.at;
	c->copier = 0;
	c->written = now(d);
	c->written.at = at;
}

void watch_copy(int at, int warp, uint32_t lanes, const uint64_t *to, const uint64_t *from, const int *bytes) {
	if (watching & WATCH_COUNTS) counts_copy(at, lanes, to, from, bytes);
	struct access writing = {.at = at, .what = WRITES, .space = SHARED, .warp = warp, .lanes = lanes, .bytes = 16};
	struct access reading = {.at = at, .what = READS, .space = GLOBAL, .warp = warp, .lanes = lanes};
	for (uint32_t left = lanes; left != 0; left &= left - 1) {
		int lane = __builtin_ctz(left), thread = warp * 32 + lane;
		if (looked_for(SHARED)) go_through(SHARED, to[lane], 16, begin_copy, &(struct doing){&writing, thread, 0});
		if (looked_for(GLOBAL)) go_through(GLOBAL, from[lane], bytes[lane], touch, &(struct doing){&reading, thread, 0});
	}
}

void watch_copied(int warp, int lane, uint64_t to) {
	if (!looked_for(SHARED)) return;
	struct access waiting = {.what = WRITES, .space = SHARED, .warp = warp, .bytes = 16};
	go_through(SHARED, to, 16, end_copy, &(struct doing){&waiting, warp * 32 + lane, 0});
}

// place says where the bytes are. Those of global memory are the host's: their address says nothing that lasts.
static int place(char *to, size_t n, const struct finding *f) {
	if (f->space != SHARED) return snprintf(to, n, "of global memory");
	if (code->dynamic >= 0 && f->address >= (uint64_t)code->dynamic)
		return snprintf(to, n, "at byte %llu of dynamic shared memory", (unsigned long long)(f->address - (uint64_t)code->dynamic));
	return snprintf(to, n, "at byte %llu of shared memory", (unsigned long long)f->address);
}

static size_t describe(char *to, size_t n, const struct finding *f) {
	static const char *const before[FAULTS] = {"", "wrote", "read", "wrote", "", "began to copy", "began to copy"};
	char where[80];
	place(where, sizeof where, f);
	int line = code->instructions[f->at].line;
	if (f->fault == UNWRITTEN)
		return (size_t)snprintf(to, n, "line %d: thread %d of block %ld reads what nobody wrote, %s", line, f->thread, f->block, where);
	int other = code->instructions[f->other].line;
	const char *verb = f->fault == READ_AFTER || f->fault == READ_COPY ? "reads" : "writes";
	if (f->fault == BY_LANES)
		return (size_t)snprintf(to, n, "line %d: threads %d and %d of block %ld write the same bytes at once, %s", line, f->other_thread, f->thread, f->block, where);
	if (f->fault == READ_COPY || f->fault == WRITE_COPY)
		return (size_t)snprintf(to, n, "line %d: thread %d of block %ld %s what thread %d began to copy at line %d and has not waited for, %s", line, f->thread,
			f->block, verb, f->other_thread, other, where);
	return (size_t)snprintf(to, n, "line %d: thread %d of block %ld %s what thread %d %s%s at line %d, with no barrier between, %s", line, f->thread, f->block, verb,
		f->other_thread, f->blocks ? "of an earlier block " : "", before[f->fault], other, where);
}

const char *watch_end(void) {
	static char text[2048];
	size_t used = 0;
	if (watching & WATCH_COUNTS) counts_end();
	for (int i = 0; i < found && used < sizeof text - 1; i++) {
		if (i > 0) used += (size_t)snprintf(text + used, sizeof text - used, "; ");
		if (used < sizeof text) used += describe(text + used, sizeof text - used, &findings[i]);
	}
	if (found == 0) return NULL;
	int n = snprintf(told + told_bytes, sizeof told - told_bytes, "%s: %s\n", code->name, text);
	if (n > 0 && (size_t)n < sizeof told - told_bytes) told_bytes += (size_t)n; // else there is no room for it
	return watching & WATCH_ON ? NULL : text;
}
