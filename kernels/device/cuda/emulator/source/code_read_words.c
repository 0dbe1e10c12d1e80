// The words of PTX: names, numbers, and single characters between them.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "code_read.h"

void code_fail(struct reader *r, int line, const char *format, ...) {
	if (r->wrong_bytes > 0) {
		char what[400];
		va_list arguments;
		va_start(arguments, format);
		vsnprintf(what, sizeof what, format, arguments);
		va_end(arguments);
		snprintf(r->wrong, r->wrong_bytes, "line %d: %s", line, what);
		for (char *c = r->wrong; *c != 0; c++)
			if (*c < 32 || *c > 126) *c = '?'; // whatever is no PTX
	}
	longjmp(r->out, 1);
}

int code_shown(struct word w) { return w.length < 80 ? w.length : 80; }

void *code_grow(struct reader *r, void *of, int *count, int *space, size_t size) {
	if (*count == *space) {
		int more = *space == 0 ? 16 : 2 * *space;
		of = more > 1 << 24 ? NULL : realloc(of, (size_t)more * size);
		if (of == NULL) code_fail(r, r->line, "there is no memory for more of this");
		*space = more;
	}
	memset((char *)of + (size_t)*count * size, 0, size);
	++*count;
	return of;
}

static int in_word(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' || c == '%' || c == '.';
}

// skip goes over spaces and comments.
static void skip(struct reader *r) {
	const char *c = r->at;
	for (;;) {
		if (*c == '\n') r->line++, c++;
		else if (*c == ' ' || *c == '\t' || *c == '\r') c++;
		else if (c[0] == '/' && c[1] == '/') {
			while (*c != 0 && *c != '\n') c++;
		} else if (c[0] == '/' && c[1] == '*') {
			int line = r->line;
			for (c += 2; *c != 0 && !(c[0] == '*' && c[1] == '/'); c++) r->line += *c == '\n';
			if (*c == 0) code_fail(r, line, "a comment does not end");
			c += 2;
		} else break;
	}
	r->at = c;
}

void code_next(struct reader *r) {
	skip(r);
	const char *from = r->at, *c = from;
	if (*c == '"') {
		do c++;
		while (*c != 0 && *c != '"' && *c != '\n');
		if (*c != '"') code_fail(r, r->line, "a string does not end");
		c++;
	} else if (in_word(*c)) {
		while (in_word(*c)) c++;
	} else if (*c != 0) {
		c++;
	}
	if (c - from > 1 << 20) code_fail(r, r->line, "a word is too long");
	r->word = (struct word){from, (int)(c - from), r->line};
	r->at = c;
}

int code_is(struct word w, const char *text) { return strncmp(w.text, text, (size_t)w.length) == 0 && text[w.length] == 0; }

int code_take(struct reader *r, const char *text) {
	if (!code_is(r->word, text)) return 0;
	code_next(r);
	return 1;
}

// unexpected fails for want of something.
static _Noreturn void unexpected(struct reader *r, const char *want) {
	if (r->word.length == 0) code_fail(r, r->word.line, "want %s, got the end of the text", want);
	code_fail(r, r->word.line, "want %s, got '%.*s'", want, code_shown(r->word), r->word.text);
}

void code_expect(struct reader *r, const char *text) {
	char want[64];
	snprintf(want, sizeof want, "'%s'", text);
	if (!code_take(r, text)) unexpected(r, want);
}

struct word code_name(struct reader *r) {
	struct word w = r->word;
	if (w.length == 0 || !in_word(w.text[0]) || w.text[0] == '.' || (w.text[0] >= '0' && w.text[0] <= '9')) unexpected(r, "a name");
	code_next(r);
	return w;
}

// digits reads a word of digits to a base, all of it, that is at most the bits of the type.
static int digits(const char *c, int length, int base, uint64_t *value) {
	*value = 0;
	for (int i = 0; i < length; i++) {
		int d = c[i] >= '0' && c[i] <= '9' ? c[i] - '0' : c[i] >= 'a' && c[i] <= 'f' ? c[i] - 'a' + 10 : c[i] >= 'A' && c[i] <= 'F' ? c[i] - 'A' + 10 : 99;
		if (d >= base || *value > (UINT64_MAX - (unsigned)d) / (unsigned)base) return 0;
		*value = *value * (unsigned)base + (unsigned)d;
	}
	return length > 0;
}

// whole reads a number without a sign: decimal, or hexadecimal behind 0x. Octal ones are not known: no compiler writes them.
static int whole(struct word w, uint64_t *value) {
	if (w.length > 2 && w.text[0] == '0' && (w.text[1] == 'x' || w.text[1] == 'X')) return digits(w.text + 2, w.length - 2, 16, value);
	return !(w.length > 1 && w.text[0] == '0') && digits(w.text, w.length, 10, value);
}

long code_count(struct reader *r, long most) {
	uint64_t value;
	if (!whole(r->word, &value)) unexpected(r, "a number");
	if (value > (uint64_t)most) code_fail(r, r->word.line, "%.*s is more than %ld", code_shown(r->word), r->word.text, most);
	code_next(r);
	return (long)value;
}

uint64_t code_number(struct reader *r, enum type t) {
	uint64_t value;
	struct word w = r->word;
	if (code_is_float(t)) {
		int n = 2 * code_bytes(t);
		char kind = t == T_F64 ? 'd' : 'f';
		if (w.length != n + 2 || w.text[0] != '0' || (w.text[1] | 32) != kind || !digits(w.text + 2, n, 16, &value))
			unexpected(r, t == T_F64 ? "a register or the bits of a number, 0d and 16 digits" : "a register or the bits of a number, 0f and 8 digits");
		code_next(r);
		return value;
	}
	int negative = code_take(r, "-");
	w = r->word;
	if (!whole(w, &value)) unexpected(r, negative ? "a number" : "a register or a number");
	int bits = t == T_PRED ? 1 : 8 * code_bytes(t);
	uint64_t most = negative ? 1ull << (bits - 1) : ~0ull >> (64 - bits);
	if (value > most) code_fail(r, w.line, "%s%.*s does not fit %d bits", negative ? "-" : "", code_shown(w), w.text, bits);
	code_next(r);
	if (negative) value = -value;
	if (t == T_PRED) return value != 0 ? ~0ull : 0; // a bit, its sign extended
	return (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits));
}
