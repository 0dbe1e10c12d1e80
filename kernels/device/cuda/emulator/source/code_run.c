// Grids of blocks that run PTX: the warps of a block one after the other, each as far as it can go alone, or in turns and
// for as long as chance has it.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "code_run.h"

// A warp that waits for what another one does has to let it go on in the end.
enum { TURN = 1 << 24, SHORT_TURN = 64 };

struct running running;

static char words[512];

void wrong_in(const struct step *s, const char *format, ...) {
	if (running.wrong != NULL) return;
	size_t n = (size_t)snprintf(words, sizeof words, "line %d, block (%u, %u, %u): ", s->text->line, running.block[0], running.block[1], running.block[2]);
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(words + n, sizeof words - n, format, arguments);
	va_end(arguments);
	running.wrong = words;
}

static uint64_t random_state;

uint64_t code_random(void) {
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static struct warp warps[MOST_WARPS];
static int warp_count;
static _Alignas(128) unsigned char shared[(48 << 10) + MOST_DYNAMIC];

static void fill(char *registers, u32 place, uint32_t value) {
	u32 *to = (u32 *)(registers + place);
	if (place == 0) return; // nobody reads it
	EACH to[i] = value;
}

static void set_constant(char *registers, const struct constant *c) {
	if (c->width == BITS) *(u32 *)(registers + c->place) = (uint32_t)c->value;
	else if (c->width == WORDS) fill(registers, c->place, (uint32_t)c->value);
	else for (int i = 0; i < LANES; i++) ((u64 *)(registers + c->place))[i] = c->value;
}

// make_registers makes those of so many warps. What a kernel has not written is not a number.
static void make_registers(struct program *p, int count) {
	if (count <= p->warps) return;
	void *memory = NULL;
	if (posix_memalign(&memory, 64, p->bytes * (size_t)count) != 0) abort();
	free(p->registers);
	p->registers = memory;
	p->warps = count;
	memset(p->registers, 0xff, p->bytes * (size_t)count);
	for (int w = 0; w < count; w++)
		for (int c = 0; c < p->constant_count; c++) set_constant(p->registers + p->bytes * (size_t)w, &p->constants[c]);
}

static void begin_launch(struct program *p, const void *arguments, const unsigned grid[3], int threads, unsigned dynamic) {
	const struct code *k = p->code;
	uint64_t bytes = (uint64_t)k->shared;
	if (k->dynamic >= 0 && (uint64_t)k->dynamic + dynamic > bytes) bytes = (uint64_t)k->dynamic + dynamic;
	running = (struct running){.program = p, .arguments = arguments, .shared = shared, .shared_bytes = bytes};
	random_state = emulator_order | 1;
	warp_count = (threads + LANES - 1) / LANES;
	make_registers(p, warp_count);
	for (int i = 0; i < k->count; i++)
		if (p->steps[i].space != PARAM) p->steps[i].known = (struct extent){0, 0};
	for (int i = 0; i < warp_count; i++) {
		struct warp *w = &warps[i];
		int left = threads - LANES * i;
		w->registers = p->registers + p->bytes * (size_t)i;
		w->number = i;
		w->lanes = left >= LANES ? ALL : (1u << left) - 1;
		fill(w->registers, p->specials[NTID_X], (uint32_t)threads);
		fill(w->registers, p->specials[NCTAID_X], grid[0]);
		fill(w->registers, p->specials[NCTAID_Y], grid[1]);
		fill(w->registers, p->specials[NCTAID_Z], grid[2]);
		u32 *tid = (u32 *)(w->registers + p->specials[TID_X]), *lane = (u32 *)(w->registers + p->specials[LANEID]);
		for (int l = 0; l < LANES && p->specials[TID_X] != 0; l++) tid[l] = (uint32_t)(LANES * i + l);
		for (int l = 0; l < LANES && p->specials[LANEID] != 0; l++) lane[l] = (uint32_t)l;
	}
}

static void begin_block(void) {
	const struct program *p = running.program;
	memset(running.shared, 0xff, running.shared_bytes);
	if (watching) watch_block();
	for (int i = 0; i < warp_count; i++) {
		begin_warp(&warps[i]);
		fill(warps[i].registers, p->specials[CTAID_X], running.block[0]);
		fill(warps[i].registers, p->specials[CTAID_Y], running.block[1]);
		fill(warps[i].registers, p->specials[CTAID_Z], running.block[2]);
	}
}

// run_warps has each warp that can go on do so. It reports whether any did.
static int run_warps(void) {
	int order[MOST_WARPS], any = 0;
	for (int i = 0; i < warp_count; i++) order[i] = emulator_order == 1 ? warp_count - 1 - i : i;
	for (int i = warp_count - 1; i > 0 && emulator_order > 1; i--) {
		int j = (int)(code_random() % (uint64_t)(i + 1)), was = order[i];
		order[i] = order[j];
		order[j] = was;
	}
	for (int i = 0; i < warp_count && running.wrong == NULL; i++) {
		struct warp *w = &warps[order[i]];
		if (w->state != RUNNING) continue;
		run_warp(w, emulator_order > 1 ? (long)(code_random() % SHORT_TURN) + 1 : TURN);
		any = 1;
	}
	return any;
}

// pass_all has all warps go on that wait at a barrier, once all of the block's threads have come. It reports whether any is left.
static int pass_all(void) {
	const struct warp *waits = NULL, *ended = NULL;
	for (int i = 0; i < warp_count; i++) {
		if (warps[i].state == AT_BARRIER) waits = &warps[i];
		if (warps[i].ended != 0) ended = &warps[i];
	}
	if (waits == NULL) return 0;
	if (ended != NULL) {
		wrong_in(&running.program->steps[waits->fragment[0].at], "warp %d waits at a barrier, and threads of warp %d have ended", waits->number, ended->number);
		return 0;
	}
	if (watching) watch_barrier();
	for (int i = 0; i < warp_count; i++) pass_barrier(&warps[i]);
	return 1;
}

static void run_block(void) {
	begin_block();
	do {
		while (run_warps()) continue;
	} while (running.wrong == NULL && pass_all());
}

const char *code_run(const struct code *k, const void *arguments, const unsigned grid[3], int threads, unsigned dynamic) {
	struct program *p = program_of(k, words, sizeof words);
	if (p == NULL) return words;
	begin_launch(p, arguments, grid, threads, dynamic);
	if (watching) watch_launch(k, grid, threads, dynamic);
	for (unsigned z = 0; z < grid[2]; z++)
		for (unsigned y = 0; y < grid[1]; y++)
			for (unsigned x = 0; x < grid[0] && running.wrong == NULL; x++) {
				running.block[0] = emulator_order == 1 ? grid[0] - 1 - x : x; // blocks have no order either
				running.block[1] = y;
				running.block[2] = z;
				run_block();
			}
	const char *found = watching ? watch_end() : NULL;
	return running.wrong != NULL ? running.wrong : found;
}
