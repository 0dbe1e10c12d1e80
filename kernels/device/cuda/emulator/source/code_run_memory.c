// Loads, stores, compare-and-swap and copies of PTX. Every address is checked: for its alignment, and in global memory for lying
// in one allocation with all its bytes, in shared memory and among the parameters for lying in them.
#include <stdio.h>
#include <string.h>
#include "code_run.h"

static const char *space_name(const struct step *s) {
	return s->space == SHARED ? "shared memory" : s->space == PARAM ? "the parameters" : "global memory";
}

// refuse says what is wrong with a lane's address; it reports whether anything is.
static int refuse(struct warp *w, struct step *s, int lane, uint64_t at, uint64_t align, uint64_t bytes) {
	int global = s->space != SHARED && s->space != PARAM;
	struct extent e = {0, s->space == SHARED ? running.shared_bytes : (uint64_t)running.program->code->parameters};
	char who[64];
	snprintf(who, sizeof who, "lane %d of warp %d is at", lane, w->number);
	if (global && at >= s->known.from && at < s->known.to) e = s->known;
	else if (global && !emulator_extent(at, &e.from, &e.to)) {
		wrong_in(s, "%s %#llx of global memory, which has no allocation", who, (unsigned long long)at);
		return 1;
	}
	unsigned long long behind = at - e.from, before = e.from - at, all = e.to - e.from;
	const char *of = global ? "an allocation of " : "";
	if (at < e.from)
		wrong_in(s, "%s %llu bytes before %s%llu bytes of %s", who, before, of, all, space_name(s));
	else if (at > e.to || e.to - at < bytes)
		wrong_in(s, "%s byte %llu of %s%llu bytes of %s, with %llu bytes", who, behind, of, all, space_name(s), (unsigned long long)bytes);
	else if (at % align != 0)
		wrong_in(s, "%s byte %llu of %s%llu bytes of %s, no multiple of %llu", who, behind, of, all, space_name(s), (unsigned long long)align);
	else {
		if (global) s->known = e;
		return 0;
	}
	return 1;
}

// addresses finds where lanes go, and where the others would if they were the first of them. It reports whether all may go there.
static int addresses(struct warp *w, struct step *s, uint32_t lanes, u32 place, int wide, int64_t offset, uint64_t bytes, uint64_t at[LANES]) {
	if (wide) {
		const u64 *a = (const u64 *)(w->registers + place);
		EACH at[i] = a[i] + (uint64_t)offset;
	} else {
		const u32 *a = (const u32 *)(w->registers + place);
		EACH at[i] = (uint32_t)(a[i] + (uint32_t)offset);
	}
	if (lanes != ALL) {
		const uint64_t first = at[__builtin_ctz(lanes)];
		EACH at[i] = lanes >> i & 1 ? at[i] : first;
	}
	uint64_t least = at[0], most = at[0], bits = 0;
	EACH {
		least = at[i] < least ? at[i] : least;
		most = at[i] > most ? at[i] : most;
		bits |= at[i];
	}
	if (s->space == SHARED) s->known.to = running.shared_bytes;
	if ((bits & (bytes - 1)) == 0 && least >= s->known.from && most < s->known.to && s->known.to - most >= bytes) return 1;
	for (int i = 0; i < LANES; i++)
		if (lanes >> i & 1 && refuse(w, s, i, at[i], bytes, bytes)) return 0;
	return 1;
}

static char *memory_of(const struct step *s) {
	return s->space == SHARED ? (char *)running.shared : s->space == PARAM ? (char *)(uintptr_t)running.arguments : NULL;
}

static void look(struct warp *w, const struct step *s, uint32_t lanes, int what, const uint64_t *at, int bytes) {
	enum space space = s->space == SHARED ? SHARED : GLOBAL;
	if (s->space == PARAM) return;
	watch_access(&(struct access){.at = s->at, .what = what, .space = space, .warp = w->number, .lanes = lanes, .addresses = at, .bytes = bytes});
}

// stride is how far lanes are from each other where all are as far, −1 where not.
static int64_t stride(const uint64_t at[LANES]) {
	const uint64_t first = at[0], step = at[1] - at[0];
	int differ = 0;
	EACH differ |= at[i] != first + step * (uint64_t)i;
	return differ ? -1 : (int64_t)step;
}

// fill_words reads a number of each lane into words of a register, or aside.
static void fill_words(u32 *d, const struct step *s, const char *memory, const uint64_t at[LANES], int64_t apart) {
	const char *first = memory + at[0];
	if (s->bytes == 4 && apart == 4) {
		memcpy(d, first, 4 * LANES);
	} else if (s->bytes == 4 && apart == 0) {
		const uint32_t one = *(const u32 *)first;
		EACH d[i] = one;
	} else if (s->bytes == 4) {
		for (int i = 0; i < LANES; i++) d[i] = *(const u32 *)(memory + at[i]);
	} else if (s->bytes == 2 && apart == 2) {
		const u16 *from = (const u16 *)first;
		EACH d[i] = from[i];
	} else if (s->bytes == 2) {
		for (int i = 0; i < LANES; i++) d[i] = *(const u16 *)(memory + at[i]);
	} else {
		for (int i = 0; i < LANES; i++) d[i] = *(const unsigned char *)(memory + at[i]);
	}
	if (s->widens && s->bytes == 2) EACH d[i] = (uint32_t)(int16_t)d[i];
	if (s->widens && s->bytes == 1) EACH d[i] = (uint32_t)(int8_t)d[i];
}

static void fill_doubles(u64 *d, const struct step *s, const char *memory, const uint64_t at[LANES], int64_t apart) {
	if (s->bytes == 8 && apart == 8) {
		memcpy(d, memory + at[0], 8 * LANES);
		return;
	}
	for (int i = 0; i < LANES; i++) {
		const char *p = memory + at[i];
		switch (s->bytes) {
		case 8: d[i] = *(const u64 *)p; break;
		case 4: d[i] = s->widens ? (uint64_t)(int64_t) * (const s32 *)p : *(const u32 *)p; break;
		case 2: d[i] = s->widens ? (uint64_t)(int64_t)(int16_t) * (const u16 *)p : *(const u16 *)p; break;
		default: d[i] = s->widens ? (uint64_t)(int64_t) * (const signed char *)p : *(const unsigned char *)p;
		}
	}
}

// Whether the register of operand n is of 64 bits.
static int is_double(const struct step *s, int n) { return s->doubles >> n & 1; }

static void load(struct warp *w, struct step *s, uint32_t lanes) {
	_Alignas(64) uint64_t at[LANES];
	int bytes = s->bytes * s->vector;
	if (!addresses(w, s, lanes, s->a, s->wide, s->offset, (uint64_t)bytes, at)) return;
	if (watching) look(w, s, lanes, READS, at, bytes);
	const char *memory = memory_of(s);
	int64_t apart = stride(at);
	for (int e = 0; e < s->vector; e++, memory += s->bytes) {
		u32 place = s->more[e];
		void *to = lanes == ALL ? w->registers + place : aside;
		if (is_double(s, e)) {
			fill_doubles(to, s, memory, at, apart);
			if (lanes != ALL) keep_doubles(w, place, lanes);
		} else {
			fill_words(to, s, memory, at, apart);
			if (lanes != ALL) keep_words(w, place, lanes);
		}
	}
}

// put writes the number of a lane.
static inline void put(char *to, const struct step *s, const char *from) {
	switch (s->bytes) {
	case 8: *(u64 *)to = *(const u64 *)from; break;
	case 4: *(u32 *)to = *(const u32 *)from; break;
	case 2: *(u16 *)to = *(const u16 *)from; break;
	default: *to = *from;
	}
}

// Which lane's number stays where two write the same bytes is nobody's to know: it is the last of the order.
static void store(struct warp *w, struct step *s, uint32_t lanes) {
	_Alignas(64) uint64_t at[LANES];
	int bytes = s->bytes * s->vector;
	if (!addresses(w, s, lanes, s->a, s->wide, s->offset, (uint64_t)bytes, at)) return;
	if (watching) look(w, s, lanes, WRITES, at, bytes);
	char *memory = memory_of(s);
	int64_t apart = lanes == ALL ? stride(at) : -1;
	for (int e = 0; e < s->vector; e++, memory += s->bytes) {
		const char *from = w->registers + s->more[1 + e];
		int each = is_double(s, 1 + e) ? 8 : 4; // the low bytes come first
		if (apart == s->bytes && each == s->bytes) {
			memcpy(memory + at[0], from, (size_t)(LANES * each));
			continue;
		}
		for (int k = 0; k < LANES; k++) {
			int i = emulator_order == 1 ? LANES - 1 - k : k;
			if (lanes >> i & 1) put(memory + at[i], s, from + each * i);
		}
	}
}

static void swap(struct warp *w, struct step *s, uint32_t lanes) {
	_Alignas(64) uint64_t at[LANES];
	if (!addresses(w, s, lanes, s->a, s->wide, s->offset, 4, at)) return;
	if (watching) look(w, s, lanes, SWAPS, at, 4);
	u32 *d = (u32 *)(w->registers + s->d);
	const u32 *b = (const u32 *)(w->registers + s->b), *c = (const u32 *)(w->registers + s->c);
	for (int k = 0; k < LANES; k++) {
		int i = emulator_order == 1 ? LANES - 1 - k : k;
		if ((lanes >> i & 1) == 0) continue;
		u32 *p = (u32 *)at[i];
		uint32_t was = *p, expected = b[i], wanted = c[i];
		if (was == expected) *p = wanted;
		d[i] = was;
	}
}

// A copy is as late as it may be: until its thread waits for it, what it will fill is nobody's. A thread that asks for fewer
// bytes than 16 gets zeros behind them, and reads nothing where it asks for none.
static void copy(struct warp *w, struct step *s, uint32_t lanes) {
	_Alignas(64) uint64_t to[LANES], from[LANES];
	int bytes[LANES];
	struct step shared = *s;
	shared.space = SHARED;
	shared.known = (struct extent){0, running.shared_bytes};
	if (!addresses(w, &shared, lanes, s->a, s->wide, s->offset, 16, to)) return;
	const u32 *size = (const u32 *)(w->registers + s->c);
	for (int i = 0; i < LANES; i++) {
		bytes[i] = (int)size[i];
		from[i] = ((const u64 *)(w->registers + s->b))[i] + (uint64_t)s->offset_b;
		if ((lanes >> i & 1) == 0) continue;
		if (size[i] > 16) wrong_in(s, "lane %d of warp %d copies %u bytes of 16", i, w->number, size[i]);
		else if (size[i] > 0) refuse(w, s, i, from[i], 16, size[i]);
		if (w->copies[i] == MOST_COPIES) wrong_in(s, "lane %d of warp %d has more than %d copies under way, which the emulator keeps", i, w->number, MOST_COPIES);
		if (running.wrong != NULL) return;
	}
	if (watching) watch_copy(s->at, w->number, lanes, to, from, bytes);
	for (int i = 0; i < LANES; i++) {
		if ((lanes >> i & 1) == 0) continue;
		memset(running.shared + to[i], 0xff, 16);
		w->copy[i][w->copies[i]++] = (struct copy){to[i], from[i], bytes[i], w->groups[i]};
	}
}

static void commit(struct warp *w, struct step *s, uint32_t lanes) {
	(void)s;
	for (int i = 0; i < LANES; i++) w->groups[i] += lanes >> i & 1;
}

// wait finishes the copies of all groups but the newest ones. Those in no group yet are in none that is waited for.
static void wait(struct warp *w, struct step *s, uint32_t lanes) {
	int newest = (int)s->text->operand[0].value;
	for (int i = 0; i < LANES; i++) {
		int left = 0, done = w->groups[i] - newest;
		if ((lanes >> i & 1) == 0) continue;
		for (int n = 0; n < w->copies[i]; n++) {
			const struct copy c = w->copy[i][n];
			if (c.group >= done) {
				w->copy[i][left++] = c;
				continue;
			}
			char line[16] = {0};
			memcpy(line, (const char *)(uintptr_t)c.from, (size_t)c.bytes);
			memcpy(running.shared + c.to, line, sizeof line);
			if (watching) watch_copied(w->number, i, c.to);
		}
		w->copies[i] = left;
	}
}

doing *do_memory(const struct instruction *t) {
	switch (t->op) {
	case OP_LD: return load;
	case OP_ST: return t->space == PARAM ? NULL : store;
	case OP_ATOM_CAS: return t->type == T_B32 && t->space != SHARED ? swap : NULL;
	case OP_COPY: return copy;
	case OP_COPIES_COMMIT: return commit;
	case OP_COPIES_WAIT: return wait;
	}
	return NULL;
}
