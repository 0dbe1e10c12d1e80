// Where the ways of the lanes of a warp meet again that a branch has parted: the branch's immediate post-dominator, the
// first instruction that each way from it to the kernel's end passes. (K. D. Cooper, T. J. Harvey and K. Kennedy, "A simple,
// fast dominance algorithm", on the graph turned round.)
#include <stdlib.h>
#include "code_read.h"

// Blocks are runs of instructions that are entered at the first and left at the last. The kernel's end is one behind all.
struct paths {
	int blocks;
	int *first;    // of each block, and the count of instructions behind the last
	int *block;    // of each instruction
	int *next;     // two of each block, −1 for none
	int *order;    // of each block, when a walk from the end has left it; −1 for one from which there is no way to the end
	int *walked;   // blocks in that order
	int *meet;     // the immediate post-dominator of each; −1 while there is none
	int *entries, *entry; // the blocks before block b: entry[entries[b]] up to entries[b + 1]
	int *at;       // the stack of the walk: which entry of each block comes next
};

static void split(struct paths *p, const struct instruction *of, int count) {
	for (int i = 0; i <= count; i++) p->block[i] = i == 0;
	for (int i = 0; i < count; i++) {
		if (of[i].op == OP_BRA) p->block[of[i].operand[0].value] = 1;
		if (of[i].op == OP_BRA || of[i].op == OP_RET) p->block[i + 1] = 1;
	}
	p->blocks = 0;
	for (int i = 0; i < count; i++) {
		if (p->block[i]) p->first[p->blocks++] = i;
		p->block[i] = p->blocks - 1;
	}
	p->first[p->blocks] = count;
	p->block[count] = p->blocks; // the end
}

static void connect(struct paths *p, const struct instruction *of) {
	int end = p->blocks;
	for (int b = 0; b < end; b++) {
		const struct instruction *last = &of[p->first[b + 1] - 1];
		int *next = &p->next[2 * b];
		next[0] = b + 1, next[1] = -1; // the end, behind the last
		if (last->op == OP_BRA) {
			int to = p->block[last->operand[0].value];
			if (last->guard < 0) next[0] = to;
			else if (to != next[0]) next[1] = to;
		} else if (last->op == OP_RET) {
			next[0] = end; // with a guard too: where a way may end, no instruction behind is on all of them
		}
	}
	for (int b = 0; b <= end + 1; b++) p->entries[b] = 0;
	for (int i = 0; i < 2 * end; i++)
		if (p->next[i] >= 0) p->entries[p->next[i] + 1]++;
	for (int b = 0; b <= end; b++) p->entries[b + 1] += p->entries[b];
	for (int b = 0; b <= end; b++) p->at[b] = p->entries[b];
	for (int i = 0; i < 2 * end; i++)
		if (p->next[i] >= 0) p->entry[p->at[p->next[i]]++] = i / 2;
}

// walk goes from the end backwards and says in what order blocks are left.
static int walk(struct paths *p) {
	int *stack = p->meet, depth = 0, left = 0; // the stack's memory is free until then
	for (int b = 0; b <= p->blocks; b++) p->order[b] = -1, p->at[b] = p->entries[b];
	stack[depth++] = p->blocks;
	p->order[p->blocks] = -2;
	while (depth > 0) {
		int b = stack[depth - 1];
		if (p->at[b] == p->entries[b + 1]) {
			p->order[b] = left;
			p->walked[left++] = b;
			depth--;
			continue;
		}
		int e = p->entry[p->at[b]++];
		if (p->order[e] != -1) continue;
		p->order[e] = -2;
		stack[depth++] = e;
	}
	return left;
}

static int intersect(const struct paths *p, int a, int b) {
	while (a != b) {
		while (p->order[a] < p->order[b]) a = p->meet[a];
		while (p->order[b] < p->order[a]) b = p->meet[b];
	}
	return a;
}

static void dominate(struct paths *p) {
	int left = walk(p), end = p->blocks, changed;
	for (int b = 0; b <= end; b++) p->meet[b] = -1;
	p->meet[end] = end;
	do {
		changed = 0;
		for (int i = left - 2; i >= 0; i--) { // the end is the last
			int b = p->walked[i], meet = -1;
			for (int k = 0; k < 2; k++) {
				int to = p->next[2 * b + k];
				if (to < 0 || p->meet[to] < 0) continue;
				meet = meet < 0 ? to : intersect(p, meet, to);
			}
			changed |= p->meet[b] != meet;
			p->meet[b] = meet;
		}
	} while (changed);
}

void code_paths(struct reader *r, struct instruction *instructions, int count) {
	size_t n = (size_t)count + 2;
	int *memory = malloc(11 * n * sizeof *memory);
	if (memory == NULL) code_fail(r, r->line, "there is no memory for the ways through a kernel");
	struct paths p = {
		.first = memory, .block = memory + n, .order = memory + 2 * n, .walked = memory + 3 * n, .meet = memory + 4 * n,
		.entries = memory + 5 * n, .at = memory + 6 * n, .next = memory + 7 * n, .entry = memory + 9 * n,
	};
	split(&p, instructions, count);
	connect(&p, instructions);
	dominate(&p);
	for (int i = 0; i < count; i++) {
		int meet = p.meet[p.block[i]];
		instructions[i].convergence = -1;
		if (instructions[i].op == OP_BRA && instructions[i].guard >= 0)
			instructions[i].convergence = meet < 0 ? count : p.first[meet];
	}
	free(memory);
}
