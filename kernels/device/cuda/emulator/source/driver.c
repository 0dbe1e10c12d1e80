// An emulated libcuda: the calls that package driver makes, over host memory and package kernels' sources built
// for the host, or their PTX. What a GPU does later, at a time of its own, happens here as late as it may: a stream's work is
// done when somebody waits for it. So a wait that is missing shows.
#define _GNU_SOURCE // for mutexes that a thread may lock again
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "driver.h"

enum { MAX_DEVICES = 16, MAX_BLOCKS = 1 << 16, ENOUGH = 4096 };

// The settings of a rehearsal; see emulator_set.
static struct {
	int devices, version, capability;
	char uuid[MAX_DEVICES][16];
	uint64_t memory;
	long fail_after; // launches until one fails; less than 0 is never
	int fail_with;
	long kill_after; // launches until the process is killed; less than 0 is never
	const char *kernel; // whose launches the two are of; NULL is every kernel
	long struck; // its launches so far
	int init; // what cuInit answers
	long launches;
	int idle; // whether nothing is computed, only copied and filled
	int ptx;  // whether modules are loaded as PTX
} settings = {.devices = 1, .version = 12080, .capability = 90, .memory = 1ull << 30, .fail_after = -1, .kill_after = -1};

static int broken; // the sticky error of the process
static int ready;
static __thread void *current;

struct operation {
	struct operation *next;
	void (*run)(void *);
	void *argument;
	size_t size;
};
struct stream {
	struct operation *first, **last;
	long queued, done; // how many operations so far
	int capturing, running;
	struct graph *graph;
};
struct graph {
	struct operation *first, **last;
};
struct event {
	struct stream *stream;
	long at; // the stream's work up to here
	int recorded;
	double when;
};
struct block {
	char *base;
	uint64_t bytes;
	int host, device;
};

static struct block blocks[MAX_BLOCKS];
static int block_count;
static uint64_t held[MAX_DEVICES];
static struct stream *streams[1024];
static int stream_count;

static int device_of_current(void) { return current == NULL ? -1 : (int)((uintptr_t)current - 1); }

// Threads may call at the same time, as they may call the real driver: one after the other is served, and waits for what others
// have the emulated GPU compute.
static pthread_mutex_t calls = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static int serve(void) { return pthread_mutex_lock(&calls); }
static void served(int *call) {
	(void)call;
	pthread_mutex_unlock(&calls);
}
#define SERVE() __attribute__((cleanup(served), unused)) int call = serve()

// check is what every call of a healthy process begins with.
#define CHECK()                             \
	SERVE();                            \
	if (!ready) return NOT_INITIALIZED; \
	if (broken) return broken
#define CHECK_CONTEXT() \
	CHECK();        \
	if (current == NULL) return INVALID_CONTEXT

static void add(struct operation ***last, void (*run)(void *), const void *argument, size_t size) {
	struct operation *o = calloc(1, sizeof *o);
	o->run = run;
	o->size = size;
	o->argument = malloc(size ? size : 1);
	memcpy(o->argument, argument, size);
	**last = o;
	*last = &o->next;
}

static int moves(void (*run)(void *));

static void drain(struct stream *s, long until) {
	if (s->running) return;
	s->running = 1;
	while (s->first != NULL && s->done < until) {
		struct operation *o = s->first;
		s->first = o->next;
		if (s->first == NULL) s->last = &s->first;
		s->done++;
		if (!broken && (!settings.idle || moves(o->run))) o->run(o->argument);
		free(o->argument);
		free(o);
	}
	s->running = 0;
}

void emulator_enqueue(void *stream, void (*run)(void *), void *argument, size_t size) {
	SERVE();
	struct stream *s = stream;
	if (s->capturing) {
		add(&s->graph->last, run, argument, size);
		return;
	}
	add(&s->last, run, argument, size);
	s->queued++;
	if (s->queued - s->done > ENOUGH) drain(s, s->done + ENOUGH / 2);
}

static void drain_all(void) {
	for (int i = 0; i < stream_count; i++)
		if (streams[i] != NULL) drain(streams[i], streams[i]->queued);
}

// emulator_set changes a setting: memory (bytes of each device), order (of threads), version (of the driver),
// capability (90 is 9.0), fail_after (launches until one fails, less than 0 for never), fail_with (its error), kill_after
// (launches until the process is killed, less than 0 for never), broken (the process's sticky error), init (what cuInit
// answers), idle (1 to compute nothing, so that what is left is the host's work), watch (what is watched for while PTX runs: see
// watch.h), ptx (1 to have modules that are loaded from then on run as PTX, 0 as their sources). 0 when there is none of the name.
EXPORT int emulator_set(const char *name, int64_t value) {
	SERVE();
	if (strcmp(name, "memory") == 0) settings.memory = (uint64_t)value;
	else if (strcmp(name, "order") == 0) emulator_order = (uint64_t)value;
	else if (strcmp(name, "version") == 0) settings.version = (int)value;
	else if (strcmp(name, "capability") == 0) settings.capability = (int)value;
	else if (strcmp(name, "devices") == 0) settings.devices = (int)value;
	else if (strcmp(name, "fail_after") == 0) settings.fail_after = value < 0 ? -1 : settings.struck + value;
	else if (strcmp(name, "fail_with") == 0) settings.fail_with = (int)value;
	else if (strcmp(name, "kill_after") == 0) settings.kill_after = value < 0 ? -1 : settings.struck + value;
	else if (strcmp(name, "broken") == 0) broken = (int)value;
	else if (strcmp(name, "init") == 0) settings.init = (int)value;
	else if (strcmp(name, "idle") == 0) settings.idle = (int)value;
	else if (strcmp(name, "ptx") == 0) settings.ptx = (int)value;
	else if (strcmp(name, "watch") == 0) drain_all(), watch_for((int)value); // what was queued before is not watched
	else return 0;
	return 1;
}

// emulator_count tells a number: launches so far, those of them that ran as PTX (code), blocks of memory, bytes held, the setting ptx.
EXPORT int64_t emulator_count(const char *name) {
	SERVE();
	if (strcmp(name, "launches") == 0) return settings.launches;
	if (strcmp(name, "code") == 0) return functions_as_code;
	if (strcmp(name, "ptx") == 0) return settings.ptx;
	if (strcmp(name, "blocks") == 0) {
		int64_t n = 0;
		for (int i = 0; i < block_count; i++) n += blocks[i].base != NULL;
		return n;
	}
	if (strcmp(name, "bytes") == 0) return (int64_t)held[0];
	return -1;
}

// emulator_size is that of a kernel's struct; 0 when there is no such kernel.
EXPORT int64_t emulator_size(const char *kernel) {
	const struct kernel *k = emulator_kernel(kernel);
	return k == NULL ? 0 : (int64_t)k->size;
}

// parse_uuid reads "GPU-5104bfe8-da02-c5b7-5901-677f91d279a2" up to the next comma.
static const char *parse_uuid(const char *s, char *uuid) {
	int digits = 0;
	memset(uuid, 0, 16);
	if (strncmp(s, "GPU-", 4) == 0 || strncmp(s, "MIG-", 4) == 0) s += 4;
	for (; *s != 0 && *s != ','; s++) {
		int v = *s >= '0' && *s <= '9' ? *s - '0' : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10 : -1;
		if (v < 0 || digits == 32) continue;
		uuid[digits / 2] |= (char)(digits % 2 == 0 ? v << 4 : v);
		digits++;
	}
	return *s == ',' ? s + 1 : s;
}

// Processes are rehearsed through their environment.
static void read_environment(void) {
	static const char *const numbers[] = {"memory", "order", "version", "capability", "devices", "fail_with", "fail_after", "kill_after", "init", "idle", "watch", "ptx"};
	char name[64];
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		snprintf(name, sizeof name, "EMULATED_%s", numbers[i]);
		for (char *c = name; *c; c++)
			if (*c >= 'a' && *c <= 'z') *c -= 32;
		const char *value = getenv(name);
		if (value != NULL) emulator_set(numbers[i], strtoll(value, NULL, 0));
	}
	for (int i = 0; i < MAX_DEVICES; i++) memset(settings.uuid[i], i + 1, 16);
	settings.kernel = getenv("EMULATED_KERNEL");
	const char *list = getenv("EMULATED_GPUS");
	if (list == NULL) return;
	for (settings.devices = 0; *list != 0 && settings.devices < MAX_DEVICES; settings.devices++)
		list = parse_uuid(list, settings.uuid[settings.devices]);
}

EXPORT result cuInit(unsigned flags) {
	static int read;
	if (flags != 0) return INVALID_VALUE;
	if (!read) read_environment();
	read = 1;
	if (settings.init != 0) return settings.init;
	if (settings.devices == 0) return NO_DEVICE;
	ready = 1;
	return SUCCESS;
}
EXPORT result cuDriverGetVersion(int *version) {
	*version = settings.version;
	return SUCCESS;
}
EXPORT result cuDeviceGetCount(int *count) {
	CHECK();
	*count = settings.devices;
	return SUCCESS;
}
EXPORT result cuDeviceGet(int *device, int ordinal) {
	CHECK();
	if (ordinal < 0 || ordinal >= settings.devices) return INVALID_DEVICE;
	*device = ordinal;
	return SUCCESS;
}
EXPORT result cuDeviceGetUuid_v2(char *uuid, int device) {
	CHECK();
	memcpy(uuid, settings.uuid[device], 16);
	return SUCCESS;
}
EXPORT result cuDeviceGetName(char *name, int length, int device) {
	CHECK();
	(void)device;
	snprintf(name, (size_t)length, "emulated GPU");
	return SUCCESS;
}
EXPORT result cuDeviceTotalMem_v2(size_t *bytes, int device) {
	CHECK();
	(void)device;
	*bytes = settings.memory;
	return SUCCESS;
}
EXPORT result cuDeviceGetAttribute(int *value, int attribute, int device) {
	CHECK();
	(void)device;
	switch (attribute) {
	case 16: *value = 4; return SUCCESS; // multiprocessors
	case 75: *value = settings.capability / 10; return SUCCESS;
	case 76: *value = settings.capability % 10; return SUCCESS;
	}
	return INVALID_VALUE;
}
EXPORT result cuDevicePrimaryCtxRetain(void **context, int device) {
	CHECK();
	if (device < 0 || device >= settings.devices) return INVALID_DEVICE;
	*context = (void *)(uintptr_t)(device + 1);
	return SUCCESS;
}
EXPORT result cuDevicePrimaryCtxRelease_v2(int device) {
	(void)device;
	CHECK();
	return SUCCESS;
}
EXPORT result cuCtxSetCurrent(void *context) {
	CHECK();
	current = context;
	return SUCCESS;
}
// The emulated cuBLASLt asks for it, as the real one does.
EXPORT result cuCtxGetCurrent(void **context) {
	CHECK();
	*context = current;
	return SUCCESS;
}
EXPORT result cuCtxSynchronize(void) {
	CHECK_CONTEXT();
	for (int i = 0; i < stream_count; i++)
		if (streams[i]->capturing) return CAPTURE_UNSUPPORTED;
	drain_all();
	return broken;
}
EXPORT result cuMemGetInfo_v2(size_t *available, size_t *total) {
	CHECK_CONTEXT();
	*total = settings.memory;
	*available = settings.memory - held[device_of_current()];
	return SUCCESS;
}

static struct block *find(const void *p) {
	for (int i = 0; i < block_count; i++)
		if (blocks[i].base != NULL && (const char *)p >= blocks[i].base && (const char *)p < blocks[i].base + blocks[i].bytes) return &blocks[i];
	return NULL;
}

static result allocate(void **p, size_t bytes, int host) {
	CHECK_CONTEXT();
	if (bytes == 0) return INVALID_VALUE;
	int device = device_of_current();
	if (!host && held[device] + bytes > settings.memory) return OUT_OF_MEMORY;
	struct block *b = NULL;
	for (int i = 0; i < block_count && b == NULL; i++)
		if (blocks[i].base == NULL) b = &blocks[i];
	if (b == NULL && block_count < MAX_BLOCKS) b = &blocks[block_count++];
	if (b == NULL) return OUT_OF_MEMORY;
	void *base = NULL;
	if (posix_memalign(&base, 512, bytes) != 0) return OUT_OF_MEMORY;
	memset(base, 0xff, bytes); // whatever was there before
	*b = (struct block){base, bytes, host, device};
	if (!host) held[device] += bytes;
	*p = base;
	return SUCCESS;
}
static result release_block(void *p, int host) {
	CHECK_CONTEXT();
	drain_all();
	struct block *b = find(p);
	if (b == NULL || b->base != p || b->host != host) return INVALID_VALUE;
	memset(b->base, 0xff, b->bytes);
	if (!host) held[b->device] -= b->bytes;
	free(b->base);
	b->base = NULL;
	return broken;
}
EXPORT result cuMemAlloc_v2(void **p, size_t bytes) { return allocate(p, bytes, 0); }
EXPORT result cuMemFree_v2(void *p) { return release_block(p, 0); }
EXPORT result cuMemAllocHost_v2(void **p, size_t bytes) { return allocate(p, bytes, 1); }
EXPORT result cuMemFreeHost(void *p) { return release_block(p, 1); }

// inside tells whether bytes from p on lie in one allocation of the device.
static int inside(const void *p, size_t bytes) {
	struct block *b = find(p);
	return b != NULL && !b->host && (const char *)p + bytes <= b->base + b->bytes;
}

int emulator_extent(uint64_t address, uint64_t *from, uint64_t *to) {
	uint64_t least = UINT64_MAX;
	for (int i = 0; i < block_count; i++) {
		const struct block *b = &blocks[i];
		if (b->base == NULL || b->host) continue;
		uint64_t begin = (uintptr_t)b->base, end = begin + b->bytes;
		uint64_t away = address < begin ? begin - address : address >= end ? address - end + 1 : 0;
		if (away >= least) continue;
		least = away, *from = begin, *to = end;
		if (away == 0) break;
	}
	return least != UINT64_MAX;
}

int code_inside(uint64_t address, size_t bytes) { return inside((const void *)(uintptr_t)address, bytes); }

struct copying {
	void *dst;
	const void *src;
	size_t bytes;
};
static void copy_now(void *argument) {
	struct copying *c = argument;
	memmove(c->dst, c->src, c->bytes);
}
struct carrying {
	void *dst;
	size_t bytes;
	char data[];
};
static void carry_now(void *argument) {
	struct carrying *c = argument;
	memcpy(c->dst, c->data, c->bytes);
}
EXPORT result cuMemcpyHtoDAsync_v2(void *dst, const void *src, size_t bytes, void *stream) {
	CHECK_CONTEXT();
	if (stream == NULL || !inside(dst, bytes)) return INVALID_VALUE;
	struct block *pinned = find(src);
	if (pinned != NULL && pinned->host) {
		emulator_enqueue(stream, copy_now, &(struct copying){dst, src, bytes}, sizeof(struct copying));
		return SUCCESS;
	}
	struct carrying *c = malloc(sizeof *c + bytes); // from ordinary memory the driver has staged it when it returns
	c->dst = dst;
	c->bytes = bytes;
	memcpy(c->data, src, bytes);
	emulator_enqueue(stream, carry_now, c, sizeof *c + bytes);
	free(c);
	return SUCCESS;
}
EXPORT result cuMemcpyDtoHAsync_v2(void *dst, const void *src, size_t bytes, void *stream) {
	CHECK_CONTEXT();
	if (stream == NULL || !inside(src, bytes)) return INVALID_VALUE;
	emulator_enqueue(stream, copy_now, &(struct copying){dst, src, bytes}, sizeof(struct copying));
	return SUCCESS;
}
EXPORT result cuMemcpyDtoDAsync_v2(void *dst, const void *src, size_t bytes, void *stream) {
	CHECK_CONTEXT();
	if (stream == NULL || !inside(dst, bytes) || !inside(src, bytes)) return INVALID_VALUE;
	emulator_enqueue(stream, copy_now, &(struct copying){dst, src, bytes}, sizeof(struct copying));
	return SUCCESS;
}
struct filling {
	void *dst;
	size_t bytes;
	int value;
};
static void fill_now(void *argument) {
	struct filling *f = argument;
	memset(f->dst, f->value, f->bytes);
}
EXPORT result cuMemsetD8Async(void *dst, unsigned char value, size_t bytes, void *stream) {
	CHECK_CONTEXT();
	if (stream == NULL || !inside(dst, bytes)) return INVALID_VALUE;
	emulator_enqueue(stream, fill_now, &(struct filling){dst, bytes, value}, sizeof(struct filling));
	return SUCCESS;
}

static int moves(void (*run)(void *)) { return run == copy_now || run == carry_now || run == fill_now; }

EXPORT result cuStreamCreate(void **stream, unsigned flags) {
	CHECK_CONTEXT();
	if (flags > 1 || stream_count == (int)(sizeof streams / sizeof *streams)) return INVALID_VALUE;
	struct stream *s = calloc(1, sizeof *s);
	s->last = &s->first;
	streams[stream_count++] = s;
	*stream = s;
	return SUCCESS;
}
EXPORT result cuStreamDestroy_v2(void *stream) {
	CHECK_CONTEXT();
	drain(stream, ((struct stream *)stream)->queued);
	for (int i = 0; i < stream_count; i++)
		if (streams[i] == stream) streams[i] = streams[--stream_count];
	free(stream);
	return SUCCESS;
}
EXPORT result cuStreamSynchronize(void *stream) {
	CHECK_CONTEXT();
	struct stream *s = stream;
	if (s->capturing) return CAPTURE_UNSUPPORTED;
	drain(s, s->queued);
	return broken;
}
EXPORT result cuEventCreate(void **event, unsigned flags) {
	CHECK_CONTEXT();
	(void)flags;
	*event = calloc(1, sizeof(struct event));
	return SUCCESS;
}
EXPORT result cuEventDestroy_v2(void *event) {
	CHECK_CONTEXT();
	free(event);
	return SUCCESS;
}
EXPORT result cuEventRecord(void *event, void *stream) {
	CHECK_CONTEXT();
	struct event *e = event;
	e->stream = stream;
	e->at = e->stream->queued;
	e->recorded = 1;
	return SUCCESS;
}
EXPORT result cuEventSynchronize(void *event) {
	CHECK_CONTEXT();
	struct event *e = event;
	if (e->recorded) drain(e->stream, e->at);
	return broken;
}
EXPORT result cuEventElapsedTime(float *milliseconds, void *from, void *to) {
	CHECK_CONTEXT();
	if (!((struct event *)from)->recorded || !((struct event *)to)->recorded) return INVALID_HANDLE;
	*milliseconds = (float)(((struct event *)to)->at - ((struct event *)from)->at); // an operation takes a millisecond
	return SUCCESS;
}

EXPORT result cuModuleLoadDataEx(void **module, const void *image, unsigned n, int *options, void **values) {
	CHECK_CONTEXT();
	char words[512] = "", *log = NULL;
	size_t bytes = sizeof words;
	for (unsigned i = 0; i < n; i++) {
		if (options[i] == 5 && values[i] != NULL) log = values[i]; // the error log
		if (options[i] == 6) bytes = (size_t)values[i];
	}
	*module = NULL;
	if (strstr(image, ".version ") != NULL && strstr(image, ".target sm_") != NULL) *module = module_load(image, settings.ptx, words, sizeof words);
	if (log != NULL && bytes > 0) snprintf(log, bytes, "%s", words);
	return *module != NULL ? SUCCESS : words[0] != 0 ? INVALID_PTX : INVALID_IMAGE;
}
EXPORT result cuModuleUnload(void *module) {
	CHECK_CONTEXT();
	module_unload(module);
	return SUCCESS;
}
EXPORT result cuModuleGetFunction(void **function, void *module, const char *name) {
	CHECK_CONTEXT();
	*function = module_function(module, name);
	return *function == NULL ? NOT_FOUND : SUCCESS;
}

EXPORT result cuFuncSetAttribute(void *function, int attribute, int value) {
	CHECK_CONTEXT();
	struct function *f = function;
	if (attribute != 8 || value < 0 || value + f->fixed > MOST_DYNAMIC) return INVALID_VALUE; // bytes of dynamic shared memory
	f->dynamic = value;
	return SUCCESS;
}

// What the last kernel did wrong that did anything wrong.
static char mistake[512];
EXPORT const char *emulator_mistake(void) { return mistake; }

struct launching {
	const struct function *function;
	unsigned grid[3];
	int threads;
	unsigned shared;
	char arguments[];
};
static void launch_now(void *argument) {
	struct launching *l = argument;
	settings.launches++;
	int counts = settings.kernel == NULL || strcmp(settings.kernel, l->function->name) == 0;
	if (counts && settings.kill_after >= 0 && settings.struck >= settings.kill_after) raise(SIGKILL);
	if (counts && settings.struck++ >= settings.fail_after && settings.fail_after >= 0) {
		broken = settings.fail_with ? settings.fail_with : ILLEGAL_ADDRESS;
		return;
	}
	const char *wrong = function_run(l->function, l->arguments, l->grid, l->threads, l->shared);
	if (wrong != NULL) {
		snprintf(mistake, sizeof mistake, "%s: %s", l->function->name, wrong);
		fprintf(stderr, "emulated GPU: %s\n", mistake);
		broken = LAUNCH_FAILED;
	}
}
EXPORT result cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned shared,
		void *stream, void **parameters, void **extra) {
	CHECK_CONTEXT();
	const struct function *f = function;
	if (x == 0 || y == 0 || z == 0 || y > 65535 || z > 65535 || x > 0x7fffffffu || ty != 1 || tz != 1 || shared > (unsigned)f->dynamic || stream == NULL || extra != NULL || parameters == NULL)
		return INVALID_VALUE;
	if (shared + (unsigned)f->fixed > (unsigned)(f->dynamic > DYNAMIC ? MOST_DYNAMIC : DYNAMIC)) return INVALID_VALUE;
	if (tx == 0 || tx > (unsigned)f->threads) return LAUNCH_OUT_OF_RESOURCES;
	struct launching *l = malloc(sizeof *l + f->size);
	*l = (struct launching){f, {x, y, z}, (int)tx, shared};
	if (f->size > 0) memcpy(l->arguments, parameters[0], f->size);
	emulator_enqueue(stream, launch_now, l, sizeof *l + f->size);
	free(l);
	return SUCCESS;
}

EXPORT result cuStreamBeginCapture_v2(void *stream, int mode) {
	CHECK_CONTEXT();
	(void)mode;
	struct stream *s = stream;
	if (s->capturing) return CAPTURE_INVALIDATED;
	s->capturing = 1;
	s->graph = calloc(1, sizeof *s->graph);
	s->graph->last = &s->graph->first;
	return SUCCESS;
}
EXPORT result cuStreamEndCapture(void *stream, void **graph) {
	CHECK_CONTEXT();
	struct stream *s = stream;
	if (!s->capturing) return CAPTURE_INVALIDATED;
	s->capturing = 0;
	*graph = s->graph;
	s->graph = NULL;
	return SUCCESS;
}
EXPORT result cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
	CHECK_CONTEXT();
	(void)flags;
	struct graph *copy = calloc(1, sizeof *copy);
	copy->last = &copy->first;
	for (struct operation *o = ((struct graph *)graph)->first; o != NULL; o = o->next) add(&copy->last, o->run, o->argument, o->size);
	*executable = copy;
	return SUCCESS;
}
EXPORT result cuGraphLaunch(void *executable, void *stream) {
	CHECK_CONTEXT();
	for (struct operation *o = ((struct graph *)executable)->first; o != NULL; o = o->next) emulator_enqueue(stream, o->run, o->argument, o->size);
	return SUCCESS;
}
static result destroy_graph(struct graph *g) {
	CHECK_CONTEXT();
	while (g->first != NULL) {
		struct operation *o = g->first;
		g->first = o->next;
		free(o->argument);
		free(o);
	}
	free(g);
	return SUCCESS;
}
EXPORT result cuGraphDestroy(void *graph) { return destroy_graph(graph); }
EXPORT result cuGraphExecDestroy(void *executable) { return destroy_graph(executable); }
