// Modules that the emulated driver has loaded, and their kernels. While the setting ptx is on a module is read, and its kernels
// run as PTX; while it is off they are those of the sources, and the text is looked through for its entries alone.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "code_run.h"

// A module whose PTX has been read stays for the process: each device loads the same ones.
struct loaded {
	char *text;
	struct module *code; // NULL where the sources run
	struct loaded *next;
};
static struct loaded *read_ones;

static struct function *functions;

// all_run makes the kernels of a module ready.
static int all_run(const struct module *m, char *wrong, size_t wrong_bytes) {
	const struct code *k;
	for (int i = 0; (k = code_at(m, i)) != NULL; i++)
		if (program_of(k, wrong, wrong_bytes) == NULL) return 0;
	return 1;
}

struct loaded *module_load(const char *text, int as_code, char *wrong, size_t wrong_bytes) {
	for (struct loaded *l = read_ones; l != NULL && as_code; l = l->next)
		if (strcmp(l->text, text) == 0) return l;
	struct module *code = NULL;
	if (as_code && (code = code_read(text, wrong, wrong_bytes)) == NULL) return NULL;
	if (as_code && !all_run(code, wrong, wrong_bytes)) return NULL; // the kernels that were made ready stay
	struct loaded *l = malloc(sizeof *l);
	*l = (struct loaded){strdup(text), code, read_ones};
	if (as_code) read_ones = l;
	return l;
}

void module_unload(struct loaded *l) {
	if (l->code != NULL) return;
	free(l->text);
	free(l);
}

struct function *module_function(const struct loaded *l, const char *name) {
	char entry[256];
	snprintf(entry, sizeof entry, ".visible .entry %s(", name);
	if (strstr(l->text, entry) == NULL) return NULL;
	const struct kernel *k = emulator_kernel(name);
	const struct code *code = l->code != NULL ? code_find(l->code, name) : NULL;
	if (k == NULL && code == NULL) return NULL;
	if (k != NULL && code != NULL && k->size != (size_t)code->parameters) {
		fprintf(stderr, "emulated GPU: %s takes %d bytes in PTX, %zu in the sources\n", name, code->parameters, k->size);
		return NULL;
	}
	for (struct function *f = functions; f != NULL; f = f->next)
		if (f->code == code && strcmp(f->name, name) == 0) return f;
	struct function *f = calloc(1, sizeof *f);
	*f = (struct function){.name = strdup(name), .kernel = k, .code = code, .next = functions, .dynamic = DYNAMIC};
	f->size = code != NULL ? (size_t)code->parameters : k->size;
	f->threads = code != NULL ? code->threads : k->threads;
	f->fixed = code == NULL ? 0 : code->dynamic >= 0 ? code->dynamic : code->shared;
	functions = f;
	return f;
}

long functions_as_code;

const char *function_run(const struct function *f, const void *arguments, const unsigned grid[3], int threads, unsigned shared) {
	functions_as_code += f->code != NULL;
	return f->code != NULL ? code_run(f->code, arguments, grid, threads, shared) : emulator_run(f->kernel, arguments, grid, threads, shared);
}
