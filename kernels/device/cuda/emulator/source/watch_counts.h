// What watch.c has counted of the instructions of a launch: see watch_counts.c.
#ifndef WATCH_COUNTS_H
#define WATCH_COUNTS_H

#include "watch.h"

void counts_launch(const struct code *k, long blocks, int threads, unsigned dynamic);
void counts_instruction(int at, uint32_t lanes);
void counts_access(const struct access *a);
void counts_copy(int at, uint32_t lanes, const uint64_t *to, const uint64_t *from, const int *bytes);
void counts_end(void);
void counts_forget(void);

#endif
