// The threads of a block as fibres: each runs until it waits for others. A thread that should have waited and has
// not is found by running them in another order. Threads share a stack, one after the other, until one waits, which
// keeps it: kernels that never wait cost one stack and no switches.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "emulator.h"

enum { MAX_THREADS = 1024, MAX_KERNELS = 512, STACK = 64 << 10 };

int emulator_thread, emulator_threads, emulator_block[3], emulator_blocks;
uint64_t emulator_order;

static struct kernel kernels[MAX_KERNELS];
static int kernel_count;

void emulator_register(const char *name, void (*start)(const void *), size_t size, int threads) {
	if (kernel_count == MAX_KERNELS) abort();
	kernels[kernel_count++] = (struct kernel){name, start, size, threads};
}

struct kernel *emulator_kernel(const char *name) {
	for (int i = 0; i < kernel_count; i++)
		if (strcmp(kernels[i].name, name) == 0) return &kernels[i];
	return NULL;
}

// switch_stack saves the callee's registers on the stack, keeps where they are in *from, and goes on at to.
void emulator_switch_stack(void **from, void *to);
#if defined(__x86_64__)
__asm__(".text\n"
	".globl emulator_switch_stack\n"
	".hidden emulator_switch_stack\n"
	".type emulator_switch_stack,@function\n"
	"emulator_switch_stack:\n"
	"	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n"
	"	ret\n");
enum { SAVED = 6 }; // words below the return address
#elif defined(__aarch64__)
__asm__(".text\n"
	".globl emulator_switch_stack\n"
	".hidden emulator_switch_stack\n"
	".type emulator_switch_stack,@function\n"
	"emulator_switch_stack:\n"
	"	sub sp, sp, #160\n"
	"	stp x19, x20, [sp]\n	stp x21, x22, [sp, #16]\n	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n	stp x27, x28, [sp, #64]\n	stp x29, x30, [sp, #80]\n"
	"	stp d8, d9, [sp, #96]\n	stp d10, d11, [sp, #112]\n	stp d12, d13, [sp, #128]\n	stp d14, d15, [sp, #144]\n"
	"	mov x2, sp\n	str x2, [x0]\n	mov sp, x1\n"
	"	ldp x19, x20, [sp]\n	ldp x21, x22, [sp, #16]\n	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n	ldp x27, x28, [sp, #64]\n	ldp x29, x30, [sp, #80]\n"
	"	ldp d8, d9, [sp, #96]\n	ldp d10, d11, [sp, #112]\n	ldp d12, d13, [sp, #128]\n	ldp d14, d15, [sp, #144]\n"
	"	add sp, sp, #160\n"
	"	ret\n");
#else
#error "the emulator knows how to switch stacks on x86-64 and on 64-bit ARM"
#endif

enum state { READY, AT_BARRIER, AT_SHUFFLE, DONE };

struct fibre {
	void *stack; // where its registers are while it waits
	enum state state;
	int turn; // which of the two slots its next shuffle takes
	int what; // lanes do together
};

static struct fibre fibres[MAX_THREADS];
static unsigned slots[2][MAX_THREADS];
static struct { _Alignas(32) char bytes[32]; } wide_slots[2][MAX_THREADS];
static char *stacks;
static void *scheduler;
static const struct kernel *running;
static const void *arguments;
static uint64_t random_state;

// The order of a block's threads, how many of them have begun, how many may, and on how many stacks they did.
static int order[MAX_THREADS], begun, may_begin, used_stacks;

static int release_warp(int first, int threads);

// next_ready is the next lane of a thread's warp that can go on, −1 when none can.
static int next_ready(int own) {
	for (int k = 1; k < 32; k++) {
		int i = (own & ~31) | ((own + k) & 31);
		if (i < emulator_threads && fibres[i].state == READY) return i;
	}
	return -1;
}

// wait_in has the thread wait. In order, its warp goes on at once, with no way through the scheduler: a warp that
// shuffles is most of what there is to do.
static void wait_in(enum state s) {
	int own = emulator_thread;
	struct fibre *f = &fibres[own];
	void *to = scheduler;
	f->state = s;
	if (emulator_order <= 1 && begun == may_begin) {
		int next = next_ready(own);
		if (next >= 0) emulator_thread = next, to = fibres[next].stack;
		else if (s == AT_SHUFFLE && release_warp(own & ~31, emulator_threads)) return;
	}
	emulator_switch_stack(&f->stack, to);
}

void emulator_barrier(void) { wait_in(AT_BARRIER); }

unsigned emulator_shuffle(unsigned value, int lane) {
	int own = emulator_thread, turn = fibres[own].turn;
	fibres[own].turn = !turn;
	fibres[own].what = 0;
	slots[turn][own] = value;
	wait_in(AT_SHUFFLE);
	return slots[turn][(own & ~31) | lane];
}

// emulator_exchange gives each lane of a warp what all of them bring, at most 32 bytes each, 32 bytes apart. It holds until the
// lane's next exchange but one.
const void *emulator_exchange(int what, const void *value, size_t bytes) {
	int own = emulator_thread, turn = fibres[own].turn;
	fibres[own].turn = !turn;
	fibres[own].what = what;
	memcpy(wide_slots[turn][own].bytes, value, bytes);
	wait_in(AT_SHUFFLE);
	return wide_slots[turn][own & ~31].bytes;
}

// run_threads is what a stack does: one thread after the other that has not begun, as long as none waits.
static void run_threads(void) {
	while (begun < may_begin) {
		emulator_thread = order[begun++];
		running->start(arguments);
		fibres[emulator_thread].state = DONE;
	}
	static void *nowhere;
	emulator_switch_stack(&nowhere, scheduler);
	abort(); // nobody goes on with a stack that is done
}

// prepare makes the n-th stack ready for run_threads.
static void *prepare(int n) {
	uintptr_t top = (uintptr_t)(stacks + (size_t)(n + 1) * STACK) & ~(uintptr_t)63;
#if defined(__x86_64__)
	void **s = (void **)(top - 64);
	*--s = NULL; // what run_threads would return to
	*--s = (void *)run_threads;
	s -= SAVED;
	memset(s, 0, SAVED * sizeof *s);
#else
	void **s = (void **)(top - 160);
	memset(s, 0, 160);
	s[11] = (void *)run_threads; // x30
#endif
	return s;
}

static uint64_t next_random(void) {
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

// release_warp lets the lanes of a warp go on when all of them have come to the same shuffle.
static int release_warp(int first, int threads) {
	int lanes = 0;
	for (int i = first; i < first + 32 && i < threads; i++)
		lanes += fibres[i].state == AT_SHUFFLE && fibres[i].turn == fibres[first].turn && fibres[i].what == fibres[first].what;
	if (lanes < 32) return 0;
	for (int i = first; i < first + 32; i++) fibres[i].state = READY;
	return 1;
}

// release lets threads go on that wait for each other and have all come. It reports whether any can.
static int release(int threads, const char **wrong) {
	int waiting = 0, done = 0, released = 0;
	for (int i = 0; i < threads; i++) {
		waiting += fibres[i].state == AT_BARRIER;
		done += fibres[i].state == DONE;
	}
	if (done == threads) return 0;
	if (waiting == threads) {
		for (int i = 0; i < threads; i++) fibres[i].state = READY;
		return 1;
	}
	for (int first = 0; first < threads; first += 32) released |= release_warp(first, threads);
	if (!released)
		*wrong = waiting > 0 ? "some threads of a block wait at a barrier and others never come"
		                     : "some lanes of a warp wait at a shuffle and others never come";
	return released;
}

// Dynamic shared memory, and some behind it that is nobody's.
_Alignas(128) unsigned char emulator_dynamic[MOST_DYNAMIC + 4096];

// What a kernel did wrong that does not end it.
static const char *mistake;

void emulator_wrong(const char *what) {
	if (mistake == NULL) mistake = what;
}

// The copies of each thread that are not done: they are as late as they may be, and until then nothing is there.
enum { MOST_COPIES = 256 };
static struct {
	int count, groups; // groups that were committed since count was 0
	struct {
		void *to;
		const void *from;
		int bytes, group;
	} copies[MOST_COPIES];
} copying[MAX_THREADS];

void emulator_copy_later(void *to, const void *from, int bytes) {
	int own = emulator_thread;
	if ((uintptr_t)to % 16 != 0 || (bytes > 0 && (uintptr_t)from % 16 != 0) || bytes < 0 || bytes > 16) {
		emulator_wrong("a copy to shared memory is not of 16 bytes at multiples of 16");
		return;
	}
	if (copying[own].count == MOST_COPIES) {
		emulator_wrong("a thread has more copies under way than the emulator keeps");
		return;
	}
	memset(to, 0xff, 16);
	int i = copying[own].count++;
	copying[own].copies[i].to = to;
	copying[own].copies[i].from = from;
	copying[own].copies[i].bytes = bytes;
	copying[own].copies[i].group = copying[own].groups;
}

void emulator_copies_commit(void) { copying[emulator_thread].groups++; }

void emulator_copies_wait(int n) {
	int own = emulator_thread, left = 0, done = copying[own].groups - n;
	for (int i = 0; i < copying[own].count; i++) {
		if (copying[own].copies[i].group >= done) {
			copying[own].copies[left++] = copying[own].copies[i];
			continue;
		}
		char line[16] = {0};
		memcpy(line, copying[own].copies[i].from, (size_t)copying[own].copies[i].bytes);
		memcpy(copying[own].copies[i].to, line, sizeof line);
	}
	copying[own].count = left;
}

static void shuffle_order(int threads) {
	for (int i = threads - 1; i > 0; i--) {
		int j = (int)(next_random() % (uint64_t)(i + 1)), was = order[i];
		order[i] = order[j];
		order[j] = was;
	}
}

static int some_ready(int from, int to) {
	for (int i = from; i < to; i++)
		if (fibres[order[i]].state == READY) return 1;
	return 0;
}

// run_some runs threads from one place in the order up to another, those that have not begun too, until they wait.
static void run_some(int from, int to) {
	may_begin = to;
	while (begun < to) emulator_switch_stack(&scheduler, prepare(used_stacks++));
	do {
		for (int i = from; i < to; i++) {
			struct fibre *f = &fibres[order[i]];
			if (f->state != READY) continue;
			emulator_thread = order[i];
			emulator_switch_stack(&scheduler, f->stack);
		}
	} while (emulator_order <= 1 && some_ready(from, to)); // lanes release each other
}

// run_block runs a block's threads. In order, a warp runs as far as it can, up to a barrier or its end, before the next
// one: nothing but barriers keeps warps together. Shuffled, all threads go on in turn.
static const char *run_block(int threads) {
	const char *wrong = NULL;
	for (int i = 0; i < threads; i++) {
		fibres[i].state = READY;
		fibres[i].turn = fibres[i].what = 0;
		order[i] = emulator_order == 1 ? threads - 1 - i : i;
	}
	begun = used_stacks = 0;
	do {
		if (emulator_order > 1) {
			if (begun == 0 || begun == threads) shuffle_order(threads);
			run_some(0, threads);
			continue;
		}
		for (int from = 0, to; from < threads; from = to) {
			int warp = order[from] & ~31;
			for (to = from; to < threads && (order[to] & ~31) == warp;) to++;
			do run_some(from, to);
			while (release_warp(warp, threads));
		}
	} while (release(threads, &wrong));
	return wrong;
}

// Shared memory of all kernels; what a block finds there is not a number.
extern char __start_emulated_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_emulated_shared[] __attribute__((weak, visibility("hidden")));

// What a kernel was seen to write of it, so that not all of it has to be filled for each block.
static struct { size_t from, to; } dirty[MAX_KERNELS];

static void poison(const struct kernel *k) {
	int i = (int)(k - kernels);
	if (dirty[i].to > dirty[i].from) memset(__start_emulated_shared + dirty[i].from, 0xff, dirty[i].to - dirty[i].from);
}

// inspect looks for what the kernel has written, and fills it again.
static void inspect(const struct kernel *k) {
	size_t size = (size_t)(__stop_emulated_shared - __start_emulated_shared), from = 0, to = size;
	int i = (int)(k - kernels);
	poison(k);
	uint64_t word;
	while (to - from >= sizeof word && (memcpy(&word, __start_emulated_shared + from, sizeof word), word == ~0ull)) from += sizeof word;
	while (from < to && __start_emulated_shared[from] == (char)0xff) from++;
	while (to - from >= sizeof word && (memcpy(&word, __start_emulated_shared + to - sizeof word, sizeof word), word == ~0ull)) to -= sizeof word;
	while (to > from && __start_emulated_shared[to - 1] == (char)0xff) to--;
	if (from == to) return;
	if (dirty[i].to == dirty[i].from) dirty[i].from = from, dirty[i].to = to;
	if (from < dirty[i].from) dirty[i].from = from;
	if (to > dirty[i].to) dirty[i].to = to;
	poison(k);
}

// end_block makes the next block find nothing of this one in dynamic shared memory, and says what was wrong with its use.
static const char *end_block(int threads, unsigned shared) {
	const char *what = mistake;
	mistake = NULL;
	for (int i = 0; i < threads; i++) copying[i].count = copying[i].groups = 0;
	for (unsigned i = shared; what == NULL && i < sizeof emulator_dynamic && i < shared + 4096; i++)
		if (emulator_dynamic[i] != 0xff) what = "a block writes beyond its dynamic shared memory";
	memset(emulator_dynamic, 0xff, what == NULL ? shared : sizeof emulator_dynamic);
	return what;
}

const char *emulator_run(const struct kernel *k, const void *args, const unsigned grid[3], int threads, unsigned shared) {
	if (stacks == NULL) {
		memset(emulator_dynamic, 0xff, sizeof emulator_dynamic);
		stacks = mmap(NULL, (size_t)MAX_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (stacks == MAP_FAILED) abort();
		if (__start_emulated_shared != NULL) memset(__start_emulated_shared, 0xff, (size_t)(__stop_emulated_shared - __start_emulated_shared));
	}
	running = k;
	arguments = args;
	random_state = emulator_order | 1;
	emulator_threads = threads;
	emulator_blocks = (int)grid[0];
	unsigned long blocks = 0;
	const char *wrong = NULL;
	for (unsigned z = 0; z < grid[2]; z++)
		for (unsigned y = 0; y < grid[1]; y++)
			for (unsigned x = 0; x < grid[0] && wrong == NULL; x++) {
				unsigned from = emulator_order == 1 ? grid[0] - 1 - x : x; // blocks have no order either
				emulator_block[0] = (int)from, emulator_block[1] = (int)y, emulator_block[2] = (int)z;
				wrong = run_block(threads);
				const char *also = end_block(threads, shared);
				if (wrong == NULL) wrong = also;
				if (__start_emulated_shared == NULL) continue;
				blocks++;
				if ((blocks & (blocks - 1)) == 0 && (blocks == 1 || blocks >= 16)) inspect(k); // a launch that writes more shows it soon
				else poison(k);
			}
	return wrong;
}
