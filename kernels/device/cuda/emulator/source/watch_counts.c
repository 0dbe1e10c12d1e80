// Counts of what a GPU would do, of each kernel over its launches: what is exact without one, since it follows from the
// instructions and their addresses alone.
//
// A request of a warp to global memory takes as many sectors as it touches, 32 bytes each at a multiple of 32; the least is what
// its bytes, each counted once, fill. Shared memory has 32 banks of 4 bytes, word w in bank w mod 32. It serves a warp
// in turns, in each of which a bank gives or takes one word, to as many lanes as want it: all lanes at once where they have
// up to 4 bytes each, halves of a warp where they have 8, quarters where they have 16, and ldmatrix's 8 rows of a matrix. The least is
// what the words, each counted once, fill with 32 a turn. (CUDA C++ Programming Guide, "Compute Capability 5.x, Shared Memory";
// CUDA C++ Best Practices Guide, "Coalesced Access to Global Memory".)
//
// Bytes of a launch are counted once however often they are read, or written: what has to move at least.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "emulator.h"
#include "watch_counts.h"

// What instructions do, for the counts: by an operation, and of OP_LD and OP_ST by the space too.
enum class { TENSOR, FLOATS, INTEGERS, WIDE, FUNCTIONS, SELECT, MOVE, PARAMETER, FROM_GLOBAL, FROM_SHARED, COPIES, SHUFFLES, BARRIERS, CONTROL, CLASSES };
static const char *const class_names[CLASSES] = {"tensor", "floats", "integers", "wide", "functions", "select", "move", "parameter", "global", "shared", "copies", "shuffles", "barriers", "control"};

// line is what is counted of one instruction.
struct line {
	int line;
	uint64_t executed, lanes, sectors, least_sectors, turns, least_turns;
};

struct counts {
	char *name;
	int count; // of lines
	struct line *lines;
	enum class *classes;
	uint64_t launches, blocks, warps, classes_executed[CLASSES], executed, lanes;
	// Of global memory, read and written: requests, sectors of them, the least, bytes asked for, and bytes and sectors of a launch.
	uint64_t requests[2], sectors[2], least_sectors[2], asked[2], bytes[2], met[2];
	// Of shared memory: reads, writes, ldmatrix, copies.
	uint64_t turns[4], least_turns[4];
};
enum { SHARED_READS, SHARED_WRITES, SHARED_TILES, SHARED_COPIES };

static struct counts *all, *current;
static int known;
static const struct code *code;

static enum class class_of(const struct instruction *i) {
	int floating = i->type == T_F32 || i->type == T_F64;
	switch (i->op) {
	case OP_MMA: return TENSOR;
	case OP_LD: case OP_ST: return i->space == PARAM ? PARAMETER : i->space == SHARED ? FROM_SHARED : FROM_GLOBAL;
	case OP_ATOM_CAS: return i->space == SHARED ? FROM_SHARED : FROM_GLOBAL;
	case OP_LDMATRIX: return FROM_SHARED;
	case OP_COPY: case OP_COPIES_COMMIT: case OP_COPIES_WAIT: return COPIES;
	case OP_SHFL: return SHUFFLES;
	case OP_BAR_SYNC: case OP_BAR_WARP_SYNC: return BARRIERS;
	case OP_BRA: case OP_RET: return CONTROL;
	case OP_EX2: case OP_LG2: case OP_RCP: case OP_SQRT: case OP_DIV: case OP_REM: return FUNCTIONS;
	case OP_SETP: case OP_SELP: return SELECT;
	case OP_MOV: case OP_CVTA: return MOVE;
	case OP_CVT: return FLOATS;
	}
	return floating ? FLOATS : i->type == T_B64 || i->type == T_U64 || i->type == T_S64 ? WIDE : INTEGERS;
}

static struct counts *counts_of(const struct code *k) {
	for (int i = 0; i < known; i++)
		if (strcmp(all[i].name, k->name) == 0 && all[i].count == k->count) return &all[i];
	all = realloc(all, (size_t)(known + 1) * sizeof *all);
	struct counts *c = &all[known++];
	*c = (struct counts){.name = strdup(k->name), .count = k->count};
	c->lines = calloc((size_t)k->count, sizeof *c->lines);
	c->classes = calloc((size_t)k->count, sizeof *c->classes);
	for (int i = 0; i < k->count; i++) {
		c->lines[i].line = k->instructions[i].line;
		c->classes[i] = class_of(&k->instructions[i]);
	}
	return c;
}

void counts_forget(void) {
	for (int i = 0; i < known; i++) {
		free(all[i].name);
		free(all[i].lines);
		free(all[i].classes);
	}
	free(all);
	all = current = NULL;
	known = 0;
}

// The bytes that a launch has met, by pages of 4 KiB: a bit for each, of those read and of those written.
enum { MET_PAGE = 4096 };
struct met { uint32_t bytes[2][MET_PAGE / 32]; };
static struct { uint64_t page; struct met *met; } *pages; // page plus 1
static size_t slots, used;

static size_t slot(uint64_t page) {
	size_t i = (size_t)(page * 0x9e3779b97f4a7c15u >> 20) & (slots - 1);
	while (pages[i].page != 0 && pages[i].page != page) i = (i + 1) & (slots - 1);
	return i;
}

static struct met *met_page(uint64_t address) {
	uint64_t page = address / MET_PAGE + 1;
	if (2 * used >= slots) {
		size_t before = slots;
		typeof(pages) old = pages;
		slots = slots == 0 ? 1024 : 2 * slots;
		pages = calloc(slots, sizeof *pages);
		for (size_t i = 0; i < before; i++)
			if (old[i].page != 0) pages[slot(old[i].page)] = old[i];
		free(old);
	}
	size_t i = slot(page);
	if (pages[i].page == 0) {
		pages[i].page = page;
		pages[i].met = calloc(1, sizeof *pages[i].met);
		used++;
	}
	return pages[i].met;
}

void counts_launch(const struct code *k, long blocks, int threads, unsigned dynamic) {
	(void)dynamic;
	code = k;
	current = counts_of(k);
	current->launches++;
	current->blocks += (uint64_t)blocks;
	current->warps += (uint64_t)blocks * (uint64_t)((threads + 31) / 32);
}

void counts_end(void) {
	for (size_t i = 0; i < slots; i++) free(pages[i].met);
	free(pages);
	pages = NULL;
	slots = used = 0;
}

void counts_instruction(int at, uint32_t lanes) {
	uint64_t n = (uint64_t)__builtin_popcount(lanes);
	struct line *l = &current->lines[at];
	l->executed++;
	l->lanes += n;
	current->executed++;
	current->lanes += n;
	current->classes_executed[current->classes[at]]++;
}

// A request's sectors: which, and which bytes of each. A lane has at most 16 bytes, so there are at most two for each.
struct request {
	int count;
	uint64_t sectors[64];
	uint32_t bytes[64];
};

static void ask(struct request *r, uint64_t address, int bytes) {
	for (uint64_t end = address + (uint64_t)bytes; address < end;) {
		uint64_t sector = address / 32, next = (sector + 1) * 32 < end ? (sector + 1) * 32 : end;
		uint32_t mask = (uint32_t)(((1ull << (next - address)) - 1) << (address % 32));
		int i = r->count - 1; // lanes mostly go on from where the last one was
		while (i >= 0 && r->sectors[i] != sector) i--;
		if (i < 0) {
			i = r->count++;
			r->sectors[i] = sector;
			r->bytes[i] = 0;
		}
		r->bytes[i] |= mask;
		address = next;
	}
}

static void count_request(int at, const struct request *r, int writes) {
	uint64_t asked = 0;
	for (int i = 0; i < r->count; i++) {
		asked += (uint64_t)__builtin_popcount(r->bytes[i]);
		uint64_t address = r->sectors[i] * 32;
		uint32_t *have = &met_page(address)->bytes[writes][address % MET_PAGE / 32];
		current->met[writes] += *have == 0;
		current->bytes[writes] += (uint64_t)__builtin_popcount(r->bytes[i] & ~*have);
		*have |= r->bytes[i];
	}
	uint64_t least = (asked + 31) / 32;
	current->requests[writes]++;
	current->sectors[writes] += (uint64_t)r->count;
	current->least_sectors[writes] += least;
	current->asked[writes] += asked;
	current->lines[at].sectors += (uint64_t)r->count;
	current->lines[at].least_sectors += least;
}

// take counts the turns that some lanes need together: as many as the fullest bank has words. It adds how many words there are.
static int take(uint32_t lanes, const uint64_t *addresses, int bytes, int *words) {
	uint64_t in[32][64];
	int full[32] = {0}, most = 0;
	for (; lanes != 0; lanes &= lanes - 1) {
		uint64_t address = addresses[__builtin_ctz(lanes)];
		for (uint64_t word = address / 4; word <= (address + (uint64_t)bytes - 1) / 4; word++) {
			int bank = (int)(word % 32), i = 0;
			while (i < full[bank] && in[bank][i] != word) i++;
			if (i < full[bank]) continue;
			in[bank][full[bank]++] = word;
			if (full[bank] > most) most = full[bank];
			++*words;
		}
	}
	return most;
}

static void count_turns(int at, uint32_t lanes, const uint64_t *addresses, int bytes, int kind) {
	int together = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8, turns = 0, words = 0;
	for (int from = 0; from < 32; from += together) {
		uint32_t some = lanes & (uint32_t)(((1ull << together) - 1) << from);
		int distinct = 0;
		if (some != 0) turns += take(some, addresses, bytes, &distinct);
	}
	take(lanes, addresses, bytes, &words);
	uint64_t least = (uint64_t)((words + 31) / 32);
	current->turns[kind] += (uint64_t)turns;
	current->least_turns[kind] += least;
	current->lines[at].turns += (uint64_t)turns;
	current->lines[at].least_turns += least;
}

void counts_access(const struct access *a) {
	if (a->space == SHARED) {
		int kind = code->instructions[a->at].op == OP_LDMATRIX ? SHARED_TILES : a->what == READS ? SHARED_READS : SHARED_WRITES;
		count_turns(a->at, a->lanes, a->addresses, a->bytes, kind);
		return;
	}
	struct request r = {0};
	for (uint32_t left = a->lanes; left != 0; left &= left - 1) ask(&r, a->addresses[__builtin_ctz(left)], a->bytes);
	count_request(a->at, &r, a->what != READS);
}

void counts_copy(int at, uint32_t lanes, const uint64_t *to, const uint64_t *from, const int *bytes) {
	struct request r = {0};
	for (uint32_t left = lanes; left != 0; left &= left - 1) {
		int lane = __builtin_ctz(left);
		if (bytes[lane] > 0) ask(&r, from[lane], bytes[lane]);
	}
	if (r.count > 0) count_request(at, &r, 0);
	count_turns(at, lanes, to, 16, SHARED_COPIES);
}

// writing is text that may be longer than there is room for.
struct writing {
	char *to;
	size_t room, length;
};

__attribute__((format(printf, 2, 3))) static void put(struct writing *w, const char *format, ...) {
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(w->length < w->room ? w->to + w->length : NULL, w->length < w->room ? w->room - w->length : 0, format, arguments);
	va_end(arguments);
	w->length += (size_t)n;
}

static void put_numbers(struct writing *w, const char *name, const uint64_t *numbers, int count) {
	put(w, ",\"%s\":[", name);
	for (int i = 0; i < count; i++) put(w, "%s%llu", i > 0 ? "," : "", (unsigned long long)numbers[i]);
	put(w, "]");
}

static void put_lines(struct writing *w, const struct counts *c) {
	const char *between = "";
	put(w, ",\"lines\":[");
	for (int i = 0; i < c->count; i++) {
		const struct line *l = &c->lines[i];
		if (l->executed == 0) continue;
		put(w, "%s{\"line\":%d,\"executed\":%llu,\"lanes\":%llu", between, l->line, (unsigned long long)l->executed, (unsigned long long)l->lanes);
		between = ",";
		if (l->sectors > 0) put(w, ",\"sectors\":%llu,\"least_sectors\":%llu", (unsigned long long)l->sectors, (unsigned long long)l->least_sectors);
		if (l->turns > 0) put(w, ",\"turns\":%llu,\"least_turns\":%llu", (unsigned long long)l->turns, (unsigned long long)l->least_turns);
		put(w, "}");
	}
	put(w, "]");
}

// emulator_watched writes, in JSON, what was counted since watch_for, and a 0 behind it. It returns how many bytes there are
// before the 0, which may be more than there is room for.
EXPORT int64_t emulator_watched(char *json, int64_t room) {
	struct writing w = {json, (size_t)room, 0};
	put(&w, "[");
	for (int i = 0; i < known; i++) {
		const struct counts *c = &all[i];
		put(&w, "%s\n{\"kernel\":\"%s\",\"launches\":%llu,\"blocks\":%llu,\"warps\":%llu,\"executed\":%llu,\"lanes\":%llu,\"classes\":{", i > 0 ? "," : "", c->name,
			(unsigned long long)c->launches, (unsigned long long)c->blocks, (unsigned long long)c->warps, (unsigned long long)c->executed, (unsigned long long)c->lanes);
		for (int j = 0; j < CLASSES; j++) put(&w, "%s\"%s\":%llu", j > 0 ? "," : "", class_names[j], (unsigned long long)c->classes_executed[j]);
		put(&w, "}");
		put_numbers(&w, "requests", c->requests, 2);
		put_numbers(&w, "sectors", c->sectors, 2);
		put_numbers(&w, "least_sectors", c->least_sectors, 2);
		put_numbers(&w, "asked", c->asked, 2);
		put_numbers(&w, "bytes", c->bytes, 2);
		put_numbers(&w, "met", c->met, 2);
		put_numbers(&w, "turns", c->turns, 4);
		put_numbers(&w, "least_turns", c->least_turns, 4);
		put_lines(&w, c);
		put(&w, "}");
	}
	put(&w, "]\n");
	return (int64_t)w.length;
}
