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

#endif
