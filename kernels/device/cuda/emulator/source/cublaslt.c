// An emulated libcublasLt.so: the functions that package cublaslt calls, on host memory, with the validation
// and the status codes of the real library. Where the real one is lenient this one refuses, so that a test
// notices what a GPU would only sometimes punish: no current context, an algorithm for other operands, an
// address less aligned than the heuristic was told.
//
// Its sums are deliberately not the ascending chain of fused multiply-adds of our own kernels: eight partial
// sums of separately rounded products, and from 512 products on two halves that meet in the workspace. So
// tests can tell a fast product from an exact one. A caller that allows sums in place
// (CUBLASLT_REDUCTION_SCHEME_INPLACE) gets other bits from call to call, as from the real one.
//
// Work is queued on the emulated driver where that is loaded, and done at once where it is not.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

#ifndef EMULATOR_CUBLASLT_MAJOR
#define EMULATOR_CUBLASLT_MAJOR 12
#endif

// cublasStatus_t
enum { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, EXECUTION_FAILED = 13, INTERNAL_ERROR = 14, NOT_SUPPORTED = 15 };
// cudaDataType_t, cublasComputeType_t, cublasLtReductionScheme_t
enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68, COMPUTE_32F_PEDANTIC = 69, INPLACE = 1, COMPUTE_TYPE = 2 };

typedef void (*enqueue_function)(void *stream, void (*run)(void *), void *argument, size_t size);
typedef int (*context_function)(void **context);

struct handle { uint32_t kind; enqueue_function enqueue; context_function context; };
struct operation { uint32_t kind; int compute, scale; int32_t transpose[2]; };
struct layout { uint32_t kind; int type; uint64_t rows, columns; int64_t stride; };
struct preference { uint32_t kind; uint64_t workspace; uint32_t reduction, alignment[4]; };
enum { HANDLE = 0x68616e64, OPERATION, LAYOUT, PREFERENCE, ALGORITHM };

struct algorithm { uint64_t kind, problem, alignment, workspace, reduction, unused[3]; };
struct heuristic_result { struct algorithm algorithm; size_t workspace; int state; float waves; int reserved[4]; };
_Static_assert(sizeof(struct algorithm) == 64, "cublasLtMatmulAlgo_t has 64 bytes");
_Static_assert(sizeof(struct heuristic_result) == 96, "cublasLtMatmulHeuristicResult_t has 96 bytes");

// ---- faults ----

static struct { char call[64]; int status; } fault;
static int least_alignment;
static long live, calls;

// emulator_cublaslt_fail_call makes every call of a function return a status; 0 ends it.
EXPORT void emulator_cublaslt_fail_call(const char *call, int status) {
	snprintf(fault.call, sizeof fault.call, "%s", call);
	fault.status = status;
}

// emulator_cublaslt_fail makes every product return a status; 0 ends it.
EXPORT void emulator_cublaslt_fail(int status) { emulator_cublaslt_fail_call("cublasLtMatmul", status); }

// emulator_cublaslt_least_alignment leaves no algorithm for operands that are less aligned; 0 ends it.
EXPORT void emulator_cublaslt_least_alignment(int bytes) { least_alignment = bytes; }

// emulator_cublaslt_live is the number of handles and descriptors that have not been destroyed.
EXPORT long emulator_cublaslt_live(void) { return live; }

// emulator_cublaslt_calls is the number of times that the heuristic was asked.
EXPORT long emulator_cublaslt_calls(void) { return calls; }

// EMULATOR_CUBLASLT_FAIL=13 or EMULATOR_CUBLASLT_FAIL=cublasLtCreate=1, EMULATOR_CUBLASLT_LEAST_ALIGNMENT=16.
__attribute__((constructor)) static void read_environment(void) {
	const char *fail = getenv("EMULATOR_CUBLASLT_FAIL"), *least = getenv("EMULATOR_CUBLASLT_LEAST_ALIGNMENT");
	if (least) least_alignment = atoi(least);
	if (!fail) return;
	const char *equals = strchr(fail, '=');
	char call[64] = "cublasLtMatmul";
	if (equals) snprintf(call, sizeof call, "%.*s", (int)(equals - fail), fail);
	emulator_cublaslt_fail_call(call, atoi(equals ? equals + 1 : fail));
}

#define FAULT() do { if (fault.status && !strcmp(fault.call, __func__)) return fault.status; } while (0)

// ---- the library ----

EXPORT int cublasLtGetProperty(int property, int *value) {
	static const int version[3] = {EMULATOR_CUBLASLT_MAJOR, 8, 4};
	FAULT();
	if (property < 0 || property > 2 || !value) return INVALID_VALUE;
	*value = version[property];
	return SUCCESS;
}

EXPORT size_t cublasLtGetVersion(void) { return EMULATOR_CUBLASLT_MAJOR * 10000 + 804; }

EXPORT const char *cublasLtGetStatusName(int status) {
	switch (status) {
	case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
	case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
	case ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
	case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
	case EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
	case INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
	case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
	default: return "unrecognized error code";
	}
}

EXPORT const char *cublasLtGetStatusString(int status) { return cublasLtGetStatusName(status); }

// loaded are the names of the libraries of this process.
struct loaded { char names[256][512]; int count; };

static int add_name(struct dl_phdr_info *info, size_t size, void *into) {
	struct loaded *l = into;
	(void)size;
	if (info->dlpi_name && info->dlpi_name[0] && l->count < 256)
		snprintf(l->names[l->count++], sizeof l->names[0], "%s", info->dlpi_name);
	return 0;
}

// find_driver finds the queue of the emulated driver wherever it has been loaded from; the newest counts.
static void find_driver(struct handle *h) {
	struct loaded *l = calloc(1, sizeof *l);
	if (!l) return;
	dl_iterate_phdr(add_name, l);
	for (int i = 0; i < l->count; i++) {
		void *library = dlopen(l->names[i], RTLD_LAZY | RTLD_NOLOAD);
		if (!library) continue;
		void *enqueue = dlsym(library, "emulator_enqueue");
		if (enqueue) {
			h->enqueue = (enqueue_function)enqueue;
			h->context = (context_function)dlsym(library, "cuCtxGetCurrent");
		}
		dlclose(library);
	}
	free(l);
}

// standing is whether the calling thread can reach a device that still computes.
static int standing(const struct handle *h) {
	void *context = NULL;
	if (!h->context) return SUCCESS;
	if (h->context(&context)) return EXECUTION_FAILED;
	return context ? SUCCESS : NOT_INITIALIZED;
}

static void *make(size_t size, uint32_t kind) {
	uint32_t *made = calloc(1, size);
	if (made) {
		*made = kind;
		live++;
	}
	return made;
}

static int is(const void *object, uint32_t kind) { return object && *(const uint32_t *)object == kind; }

static int unmake(void *object, uint32_t kind) {
	if (!is(object, kind)) return INVALID_VALUE;
	*(uint32_t *)object = 0;
	live--;
	free(object);
	return SUCCESS;
}

EXPORT int cublasLtCreate(struct handle **made) {
	FAULT();
	if (!made) return INVALID_VALUE;
	struct handle *h = make(sizeof *h, HANDLE);
	if (!h) return ALLOC_FAILED;
	find_driver(h);
	int status = standing(h);
	if (status) {
		unmake(h, HANDLE);
		return status;
	}
	*made = h;
	return SUCCESS;
}

EXPORT int cublasLtDestroy(struct handle *h) {
	FAULT();
	return unmake(h, HANDLE) == SUCCESS ? SUCCESS : NOT_INITIALIZED;
}

EXPORT int cublasLtMatmulDescCreate(struct operation **made, int compute, int scale) {
	FAULT();
	if (!made) return INVALID_VALUE;
	struct operation *o = make(sizeof *o, OPERATION);
	if (!o) return ALLOC_FAILED;
	o->compute = compute;
	o->scale = scale;
	*made = o;
	return SUCCESS;
}

EXPORT int cublasLtMatmulDescDestroy(struct operation *o) { return unmake(o, OPERATION); }

EXPORT int cublasLtMatmulDescSetAttribute(struct operation *o, int attribute, const void *value, size_t size) {
	FAULT();
	if (!is(o, OPERATION) || !value || (attribute != 3 && attribute != 4) || size != sizeof(int32_t)) return INVALID_VALUE;
	int32_t transpose;
	memcpy(&transpose, value, size);
	if (transpose != 0 && transpose != 1) return NOT_SUPPORTED;
	o->transpose[attribute - 3] = transpose;
	return SUCCESS;
}

EXPORT int cublasLtMatrixLayoutCreate(struct layout **made, int type, uint64_t rows, uint64_t columns, int64_t stride) {
	FAULT();
	if (!made) return INVALID_VALUE;
	struct layout *l = make(sizeof *l, LAYOUT);
	if (!l) return ALLOC_FAILED;
	l->type = type;
	l->rows = rows;
	l->columns = columns;
	l->stride = stride;
	*made = l;
	return SUCCESS;
}

EXPORT int cublasLtMatrixLayoutDestroy(struct layout *l) { return unmake(l, LAYOUT); }

EXPORT int cublasLtMatrixLayoutSetAttribute(struct layout *l, int attribute, const void *value, size_t size) {
	if (!is(l, LAYOUT) || !value || attribute != 1 || size != sizeof(int32_t)) return INVALID_VALUE;
	int32_t order;
	memcpy(&order, value, size);
	return order == 0 ? SUCCESS : NOT_SUPPORTED; // columns first
}

EXPORT int cublasLtMatmulPreferenceCreate(struct preference **made) {
	FAULT();
	if (!made) return INVALID_VALUE;
	struct preference *p = make(sizeof *p, PREFERENCE);
	if (!p) return ALLOC_FAILED;
	p->reduction = 7;
	for (int i = 0; i < 4; i++) p->alignment[i] = 256;
	*made = p;
	return SUCCESS;
}

EXPORT int cublasLtMatmulPreferenceDestroy(struct preference *p) { return unmake(p, PREFERENCE); }

EXPORT int cublasLtMatmulPreferenceSetAttribute(struct preference *p, int attribute, const void *value, size_t size) {
	FAULT();
	if (!is(p, PREFERENCE) || !value) return INVALID_VALUE;
	uint32_t *narrow = attribute == 3 ? &p->reduction : attribute >= 5 && attribute <= 8 ? &p->alignment[attribute - 5] : NULL;
	if (attribute == 1 && size == sizeof p->workspace) memcpy(&p->workspace, value, size);
	else if (narrow && size == sizeof *narrow) memcpy(narrow, value, size);
	else return INVALID_VALUE;
	return SUCCESS;
}

// ---- products ----

static size_t width_of(int type) { return type == R_32F ? 4 : 2; }

// problem checks that operands fit together and gives the sizes of D (m × n) and of the sums (k).
static int problem(const struct operation *o, const struct layout *a, const struct layout *b, const struct layout *c, const struct layout *d, uint64_t size[3]) {
	const struct layout *all[4] = {a, b, c, d};
	if (!is(o, OPERATION)) return INVALID_VALUE;
	for (int i = 0; i < 4; i++) {
		if (!is(all[i], LAYOUT) || !all[i]->rows || !all[i]->columns) return INVALID_VALUE;
		if (all[i]->stride < 0 || (uint64_t)all[i]->stride < all[i]->rows) return INVALID_VALUE;
		if (all[i]->rows > INT32_MAX || all[i]->columns > INT32_MAX) return NOT_SUPPORTED;
	}
	uint64_t k = o->transpose[0] ? a->rows : a->columns;
	size[0] = o->transpose[0] ? a->columns : a->rows;
	size[1] = o->transpose[1] ? b->rows : b->columns;
	size[2] = k;
	if ((o->transpose[1] ? b->columns : b->rows) != k || d->rows != size[0] || d->columns != size[1]) return INVALID_VALUE;
	if (c->rows != d->rows || c->columns != d->columns || c->type != d->type) return INVALID_VALUE;
	if ((o->compute != COMPUTE_32F && o->compute != COMPUTE_32F_PEDANTIC) || o->scale != R_32F || a->type != b->type) return NOT_SUPPORTED;
	if (a->type == R_32F) return d->type == R_32F ? SUCCESS : NOT_SUPPORTED;
	return a->type == R_16BF && (d->type == R_16BF || d->type == R_32F) ? SUCCESS : NOT_SUPPORTED;
}

// fingerprint tells the operands that an algorithm was chosen for from others.
static uint64_t fingerprint(const struct operation *o, const struct layout *a, const struct layout *b, const struct layout *c, const struct layout *d) {
	const struct layout *all[4] = {a, b, c, d};
	uint64_t h = 14695981039346656037u ^ (uint64_t)(o->compute * 4 + o->transpose[0] * 2 + o->transpose[1]);
	for (int i = 0; i < 4; i++) {
		uint64_t parts[4] = {(uint64_t)all[i]->type, all[i]->rows, all[i]->columns, (uint64_t)all[i]->stride};
		for (int j = 0; j < 4; j++) h = (h ^ parts[j]) * 1099511628211u;
	}
	return h;
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(struct handle *h, struct operation *o, struct layout *a, struct layout *b, struct layout *c, struct layout *d,
	struct preference *p, int requested, struct heuristic_result *results, int *returned) {
	FAULT();
	calls++;
	if (!is(h, HANDLE)) return NOT_INITIALIZED;
	if (!is(p, PREFERENCE) || requested < 1 || !results || !returned) return INVALID_VALUE;
	*returned = 0;
	uint64_t size[3];
	int status = standing(h);
	if (!status) status = problem(o, a, b, c, d, size);
	if (status) return status;
	const struct layout *all[4] = {a, b, c, d};
	struct heuristic_result r = {.algorithm = {.kind = ALGORITHM, .problem = fingerprint(o, a, b, c, d)}};
	for (int i = 0; i < 4; i++) {
		uint32_t told = p->alignment[i];
		if (told & (told - 1) || told < width_of(all[i]->type) || told > 0x8000 || (int)told < least_alignment) return NOT_SUPPORTED;
		r.algorithm.alignment |= (uint64_t)told << 16 * i;
	}
	uint64_t partial = 2 * sizeof(float) * size[0] * size[1];
	if (size[2] >= 512 && partial <= p->workspace && p->reduction & (INPLACE | COMPUTE_TYPE)) {
		r.algorithm.workspace = r.workspace = partial;
		r.algorithm.reduction = p->reduction & INPLACE ? INPLACE : COMPUTE_TYPE;
	}
	// The first of several answers is one that cannot be used, which its state says.
	if (requested > 1) results[(*returned)++] = (struct heuristic_result){.state = NOT_SUPPORTED};
	results[(*returned)++] = r;
	return SUCCESS;
}

// work is a product on its way to a stream.
struct work {
	const void *a, *b, *c;
	void *d;
	float *workspace, alpha, beta;
	int a_type, d_type, ta, tb;
	int64_t m, n, k, lda, ldb, ldc, ldd, split;
};

typedef float lanes __attribute__((vector_size(32)));

static float read_element(const void *from, int type, int64_t i) {
	union { uint32_t u; float f; } bits;
	if (type == R_32F) return ((const float *)from)[i];
	bits.u = (uint32_t)((const uint16_t *)from)[i] << 16;
	return bits.f;
}

static void write_element(void *to, int type, int64_t i, float value) {
	union { uint32_t u; float f; } bits = {.f = value};
	if (type == R_32F) ((float *)to)[i] = value;
	else if ((bits.u & 0x7fffffff) > 0x7f800000) ((uint16_t *)to)[i] = (uint16_t)(bits.u >> 16 | 0x40);
	else ((uint16_t *)to)[i] = (uint16_t)((bits.u + 0x7fff + (bits.u >> 16 & 1)) >> 16);
}

// pack copies op(X) so that what is summed lies side by side, in steps of eight with zeros at the end.
static lanes *pack(const void *x, int type, int64_t outer, int64_t inner, int64_t outer_stride, int64_t inner_stride) {
	int64_t steps = (inner + 7) / 8;
	float *packed = aligned_alloc(32, (size_t)(outer * steps) * sizeof(lanes));
	if (!packed) abort();
	for (int64_t i = 0; i < outer; i++)
		for (int64_t j = 0; j < 8 * steps; j++)
			packed[i * 8 * steps + j] = j < inner ? read_element(x, type, i * outer_stride + j * inner_stride) : 0;
	return (lanes *)packed;
}

static float dot(const lanes *x, const lanes *y, int64_t from, int64_t to) {
	lanes sum = {0};
	for (int64_t s = from; s < to; s++) sum += x[s] * y[s];
	return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

static void multiply(void *argument) {
	struct work *w = argument;
	int64_t steps = (w->k + 7) / 8;
	lanes *a = w->ta ? pack(w->a, w->a_type, w->m, w->k, w->lda, 1) : pack(w->a, w->a_type, w->m, w->k, 1, w->lda);
	lanes *b = w->tb ? pack(w->b, w->a_type, w->n, w->k, 1, w->ldb) : pack(w->b, w->a_type, w->n, w->k, w->ldb, 1);
	for (int part = 0; w->split && part < 2; part++)
		for (int64_t i = 0; i < w->n; i++)
			for (int64_t j = 0; j < w->m; j++)
				w->workspace[(part * w->n + i) * w->m + j] = dot(a + j * steps, b + i * steps, part ? w->split : 0, part ? steps : w->split);
	for (int64_t i = 0; i < w->n; i++)
		for (int64_t j = 0; j < w->m; j++) {
			float sum = w->split ? w->workspace[i * w->m + j] + w->workspace[(w->n + i) * w->m + j] : dot(a + j * steps, b + i * steps, 0, steps);
			float result = w->alpha * sum;
			if (w->beta != 0) result += w->beta * read_element(w->c, w->d_type, i * w->ldc + j);
			write_element(w->d, w->d_type, i * w->ldd + j, result);
		}
	free(a);
	free(b);
}

// aligned checks addresses against what the heuristic was told.
static int aligned(const struct algorithm *algorithm, const void *a, const void *b, const void *c, const void *d) {
	const void *all[4] = {a, b, c, d};
	for (int i = 0; i < 4; i++) {
		uint64_t told = algorithm->alignment >> 16 * i & 0xffff;
		if (!all[i] || (uintptr_t)all[i] % told) return 0;
	}
	return 1;
}

EXPORT int cublasLtMatmul(struct handle *h, struct operation *o, const float *alpha, const void *a, struct layout *al, const void *b, struct layout *bl,
	const float *beta, const void *c, struct layout *cl, void *d, struct layout *dl, const struct algorithm *algorithm, void *workspace, size_t workspace_size,
	void *stream) {
	static unsigned arrivals;
	FAULT();
	if (!is(h, HANDLE)) return NOT_INITIALIZED;
	uint64_t size[3];
	int status = standing(h);
	if (!status) status = problem(o, al, bl, cl, dl, size);
	if (status) return status;
	if (!alpha || !beta || !algorithm || algorithm->kind != ALGORITHM || algorithm->problem != fingerprint(o, al, bl, cl, dl)) return INVALID_VALUE;
	if (algorithm->workspace > workspace_size || (workspace_size && !workspace) || (uintptr_t)workspace % 256) return INVALID_VALUE;
	if (c == d && cl->stride != dl->stride) return INVALID_VALUE;
	if (!aligned(algorithm, a, b, c, d)) return INVALID_VALUE;
	struct work w = {
		.a = a, .b = b, .c = c, .d = d, .workspace = workspace, .alpha = *alpha, .beta = *beta, .a_type = al->type, .d_type = dl->type,
		.ta = o->transpose[0], .tb = o->transpose[1], .m = (int64_t)size[0], .n = (int64_t)size[1], .k = (int64_t)size[2],
		.lda = al->stride, .ldb = bl->stride, .ldc = cl->stride, .ldd = dl->stride,
	};
	int64_t steps = (w.k + 7) / 8;
	if (algorithm->reduction == COMPUTE_TYPE) w.split = steps / 2;
	if (algorithm->reduction == INPLACE) w.split = 1 + arrivals++ % (steps - 1);
	if (h->enqueue) h->enqueue(stream, multiply, &w, sizeof w);
	else multiply(&w);
	return SUCCESS;
}
