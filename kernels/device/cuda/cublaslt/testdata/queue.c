// The part of an emulated driver that the emulated cuBLASLt uses: a queue, and a context for the thread.
#include <stdlib.h>
#include <string.h>

static struct { void (*run)(void *); void *argument; } waiting[64];
static int count, result;
static void *context, *last_stream;

void emulator_enqueue(void *stream, void (*run)(void *), void *argument, size_t size) {
	waiting[count].run = run;
	waiting[count].argument = malloc(size);
	memcpy(waiting[count++].argument, argument, size);
	last_stream = stream;
}

int cuCtxGetCurrent(void **current) {
	*current = context;
	return result;
}

void queue_context(void *current, int answer) {
	context = current;
	result = answer;
}

void *queue_stream(void) { return last_stream; }

int queue_drain(void) {
	int done = count;
	for (int i = 0; i < count; i++) {
		waiting[i].run(waiting[i].argument);
		free(waiting[i].argument);
	}
	count = 0;
	return done;
}
