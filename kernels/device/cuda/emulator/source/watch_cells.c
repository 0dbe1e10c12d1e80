// Words of global memory that a launch has met, by a table of their pages.
#include <stdlib.h>
#include <string.h>
#include "watch_cells.h"

struct entry {
	uint64_t page; // plus 1
	struct words *words;
};
static struct entry *table;
static size_t slots, used;

// slot is where a page is, or would be.
static struct entry *slot(struct entry *in, size_t count, uint64_t page) {
	size_t i = (size_t)(page * 0x9e3779b97f4a7c15u >> 20) & (count - 1);
	while (in[i].page != 0 && in[i].page != page) i = (i + 1) & (count - 1);
	return &in[i];
}

static void grow(void) {
	size_t count = slots == 0 ? 1024 : 2 * slots;
	struct entry *larger = calloc(count, sizeof *larger);
	for (size_t i = 0; i < slots; i++)
		if (table[i].page != 0) *slot(larger, count, table[i].page) = table[i];
	free(table);
	table = larger;
	slots = count;
}

struct words *cells_page(uint64_t address) {
	static struct entry last;
	uint64_t page = address / PAGE_BYTES + 1;
	if (used != 0 && last.page == page) return last.words;
	if (2 * used >= slots) grow();
	struct entry *e = slot(table, slots, page);
	if (e->page == 0) {
		*e = (struct entry){page, calloc(1, sizeof *e->words)};
		used++;
	}
	last = *e;
	return e->words;
}

void cells_forget(void) {
	for (size_t i = 0; i < slots; i++) {
		if (table[i].page == 0) continue;
		free(table[i].words->bytes);
		free(table[i].words);
	}
	free(table);
	table = NULL;
	slots = used = 0;
}
