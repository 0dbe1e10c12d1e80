// What the lanes of a warp do together: shuffles, rows of matrices from shared memory, and products of tiles. (PTX ISA 7.0,
// "shfl.sync", "ldmatrix", and "Matrix Fragments for mma.m16n8k16 with floating point type".)
#include <string.h>
#include "code_run.h"

// Lane l's segment and how far it reaches are in c: its end in bits 0 to 4, and which bits of a lane's number stay in 8 to
// 12. From a lane beyond the end nothing comes: a lane then has its own.
static void shuffle(struct warp *w, struct step *s, uint32_t lanes) {
	uint32_t from[LANES];
	u32 *d = (u32 *)(w->registers + s->d);
	const u32 *b = (const u32 *)(w->registers + s->b), *c = (const u32 *)(w->registers + s->c);
	memcpy(from, w->registers + s->a, sizeof from);
	(void)lanes;
	for (uint32_t l = 0; l < LANES; l++) {
		uint32_t end = c[l] & 31, stay = c[l] >> 8 & 31, of = b[l] & 31;
		uint32_t most = (l & stay) | (end & ~stay);
		uint32_t j = s->text->mode == SHUFFLE_XOR ? l ^ of : (l & stay) | (of & ~stay);
		if (j > most) j = l;
		d[l] = from[j];
	}
}

// Lane 8i + r says where row r of matrix i is, 8 elements of 16 bits. Lane 4r + t gets elements 2t and 2t + 1 of row r of
// each matrix, turned: element r of rows 2t and 2t + 1.
static void load_matrices(struct warp *w, struct step *s, uint32_t lanes) {
	uint16_t rows[LANES][8];
	uint64_t at[LANES];
	for (int l = 0; l < LANES; l++) {
		at[l] = s->offset;
		if (s->wide) at[l] += ((const u64 *)(w->registers + s->a))[l];
		else at[l] = (uint32_t)(at[l] + ((const u32 *)(w->registers + s->a))[l]);
		if (at[l] % 16 != 0) {
			wrong_in(s, "lane %d of warp %d has a row of a matrix at %#llx of shared memory, no multiple of 16", l, w->number, (unsigned long long)at[l]);
			return;
		}
		if (at[l] + 16 > running.shared_bytes || at[l] + 16 < at[l]) {
			wrong_in(s, "lane %d of warp %d reads 16 bytes at %#llx of shared memory, which has %llu", l, w->number, (unsigned long long)at[l],
				(unsigned long long)running.shared_bytes);
			return;
		}
	}
	if (watching) watch_access(&(struct access){.at = s->at, .what = READS, .space = SHARED, .warp = w->number, .lanes = lanes, .addresses = at, .bytes = 16});
	for (int l = 0; l < LANES; l++) memcpy(rows[l], running.shared + at[l], 16);
	for (int i = 0; i < 4; i++) {
		u32 *d = (u32 *)(w->registers + s->more[i]);
		for (int l = 0; l < LANES; l++) {
			int r = l / 4, t = l % 4;
			uint32_t low = s->text->turned ? rows[8 * i + 2 * t][r] : rows[8 * i + r][2 * t];
			uint32_t high = s->text->turned ? rows[8 * i + 2 * t + 1][r] : rows[8 * i + r][2 * t + 1];
			d[l] = low | high << 16;
		}
	}
}

static inline double low_of(uint32_t pair) {
	uint32_t bits = pair << 16;
	float f;
	memcpy(&f, &bits, sizeof f);
	return (double)f;
}
static inline double high_of(uint32_t pair) { return low_of(pair >> 16); }

// Of the group g = l / 4 and with t = l mod 4, lane l has
//
//	of A, 16 × 16: rows g, g + 8, g, g + 8, at columns 2t and 2t + 1 in the first two registers, 8 further in the others
//	of B, 16 × 8:  column g, at rows 2t and 2t + 1 in the first register, 8 further in the second
//	of C and D, 16 × 8: row g, columns 2t and 2t + 1, and row g + 8, the same
//
// Tensor cores round sums in their own way. Here they are of double precision, rounded at the end.
static void multiply(struct warp *w, struct step *s, uint32_t lanes) {
	_Alignas(64) double a[16][16], b[16][8], sum[16][8];
	(void)lanes;
	for (int r = 0; r < 4; r++) {
		const u32 *pairs = (const u32 *)(w->registers + s->more[4 + r]);
		for (int l = 0; l < LANES; l++) {
			int row = l / 4 + (r % 2 == 0 ? 0 : 8), column = l % 4 * 2 + (r < 2 ? 0 : 8);
			a[row][column] = low_of(pairs[l]);
			a[row][column + 1] = high_of(pairs[l]);
		}
	}
	for (int r = 0; r < 2; r++) {
		const u32 *pairs = (const u32 *)(w->registers + s->more[8 + r]);
		for (int l = 0; l < LANES; l++) {
			int row = l % 4 * 2 + 8 * r, column = l / 4;
			b[row][column] = low_of(pairs[l]);
			b[row + 1][column] = high_of(pairs[l]);
		}
	}
	for (int r = 0; r < 4; r++) {
		const f32 *c = (const f32 *)(w->registers + s->more[10 + r]);
		for (int l = 0; l < LANES; l++) sum[l / 4 + (r < 2 ? 0 : 8)][l % 4 * 2 + r % 2] = (double)c[l];
	}
	for (int row = 0; row < 16; row++)
		for (int k = 0; k < 16; k++)
			for (int column = 0; column < 8; column++) sum[row][column] += a[row][k] * b[k][column];
	for (int r = 0; r < 4; r++) {
		f32 *d = (f32 *)(w->registers + s->more[r]);
		for (int l = 0; l < LANES; l++) d[l] = (float)sum[l / 4 + (r < 2 ? 0 : 8)][l % 4 * 2 + r % 2];
	}
}

static void meet(struct warp *w, struct step *s, uint32_t lanes) {
	(void)s, (void)lanes;
	if (watching) watch_warp(w->number);
}

doing *do_together(const struct instruction *t) {
	switch (t->op) {
	case OP_SHFL: return shuffle;
	case OP_LDMATRIX: return load_matrices;
	case OP_MMA: return multiply;
	case OP_BAR_WARP_SYNC: return meet;
	}
	return NULL;
}
