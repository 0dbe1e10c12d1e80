// For bodies that are included once for each element type. The includer defines TYPE, f32 or bf16.
#ifndef VARIANT_H
#define VARIANT_H

#include "arithmetic.h"

typedef float f32;

#define JOIN(x, y) x##y
#define JOINED(x, y) JOIN(x, y)
#define ENTRY(name, threads) KERNEL(name, threads)

// NAMED(scale) is scale_f32, ARGS(scale) is scale_f32_args.
#define NAMED(name) JOINED(name##_, TYPE)
#define ARGS(name) JOINED(NAMED(name), _args)
#define LOAD JOINED(load_, TYPE)
#define STORE JOINED(store_, TYPE)

// The columns of a row in a block of 128 threads: a thread has every 128th, four of them at a time. It reads all four
// before it computes, so that reading overlaps, and for one behind the last it reads the last, which it does not use.
#define EACH_FOUR for (int from = THREAD; from < a.width; from += 512)
#define FOUR(i) UNROLL for (int i = 0; i < 4; i++)
#define COLUMN(i) (from + 128 * (i))
#define EXISTS(i) (COLUMN(i) < a.width)
#define READ(i) least(COLUMN(i), a.width - 1)

#endif
