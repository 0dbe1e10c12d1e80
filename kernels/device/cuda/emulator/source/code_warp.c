// A warp goes through a kernel. Its lanes go together as long as no branch parts them, and again from where the branch's
// ways meet. In between each part is a fragment of its own: which goes first, and for how long, is nobody's to know, so it
// depends on the order that is asked for.
#include <stdio.h>
#include <string.h>
#include "code_run.h"

_Alignas(64) char aside[LANES * 8];

void begin_warp(struct warp *w) {
	w->ended = 0;
	w->state = RUNNING;
	w->fragments = 1;
	w->fragment[0] = (struct fragment){0, -1, w->lanes, 0};
	for (int i = 0; i < MOST_NODES; i++) w->node[i].used = 0;
	for (int i = 0; i < LANES; i++) w->copies[i] = w->groups[i] = 0;
}

// add_fragment adds one, which is the next to go on.
static void add_fragment(struct warp *w, int at, int node, uint32_t lanes) { w->fragment[w->fragments++] = (struct fragment){at, node, lanes, 0}; }

// complete has the lanes of a node go on together when all that are still to come have come.
static void complete(struct warp *w, int node) {
	while (node >= 0) {
		struct node *n = &w->node[node];
		if (n->arrived != n->expected) return;
		n->used = 0;
		if (n->expected != 0) {
			add_fragment(w, n->at, n->parent, n->expected);
			return;
		}
		node = n->parent; // all have ended; perhaps the others wait for them there
	}
}

static void arrive(struct warp *w, int node, uint32_t lanes) {
	w->node[node].arrived |= lanes;
	complete(w, node);
}

// end has lanes end that have left their fragment.
static void end(struct warp *w, int node, uint32_t lanes) {
	w->ended |= lanes;
	for (int n = node; n >= 0; n = w->node[n].parent) w->node[n].expected &= ~lanes;
	complete(w, node);
	if (w->ended == w->lanes) w->state = ENDED;
}

// part has the lanes of the last fragment go two ways.
static void part(struct warp *w, const struct step *s, uint32_t taken) {
	struct fragment f = w->fragment[--w->fragments];
	int node = f.node;
	if (s->convergence < running.program->code->count && (node < 0 || w->node[node].at != s->convergence)) {
		for (node = 0; node < MOST_NODES && w->node[node].used; node++) continue;
		if (node == MOST_NODES) {
			wrong_in(s, "warp %d parts its lanes at more branches than the emulator keeps", w->number);
			return;
		}
		w->node[node] = (struct node){s->convergence, f.node, f.lanes, 0, 1};
	}
	struct { int at; uint32_t lanes; } ways[2] = {{s->target, taken}, {s->at + 1, f.lanes & ~taken}};
	int last = emulator_order == 0 ? 1 : emulator_order == 1 ? 0 : (int)(code_random() & 1);
	for (int i = 0; i < 2; i++) {
		int way = i == 0 ? !last : last;
		if (node >= 0 && ways[way].at == w->node[node].at) arrive(w, node, ways[way].lanes);
		else add_fragment(w, ways[way].at, node, ways[way].lanes);
	}
}

// gathered tells whether all lanes of a warp wait at one instruction.
static int gathered(struct warp *w, const struct step *s) {
	uint32_t there = 0;
	for (int i = 0; i < w->fragments; i++)
		if (w->fragment[i].waits && w->fragment[i].at == s->at) there |= w->fragment[i].lanes;
	return there == w->lanes;
}

// pass has all of them go on.
static void pass(struct warp *w) {
	for (int i = 0; i < w->fragments; i++) {
		w->fragment[i].at++;
		w->fragment[i].waits = 0;
	}
}

void pass_barrier(struct warp *w) {
	pass(w);
	w->state = RUNNING;
}

// come has the last fragment come to an instruction of all lanes.
static void come(struct warp *w, struct step *s) {
	struct fragment *f = &w->fragment[w->fragments - 1];
	if (w->ended != 0) {
		wrong_in(s, "lanes %#x of warp %d come to what all lanes do together, and lanes %#x have ended", f->lanes, w->number, w->ended);
		return;
	}
	f->waits = 1;
	if (!gathered(w, s)) return;
	if (s->kind == BARRIER) {
		w->state = AT_BARRIER;
		return;
	}
	if (w->lanes != ALL) {
		wrong_in(s, "warp %d has lanes %#x only, and all do this together", w->number, w->lanes);
		return;
	}
	s->run(w, s, ALL);
	pass(w);
}

// choose makes a fragment the last that can go on. It reports whether there is any.
static int choose(struct warp *w) {
	int last = w->fragments - 1, n = last;
	if (emulator_order > 1 && last > 0) n = (int)(code_random() % (uint64_t)w->fragments);
	for (int tries = 0; tries <= last && w->fragment[n].waits; tries++) n = n == 0 ? last : n - 1;
	if (last < 0 || w->fragment[n].waits) return 0;
	struct fragment f = w->fragment[n];
	w->fragment[n] = w->fragment[last];
	w->fragment[last] = f;
	return 1;
}

// stuck says why none can: some wait at one instruction, and the others elsewhere, or where the ways of a branch meet.
static void stuck(struct warp *w) {
	const struct step *s = &running.program->steps[w->fragment[0].at], *other = NULL;
	uint32_t here = 0, there = 0;
	for (int i = 0; i < w->fragments; i++) {
		const struct fragment *f = &w->fragment[i];
		if (f->at == s->at) here |= f->lanes;
		else there |= f->lanes, other = &running.program->steps[f->at];
	}
	for (int i = 0; i < MOST_NODES && other == NULL; i++)
		if (w->node[i].used && w->node[i].arrived != 0) there = w->node[i].arrived, other = &running.program->steps[w->node[i].at];
	wrong_in(s, "lanes %#x of warp %d wait for the others, and lanes %#x do so at line %d", here, w->number, there, other == NULL ? 0 : other->text->line);
}

// guarded is those lanes for which a guard holds.
static inline uint32_t guarded(const struct warp *w, const struct step *s, uint32_t lanes) {
	if (!s->guarded) return lanes;
	const uint32_t p = *(const u32 *)(w->registers + s->guard);
	return lanes & (s->negated ? ~p : p);
}

// go has the last fragment of a warp go on for so many steps, or until it cannot. It returns how many are left.
static long go(struct warp *w, long left) {
	struct fragment *f = &w->fragment[w->fragments - 1];
	struct step *const steps = running.program->steps;
	const int node = f->node, meet = node >= 0 ? w->node[node].at : -1;
	const uint32_t lanes = f->lanes;
	uint32_t on;
	int at = f->at;
	while (at != meet) {
		struct step *s = &steps[at];
		if (left-- <= 0) {
			f->at = at;
			return 0;
		}
		if (watching) watch_instruction(at, w->number, lanes);
		switch (s->kind) {
		case PLAIN:
			s->run(w, s, lanes);
			at++;
			continue;
		case FALLIBLE:
			s->run(w, s, lanes);
			at++;
			if (running.wrong != NULL) return 0;
			continue;
		case JUMP:
			on = guarded(w, s, lanes);
			if (on == lanes) {
				at = s->target;
				continue;
			}
			if (on == 0) {
				at++;
				continue;
			}
			f->at = at;
			part(w, s, on);
			return left;
		case END:
			on = guarded(w, s, lanes);
			if (on == 0) {
				at++;
				continue;
			}
			f->at = at + 1;
			f->lanes &= ~on;
			if (f->lanes == 0) w->fragments--;
			end(w, node, on);
			return left;
		default: // TOGETHER, BARRIER
			f->at = at;
			if (s->kind == TOGETHER && lanes == ALL) {
				s->run(w, s, ALL);
				at++;
				if (running.wrong != NULL) return 0;
				continue;
			}
			come(w, s);
			return left;
		}
	}
	w->fragments--;
	arrive(w, node, lanes);
	return left;
}

void run_warp(struct warp *w, long steps) {
	while (steps > 0 && w->state == RUNNING && running.wrong == NULL) {
		if (!choose(w)) {
			stuck(w);
			return;
		}
		steps = go(w, steps);
	}
	if (steps <= 0 && w->fragments > 1) { // another one is to go on the next time
		struct fragment last = w->fragment[w->fragments - 1];
		memmove(&w->fragment[1], &w->fragment[0], sizeof last * (size_t)(w->fragments - 1));
		w->fragment[0] = last;
	}
}
